"""The command `sponsorsync`."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads annotations when the program runs
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from sponsorsync import __version__
from sponsorsync.domain.errors import InvalidInputError, SponsorSyncError
from sponsorsync.logs import configure_logging
from sponsorsync.settings import Settings, find_unknown_names, load_settings

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class Engine(StrEnum):
    """Who copies a snapshot."""

    PLAIN = "plain"
    GEARS = "gears"


cli = typer.Typer(
    name="sponsorsync",
    help="Gives the GitHub sponsors of a Redis-based application something back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

keys = typer.Typer(
    name="keys", help="The keys that sign tokens for other services.", no_args_is_help=True
)
cli.add_typer(keys)

gears = typer.Typer(
    name="gears", help="The scripts that run inside RedisGears.", no_args_is_help=True
)
cli.add_typer(gears)


def main() -> None:
    """Runs the command line; a mistake of the user's is one line on standard error, status 1."""
    try:
        cli()
    except SponsorSyncError as error:
        typer.echo(f"sponsorsync: {error}", err=True)
        sys.exit(1)


@cli.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@cli.command()
def serve() -> None:
    """Run the service with the Redis and the GitHub that the settings name."""
    from sponsorsync.app import create_app  # noqa: PLC0415 - --help need not load the service
    from sponsorsync.server import serve as serve_app  # noqa: PLC0415

    settings = _start()
    _run(serve_app(create_app(settings), host=settings.host, port=settings.port))


@cli.command()
def dev() -> None:
    """Run everything: what the settings do not name is embedded or simulated."""
    from sponsorsync.dev import run_dev  # noqa: PLC0415 - as above

    _run(run_dev(_start()))


@cli.command()
def demo() -> None:
    """Walk through the main job on a stack of its own, and check each step.

    The exit status is 0 only if every step was right.
    """
    from sponsorsync.demo import run_demo  # noqa: PLC0415 - as above

    configure_logging("auto")
    if not _run(run_demo()):
        raise typer.Exit(1)


@cli.command()
def relay() -> None:
    """Run the engine between the two Redises alone, until a signal ends it."""
    from sponsorsync.maintenance import run_relay  # noqa: PLC0415 - as above

    _run(run_relay(_start()))


@cli.command()
def snapshot(
    *,
    collection: Annotated[
        str | None, typer.Option(help="Only this collection, of people who are covered.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and count only; write nothing.")
    ] = False,
    scan: Annotated[
        bool,
        typer.Option(
            "--scan", help="For a first import: look through all keys for what nobody noted yet."
        ),
    ] = False,
    engine: Annotated[
        Engine, typer.Option(help="Who copies: this command, or the scripts inside local.")
    ] = Engine.PLAIN,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Copy everybody from the local Redis to the durable one; repeating it is safe.

    The exit status is 0 only if durable has everything afterwards.
    """
    from sponsorsync.maintenance import run_gears_snapshot, run_snapshot  # noqa: PLC0415 - as above

    if engine is Engine.GEARS:
        if collection is not None or dry_run or scan:
            raise InvalidInputError(
                "The scripts copy everything: --engine gears goes with --json only."
            )
        work = run_gears_snapshot(_start(), as_json=json, folder=None)
    else:
        work = run_snapshot(
            _start(), collection=collection, dry_run=dry_run, scan=scan, as_json=json
        )
    if not _run(work):
        raise typer.Exit(1)


@cli.command(name="deploy-gears")
def deploy_gears(
    *,
    url: Annotated[
        str | None, typer.Option(help="The Redis, without a password; else SPONSORSYNC_REDIS_URL.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="The same by its name …")] = None,
    port: Annotated[int, typer.Option(help="… and port.")] = 6379,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password's line from standard input.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is live; change nothing.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take every script of ours out of Redis.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="As --dry-run, and look at what scripts need.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Upload the scripts that run inside the local Redis; repeating it changes nothing.

    The exit status is 0 only if all of them are live (with --remove: if none is).
    """
    from sponsorsync import deploy_gears as command  # noqa: PLC0415 - as above

    if dry_run + remove + status > 1:
        raise InvalidInputError("Only one of --dry-run, --remove and --status can be meant.")
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    settings = _start()
    address = command.choose_address(settings, url=url, host=host, port=port, password=password)
    settings = load_settings({"redis_url": address})
    if remove:
        work = command.run_remove(settings, as_json=json)
    elif dry_run or status:
        work = command.run_look(settings, with_checks=status, as_json=json, folder=None)
    else:
        work = command.run_deploy(settings, as_json=json, folder=None)
    if not _run(work):
        raise typer.Exit(1)


@cli.command()
def verify(
    *,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what differs, and compare once more.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Compare the local Redis with the durable one, everybody and both ways.

    The exit status is 0 only if both are known to be equal.
    """
    from sponsorsync.maintenance import run_verify  # noqa: PLC0415 - as above

    if not _run(run_verify(_start(), fix=fix, as_json=json)):
        raise typer.Exit(1)


@cli.command()
def reconcile(
    *,
    sponsorable: Annotated[
        str | None, typer.Option(help="Only who sponsors this login; else all of them.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report only; change nothing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Compare what is known of sponsors with GitHub, as the maintainer sees it, and repair it.

    The exit status is 0 only if GitHub has told everything.
    """
    from sponsorsync.maintenance import run_reconcile  # noqa: PLC0415 - as above

    if not _run(run_reconcile(_start(), sponsorable=sponsorable, dry_run=dry_run, as_json=json)):
        raise typer.Exit(1)


@cli.command()
def doctor(
    *,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look at every setting and both Redises, and say what to do about each finding.

    The exit status is 1 if something will not work.
    """
    from sponsorsync.doctor import run_doctor  # noqa: PLC0415 - as above

    if not _run(run_doctor(_start(), as_json=json)):
        raise typer.Exit(1)


@keys.command(name="list")
def list_keys(
    *,
    json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """Show the keys, without their private parts."""
    from sponsorsync import token_keys  # noqa: PLC0415 - as above

    typer.echo(token_keys.list_keys(_start(), now=datetime.now(UTC), as_json=json))


@keys.command(name="rotate")
def rotate_keys(
    *,
    retire_old: Annotated[
        bool,
        typer.Option(
            "--retire-old", help="A key has leaked: the others end now, and their tokens."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """Make a new key, and the file where there is none.

    The new key is shown for ten minutes before it signs; the others stay until their tokens are
    over.
    """
    from sponsorsync import token_keys  # noqa: PLC0415 - as above

    settings, now = _start(), datetime.now(UTC)
    typer.echo(token_keys.rotate(settings, now=now, retire_old=retire_old, as_json=json))


@gears.command(name="bundle")
def bundle_gears(
    *,
    output: Annotated[Path, typer.Option(help="The folder; it is made where there is none.")],
) -> None:
    """Write each script as the one file that `gears-cli run` takes, and what they require."""
    from sponsorsync.gears.scripts import write_bundles  # noqa: PLC0415 - as above

    for path in write_bundles(output):
        typer.echo(path)


def _start() -> Settings:
    settings = load_settings()
    configure_logging(settings.log_format)
    for name in find_unknown_names(os.environ):
        typer.echo(f"sponsorsync: {name} is no setting, so it is not read", err=True)
    return settings


def _run(work: Coroutine[None, None, T]) -> T:
    """Runs the loop on uvloop, where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
