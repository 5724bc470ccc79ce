"""`sponsorsync deploy-gears`: uploads, shows and removes the scripts in the local Redis."""

from collections.abc import Sequence
from urllib.parse import quote

from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sponsorsync.diagnostics import Diagnostic, Level, print_diagnostics
from sponsorsync.domain.errors import InvalidInputError, SettingsError
from sponsorsync.gears.checks import examine_gears, require_database_0
from sponsorsync.gears.client import GearsClient, format_version
from sponsorsync.gears.deploy import ScriptOutcome, State, deploy, load_ours, load_states, remove
from sponsorsync.gears.replies import Registration
from sponsorsync.gears.scripts import REGISTERING, SESSION_PREFIX, GearsScript, load_scripts
from sponsorsync.redis_pair import configure_scripts, open_local_gears
from sponsorsync.reports import Report
from sponsorsync.settings import Settings

_SOURCES_SHOWN = 3
_COLOURS = {
    State.FAILED: "red",
    State.ABSENT: "yellow",
    State.OLDER: "yellow",
    State.SAME: "green",
    State.UPLOADED: "green",
}


class _DeployReport(Report):
    """The output with `--json`."""

    version: str
    scripts: list[ScriptOutcome]
    registrations: list[Registration]
    checks: list[Diagnostic]


async def run_deploy(settings: Settings, *, as_json: bool) -> bool:
    """Deploys the scripts and prints the result of each; returns whether all are live."""
    scripts = _load(settings)
    async with open_local_gears(settings) as client:
        await client.require_version()
        await require_database_0(client, allows_others=settings.gears_allow_other_databases)
        outcomes = await deploy(client, scripts, limit_s=settings.gears_timeout_s)
        await _print(client, outcomes, (), as_json=as_json)
    return _are_live(outcomes)


async def run_status(settings: Settings, *, with_checks: bool, as_json: bool) -> bool:
    """Prints the state of the scripts and, if `with_checks`, checks the server that runs them.

    Returns whether all scripts are live and no check is an error.
    """
    scripts = _load(settings)
    async with open_local_gears(settings) as client:
        await client.require_version()
        outcomes = await load_states(client, scripts)
        diagnostics = await examine_gears(client) if with_checks else []
        await _print(client, outcomes, diagnostics, as_json=as_json)
    has_error = any(each.level is Level.ERROR for each in diagnostics)
    return _are_live(outcomes) and not has_error


async def run_remove(settings: Settings, *, as_json: bool) -> bool:
    """Removes every script of SponsorSync and prints the result; returns whether none is left."""
    async with open_local_gears(settings) as client:
        outcomes = await remove(client)
        await _print(client, outcomes, (), as_json=as_json)
    return all(outcome.after is State.REMOVED for outcome in outcomes)


def choose_address(
    settings: Settings, *, url: str | None, host: str | None, port: int, password: str | None
) -> SecretStr:
    """Returns the server's address from the options, or else from the settings.

    Raises:
        InvalidInputError: The options contradict each other, or contain a password.
        SettingsError: Neither the options nor the settings name a server.
    """
    if url is not None and host is not None:
        raise InvalidInputError("--url and --host both name the server; use only one of them.")
    if host is not None:
        address = f"redis://{f'[{host}]' if ':' in host else host}:{port}/0"
    elif url is not None:
        _refuse_password(url)
        address = url
    elif settings.redis_url is not None:
        address = settings.redis_url.get_secret_value()
    else:
        raise SettingsError("SPONSORSYNC_REDIS_URL is not set; set it, or use --url or --host")
    return SecretStr(address if password is None else _with_password(address, password))


def _refuse_password(url: str) -> None:
    # Without urlsplit, as its errors show a malformed address and hence the password. The settings
    # refuse such an address later.
    user_info = url.partition("://")[2].rpartition("@")[0]
    if ":" in user_info:
        raise InvalidInputError(
            "Every user of the machine can see a password on the command line: leave it out of "
            "--url and use --password-stdin, or SPONSORSYNC_REDIS_URL."
        )


def _with_password(address: str, password: str) -> str:
    scheme, _, rest = address.partition("://")
    user_info, _, place = rest.rpartition("@")
    user = user_info.partition(":")[0]
    return f"{scheme}://{user}:{quote(password, safe='')}@{place}"


def _load(settings: Settings) -> Sequence[GearsScript]:
    return load_scripts(REGISTERING, configure_scripts(settings.require_for_sync()))


def _are_live(outcomes: Sequence[ScriptOutcome]) -> bool:
    return all(outcome.is_settled for outcome in outcomes)


async def _print(
    client: GearsClient,
    outcomes: Sequence[ScriptOutcome],
    diagnostics: Sequence[Diagnostic],
    *,
    as_json: bool,
) -> None:
    version = await client.require_version()
    registrations = await load_ours(client)
    if as_json:
        report = _DeployReport(
            version=format_version(version),
            scripts=list(outcomes),
            registrations=list(registrations),
            checks=list(diagnostics),
        )
        print(report.model_dump_json(indent=2))  # noqa: T201 - the command's own output
        return
    console = Console(highlight=False)
    scripts = Table("script", "before", "after", "error", box=None)
    for outcome in outcomes:
        before, after = (_paint(state) for state in (outcome.before, outcome.after))
        scripts.add_row(outcome.session, before, after, escape(outcome.error or ""))
    console.print(scripts)
    if registrations:
        console.print()
        console.print(_tabulate(registrations))
    if diagnostics:
        console.print()
        print_diagnostics(diagnostics)


def _tabulate(registrations: Sequence[Registration]) -> Table:
    """Returns a row for each script and purpose, which may have a hundred registrations."""
    table = Table("registrations", "script", "reads", "runs", "failed", "last error", box=None)
    purposes: dict[tuple[str, str], list[Registration]] = {}
    for each in registrations:
        purposes.setdefault((each.session, each.description), []).append(each)
    for (session, description), group in sorted(purposes.items()):
        sources = [each.source for each in group[:_SOURCES_SHOWN]]
        if len(group) > len(sources):
            sources.append("…")
        table.add_row(
            escape(f"{len(group)} {description}".strip()),
            escape(session.removeprefix(SESSION_PREFIX)),
            escape(", ".join(sources)),
            f"{sum(each.triggered for each in group):,}",
            f"{sum(each.failures for each in group):,}",
            escape(next((each.last_error for each in group if each.last_error), "")),
        )
    return table


def _paint(state: State) -> str:
    return f"[{_COLOURS[state]}]{state}[/]" if state in _COLOURS else str(state)
