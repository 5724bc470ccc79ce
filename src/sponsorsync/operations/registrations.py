"""Deploys the scripts inside the local Redis when the service starts, and watches them.

`SPONSORSYNC_ENGINE` decides what happens if the scripts cannot be made live: with `gears` the
service does not start; with `auto` it runs without them and reports that. With `plain` it neither
deploys nor watches scripts.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import structlog
from pydantic import Field

from sponsorsync.background import Supervisor
from sponsorsync.domain.errors import (
    GearsError,
    GearsUnsupportedError,
    NoDurableError,
    SponsorSyncError,
)
from sponsorsync.gears.checks import require_database_0, require_environment
from sponsorsync.gears.client import GearsClient, explain_unsupported, format_version
from sponsorsync.gears.deploy import ScriptOutcome, State, deploy, load_ours, load_states, restore
from sponsorsync.gears.replies import Registration
from sponsorsync.gears.scripts import REGISTERING, GearsScript, load_scripts
from sponsorsync.redis_pair import configure_scripts, open_local_gears
from sponsorsync.reports import FrozenReport
from sponsorsync.settings import Settings

ScriptsStatus = Literal["not_used", "deploying", "live", "failed"]

_WATCH_S = 10.0
_RETRY_FIRST_S = 2.0
_RETRY_LONGEST_S = 300.0

_log = structlog.get_logger(__name__)


class LiveScript(FrozenReport):
    """The present state of a script in the local Redis."""

    session: str = Field(examples=["sponsorsync-write-behind"])
    state: State
    is_shipped: bool = Field(description="Whether this release has it; otherwise it is a leftover.")


class RegistrationsReport(FrozenReport):
    """The scripts inside the local Redis, their registrations, and the last deploy."""

    engine: Literal["auto", "plain", "gears"] = Field(description="SPONSORSYNC_ENGINE")
    status: ScriptsStatus
    detail: str | None = Field(description="Why they are not used, or not live.")
    version: str | None = Field(examples=["1.2.9"], description="Version of RedisGears.")
    scripts: list[LiveScript]
    registrations: list[Registration]
    deployed_at: datetime | None = Field(description="Time of this process's last deploy.")
    outcomes: list[ScriptOutcome] = Field(
        description="Results of that deploy, one for each script."
    )


class Registrations:
    """Deploys the scripts of this release to the local Redis, and watches them.

    `status` is 'not_used' if no scripts run, so that the service synchronizes the two Redises
    without them. `detail` says why the scripts are not used, or not live.
    """

    def __init__(self, client: GearsClient, settings: Settings, folder: Path | None) -> None:
        self.status: ScriptsStatus = "not_used"
        self.detail: str | None = None
        self._client = client
        self._settings = settings
        self._folder = folder
        self._run_id = ""
        self._outcomes: Sequence[ScriptOutcome] = ()
        self._deployed_at: datetime | None = None
        self._was_live = False

    async def deploy(self) -> None:
        """Deploys the scripts of this release.

        Raises:
            SponsorSyncError: The scripts are not live; the message says why.
        """
        self.status, self.detail = "deploying", None
        try:
            await self._client.require_version()
            await require_database_0(
                self._client, allows_others=self._settings.gears_allow_other_databases
            )
            await require_environment(self._client)
            scripts = self._load_scripts()
            self._run_id = await self._client.store.load_run_id()
            limit_s = self._settings.gears_timeout_s
            self._save_outcomes(await deploy(self._client, scripts, limit_s=limit_s))
        except GearsUnsupportedError as error:
            self.status, self.detail = "not_used", str(error)
            raise
        except SponsorSyncError as error:
            self._fail(error)
            raise
        except Exception:
            self.status, self.detail = "failed", "This is our fault. The operator's log says more."
            raise

    def start(self, supervisor: Supervisor) -> None:
        """Starts the loop that deploys and watches the scripts, if the settings ask for scripts."""
        engine, durable = self._settings.engine, self._settings.durable_address
        if engine == "gears" or (engine == "auto" and durable is not None):
            supervisor.start("gears_scripts", self.run)

    async def load(self) -> RegistrationsReport:
        """Returns the scripts and registrations on the server, and the last deploy's outcomes.

        Raises:
            StoreUnavailableError: The server cannot be asked.
            GearsError: RedisGears refuses the command.
        """
        version = await self._client.load_version()
        scripts: Sequence[ScriptOutcome] = ()
        registrations: Sequence[Registration] = ()
        if explain_unsupported(version) is None:
            scripts = await load_states(self._client, self._load_scripts())
            registrations = await load_ours(self._client)
        return RegistrationsReport(
            engine=self._settings.engine,
            status=self.status,
            detail=self.detail,
            version=None if version is None else format_version(version),
            scripts=[
                LiveScript(session=each.session, state=each.after, is_shipped=each.is_shipped)
                for each in scripts
            ],
            registrations=list(registrations),
            deployed_at=self._deployed_at,
            outcomes=list(self._outcomes),
        )

    async def run(self) -> None:
        """Deploys the scripts, trying again until that succeeds; then watches them.

        Returns if the server cannot run the scripts.
        """
        wait_s = _RETRY_FIRST_S
        # Not `status`, which is also 'failed' after an operator removed live scripts: these must
        # not be deployed again when the supervisor restarts this loop.
        while not self._was_live:
            try:
                await self.deploy()
            except GearsUnsupportedError as error:
                _log.info("scripts_not_used", reason=str(error))
                return
            except SponsorSyncError:  # logged and shown by `deploy`
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, _RETRY_LONGEST_S)
        await self._watch()

    async def _watch(self) -> None:
        """Checks repeatedly for missing scripts, and restores those that a restart has lost.

        Scripts that an operator removed from a running server are not restored. Scripts of another
        release stay, since replicas of that release may be about to replace this one.
        """
        while True:
            await asyncio.sleep(_WATCH_S)
            try:
                await self._check_scripts()
            except SponsorSyncError as error:
                self._fail(error)

    async def _check_scripts(self) -> None:
        scripts = self._load_scripts()
        run_id = await self._client.store.load_run_id()
        found = [
            outcome for outcome in await load_states(self._client, scripts) if outcome.is_shipped
        ]
        is_lost = any(outcome.after is State.ABSENT for outcome in found)
        if is_lost and run_id != self._run_id:
            limit_s = self._settings.gears_timeout_s
            self._save_outcomes(await restore(self._client, scripts, limit_s=limit_s))
        elif is_lost:
            self.status = "failed"
            self.detail = "Scripts were removed; `sponsorsync deploy-gears` puts them back."
        else:
            self.status, self.detail = "live", None
        self._run_id = run_id

    def _save_outcomes(self, outcomes: Sequence[ScriptOutcome]) -> None:
        self._outcomes, self._deployed_at = outcomes, datetime.now(UTC)
        _log.info(
            "scripts_deployed", **{outcome.session: str(outcome.after) for outcome in outcomes}
        )
        errors = [outcome.error for outcome in outcomes if outcome.error]
        if errors:
            raise GearsError(f"Scripts could not be uploaded: {'; '.join(errors)}.")
        self.status, self.detail = "live", None
        self._was_live = True

    def _fail(self, error: SponsorSyncError) -> None:
        if self.detail != str(error):
            _log.warning("scripts_not_live", reason=str(error))
        self.status, self.detail = "failed", str(error)

    def _load_scripts(self) -> tuple[GearsScript, ...]:
        return load_scripts(REGISTERING, configure_scripts(self._settings), folder=self._folder)


@asynccontextmanager
async def open_registrations(
    settings: Settings, *, folder: Path | None
) -> AsyncIterator[Registrations]:
    """Yields the registrations; with the engine `gears` it first deploys the scripts.

    The scripts are read from `folder`; None means those of this installation.

    Raises:
        SponsorSyncError: The engine is `gears`, and the scripts could not be made live.
    """
    async with open_local_gears(settings) as client:
        registrations = Registrations(client, settings, folder)
        if settings.engine == "gears":
            if settings.durable_address is None:
                raise NoDurableError
            await registrations.deploy()
        yield registrations
