"""Uploads to Redis the scripts that register callbacks, and removes them.

A script that is live with the same text is not uploaded again, so its counters stay. If several
replicas start at once, one of them uploads, and the others wait until the scripts are live.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

from pydantic import Field

from sponsorsync.background import end_tasks
from sponsorsync.domain.errors import GearsError, StoreUnavailableError
from sponsorsync.gears.client import GearsClient
from sponsorsync.gears.replies import Registration
from sponsorsync.gears.scripts import SESSION_PREFIX, GearsScript
from sponsorsync.reports import FrozenReport
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.locks import HeldLock, hold_lock

_WAIT_S = 0.1


class State(StrEnum):
    """State of a script in Redis; UPLOADED, REMOVED and FAILED are results of a change.

    OLDER is any other text than this release's.
    """

    ABSENT = "absent"
    SAME = "same"
    OLDER = "older"
    UPLOADED = "uploaded"
    REMOVED = "removed"
    FAILED = "failed"


LIVE = frozenset({State.SAME, State.UPLOADED})


class ScriptOutcome(FrozenReport):
    """Result of a deploy or a removal for one script."""

    session: str = Field(examples=["sponsorsync-write-behind"], description="Its name in Redis.")
    is_shipped: bool = Field(description="This release has it; else an older one left it.")
    before: State
    after: State
    error: str | None = Field(default=None, description="Why it failed.")

    @property
    def is_settled(self) -> bool:
        """Whether a script of this release is live, or a script of an older one is removed."""
        return self.after in LIVE if self.is_shipped else self.after is State.REMOVED


async def load_ours(client: GearsClient) -> list[Registration]:
    """Returns the registrations of our scripts, of any release.

    Raises:
        GearsError: RedisGears refuses the command.
    """
    return [
        each
        for each in await client.load_registrations()
        if each.session.startswith(SESSION_PREFIX)
    ]


async def load_states(client: GearsClient, scripts: Sequence[GearsScript]) -> list[ScriptOutcome]:
    """Returns the state of each script, and of those that another release left; changes nothing.

    Raises:
        GearsError: RedisGears refuses the command.
    """
    live = await load_ours(client)
    shipped = [(script.session, True, _compare(live, script)) for script in scripts]
    left_over = sorted({each.session for each in live} - {script.session for script in scripts})
    return [
        ScriptOutcome(session=session, is_shipped=is_shipped, before=state, after=state)
        for session, is_shipped, state in [
            *shipped,
            *((session, False, State.OLDER) for session in left_over),
        ]
    ]


async def deploy(
    client: GearsClient, scripts: Sequence[GearsScript], *, limit_s: float
) -> list[ScriptOutcome]:
    """Makes exactly these scripts live, and returns the outcome of each.

    A script that cannot be uploaded is FAILED, and its predecessor stays live.

    Args:
        client: The server.
        scripts: All scripts that register callbacks.
        limit_s: The time limit, including a wait for another replica's upload.

    Raises:
        GearsUnsupportedError: The server does not run our scripts.
        GearsError: The scripts were not live within the limit.
    """
    await client.require_version()
    return await _settle(client, scripts, frozenset({State.ABSENT, State.OLDER}), limit_s=limit_s)


async def restore(
    client: GearsClient, scripts: Sequence[GearsScript], *, limit_s: float
) -> list[ScriptOutcome]:
    """Uploads scripts that are absent, as on a server that has lost them in a restart.

    Scripts of another release stay. Arguments and errors are those of `deploy`.
    """
    await client.require_version()
    return await _settle(client, scripts, frozenset({State.ABSENT}), limit_s=limit_s)


async def remove(client: GearsClient) -> list[ScriptOutcome]:
    """Removes every script of ours, of any release.

    Raises:
        GearsUnsupportedError: The server does not run our scripts, so there is none to remove.
    """
    await client.require_version()
    return [await _remove(client, outcome) for outcome in await load_states(client, ())]


async def _settle(
    client: GearsClient,
    scripts: Sequence[GearsScript],
    uploads: frozenset[State],
    *,
    limit_s: float,
) -> list[ScriptOutcome]:
    def is_due(outcome: ScriptOutcome) -> bool:
        return outcome.before in uploads

    try:
        async with asyncio.timeout(limit_s):
            while True:
                found = await load_states(client, scripts)
                if not any(map(is_due, found)):
                    return found
                async with _hold_deploying(client.store) as is_ours:
                    if is_ours:
                        by_session = {script.session: script for script in scripts}
                        return [
                            await _replace(client, outcome, by_session.get(outcome.session))
                            if is_due(outcome)
                            else outcome
                            for outcome in await load_states(client, scripts)
                        ]
                await asyncio.sleep(_WAIT_S)
    except TimeoutError:
        raise GearsError(
            f"The scripts were not live after {limit_s:.0f} s (SPONSORSYNC_GEARS_TIMEOUT_S)."
        ) from None


async def _replace(
    client: GearsClient, outcome: ScriptOutcome, script: GearsScript | None
) -> ScriptOutcome:
    """Uploads a script in place of its older text; without `script`, removes the old one."""
    if script is None:
        return await _remove(client, outcome)
    before = await _load_ids(client, script.session)
    try:
        await client.upload(
            script.text,
            session=script.session,
            description=script.description,
            requirements=script.requirements,
        )
    except GearsError as error:
        return _fail(outcome, f"{script.name}.py: {error}")
    after = await _load_ids(client, script.session)
    if after <= before:
        return _fail(outcome, f"{script.name}.py: it ran, and registered nothing")
    # UPGRADE does not replace registrations whose session RedisGears has lost (see
    # `parse_registrations`), so they are removed here.
    for missed in after & before:
        await client.unregister(missed)
    return outcome.model_copy(update={"after": State.UPLOADED})


def _fail(outcome: ScriptOutcome, error: str) -> ScriptOutcome:
    return outcome.model_copy(update={"after": State.FAILED, "error": error})


async def _remove(client: GearsClient, outcome: ScriptOutcome) -> ScriptOutcome:
    # One by one: an upgrade to a script that registers nothing would leave them live.
    for registration in await _load_ids(client, outcome.session):
        await client.unregister(registration)
    return outcome.model_copy(update={"after": State.REMOVED})


async def _load_ids(client: GearsClient, session: str) -> set[str]:
    return {each.id for each in await load_ours(client) if each.session == session}


def _compare(live: Sequence[Registration], script: GearsScript) -> State:
    descriptions = {e.session_description for e in live if e.session == script.session}
    if not descriptions:
        return State.ABSENT
    is_same = all(description.endswith(f" {script.hash}") for description in descriptions)
    return State.SAME if is_same else State.OLDER


@asynccontextmanager
async def _hold_deploying(store: RedisStore) -> AsyncIterator[bool]:
    """Holds the lock for uploading scripts; yields False if another replica holds it."""
    async with hold_lock(store, keys.DEPLOYING, ttl_ms=keys.DEPLOYING_TTL_MS) as lock:
        if lock is None:
            yield False
            return
        renewal = asyncio.create_task(_renew(lock), name="the right to upload scripts")
        try:
            yield True
        finally:
            await end_tasks(renewal)


async def _renew(lock: HeldLock) -> None:
    while True:
        await asyncio.sleep(keys.DEPLOYING_TTL_MS / 3000)
        with suppress(StoreUnavailableError):  # the next extension may still be in time
            await lock.extend()
