"""The command `sponsorsync`."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from sponsorsync import __version__
from sponsorsync.commands.start import run, run_check, start
from sponsorsync.domain.errors import InvalidInputError, SponsorSyncError
from sponsorsync.logs import configure_logging
from sponsorsync.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Report only; change nothing.")]


cli = typer.Typer(
    name="sponsorsync",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

keys = typer.Typer(
    name="keys", help="Keys that sign tokens for other services.", no_args_is_help=True
)
cli.add_typer(keys)

gears = typer.Typer(name="gears", help="Scripts that run inside RedisGears.", no_args_is_help=True)
cli.add_typer(gears)


def main() -> None:
    """Runs the command line, and ends the process with the command's status.

    An error is printed as one line on standard error. Its status is 2 for a wrong argument, else 1.
    """
    try:
        status = cli(prog_name="sponsorsync", standalone_mode=False)
    except typer.TyperException as error:
        _fail(error.format_message(), error.exit_code)
    except SponsorSyncError as error:
        _fail(str(error), 1)
    sys.exit(status)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(__version__)
        raise typer.Exit


@cli.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Gives the GitHub sponsors of an application lasting preferences and their own features."""


@cli.command()
def serve() -> None:
    """Run the service with the configured Redis and GitHub."""
    from sponsorsync.commands.serve import run_serve

    run(run_serve(start()))


@cli.command()
def dev() -> None:
    """Run everything on this machine; embed or simulate each part that is not configured."""
    from sponsorsync.commands.dev import run_dev

    run(run_dev(start()))


@cli.command()
def demo() -> None:
    """Demonstrate the main features with embedded servers, and check each step.

    The exit status is 0 only if every step succeeds.
    """
    from sponsorsync.commands.demo import run_demo

    configure_logging("auto")
    run_check(run_demo())


@cli.command()
def relay() -> None:
    """Run only the synchronization of the two Redises, without the service."""
    from sponsorsync.commands.relay import run_relay

    run(run_relay(start()))


@cli.command()
def snapshot(
    *,
    collection: Annotated[
        str | None, typer.Option(help="Copy only this collection, and only of sponsors.")
    ] = None,
    dry_run: DryRun = False,
    scan: Annotated[
        bool,
        typer.Option(
            "--scan", help="For a first import: find data without a version by a scan of all keys."
        ),
    ] = False,
    engine: Annotated[
        Literal["plain", "gears"],
        typer.Option(help="Copy with this command, or with the scripts inside the local Redis."),
    ] = "plain",
    json: AsJson = False,
) -> None:
    """Copy all people from the local Redis to the durable one; repeating it is safe.

    The exit status is 0 only if durable has everything afterwards.
    """
    from sponsorsync.commands.snapshot import run_gears_snapshot, run_snapshot

    if engine == "gears":
        if collection is not None or dry_run or scan:
            raise InvalidInputError(
                "The scripts copy everything: combine --engine gears with --json only."
            )
        work = run_gears_snapshot(start(), as_json=json)
    else:
        work = run_snapshot(
            start(), collection=collection, dry_run=dry_run, scan=scan, as_json=json
        )
    run_check(work)


@cli.command(name="deploy-gears")
def deploy_gears(
    *,
    url: Annotated[
        str | None,
        typer.Option(help="Address without a password; the default is SPONSORSYNC_REDIS_URL."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Host, instead of --url.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of --host.")] = 6379,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    dry_run: DryRun = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove all scripts of SponsorSync.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Like --dry-run, and check the server.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Upload the scripts to the RedisGears of the local Redis; repeating it changes nothing.

    The exit status is 0 only if all of them are live (with --remove: if none are).
    """
    from sponsorsync.commands import deploy_gears as command

    if dry_run + remove + status > 1:
        raise InvalidInputError("Only one of --dry-run, --remove and --status is possible.")
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    settings = start()
    address = command.choose_address(settings, url=url, host=host, port=port, password=password)
    settings = load_settings({"redis_url": address})
    if remove:
        work = command.run_remove(settings, as_json=json)
    elif dry_run or status:
        work = command.run_status(settings, with_checks=status, as_json=json)
    else:
        work = command.run_deploy(settings, as_json=json)
    run_check(work)


@cli.command()
def verify(
    *,
    fix: Annotated[
        bool, typer.Option("--fix", help="Repair the differences, and compare again.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Compare all people in the local Redis with those in the durable one.

    The exit status is 0 only if both are known to be equal.
    """
    from sponsorsync.commands.verify import run_verify

    run_check(run_verify(start(), fix=fix, as_json=json))


@cli.command()
def reconcile(
    *,
    sponsorable: Annotated[
        str | None, typer.Option(help="Compare only the sponsors of this login.")
    ] = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Compare the stored sponsorships with GitHub, and repair them; needs the maintainer's token.

    The exit status is 0 only if the comparison is complete.
    """
    from sponsorsync.commands.reconcile import run_reconcile

    run_check(run_reconcile(start(), sponsorable=sponsorable, dry_run=dry_run, as_json=json))


@cli.command()
def doctor(*, json: AsJson = False) -> None:
    """Check every setting and both Redises, and give advice.

    The exit status is 1 if a check finds an error.
    """
    from sponsorsync.commands.doctor import run_doctor

    run_check(run_doctor(start(), as_json=json))


@keys.command(name="list")
def list_keys(*, json: AsJson = False) -> None:
    """List the keys, without their private parts."""
    from sponsorsync.commands import keys as command

    typer.echo(command.list_keys(start(), now=datetime.now(UTC), as_json=json))


@keys.command(name="rotate")
def rotate_keys(
    *,
    retire_old: Annotated[
        bool,
        typer.Option(
            "--retire-old", help="Retire all other keys and their tokens now, as after a leak."
        ),
    ] = False,
    json: AsJson = False,
) -> None:
    """Make a new key, and the key file if there is none.

    Other services see the new key for ten minutes before it signs. Old keys remain until their
    tokens expire.
    """
    from sponsorsync.commands import keys as command

    settings, now = start(), datetime.now(UTC)
    typer.echo(command.rotate(settings, now=now, retire_old=retire_old, as_json=json))


@gears.command(name="bundle")
def bundle_gears(
    *, output: Annotated[Path, typer.Option(help="The folder; it is created if necessary.")]
) -> None:
    """Write each script as one file for `gears-cli run`, with a file of their requirements."""
    from sponsorsync.gears.scripts import write_bundles

    for path in write_bundles(output):
        typer.echo(path)


def _fail(message: str, status: int) -> NoReturn:
    if message:  # typer's error is empty if the help was printed
        typer.echo(f"sponsorsync: {message}", err=True)
    sys.exit(status)
