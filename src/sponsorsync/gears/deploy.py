"""Bringing the scripts that register into Redis, and taking them out again.

Idempotent: what is live already, with the same text, is left alone with its counters. Several
replicas may start at once: one of them uploads, and the others wait until its scripts are live.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import Field

from sponsorsync.background import end_tasks
from sponsorsync.domain.errors import GearsError, StoreUnavailableError
from sponsorsync.gears.scripts import SESSION_PREFIX
from sponsorsync.reports import FrozenReport
from sponsorsync.store import keys
from sponsorsync.store.locks import hold_lock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sponsorsync.gears.client import GearsClient
    from sponsorsync.gears.replies import Registration
    from sponsorsync.gears.scripts import GearsScript
    from sponsorsync.store.connect import RedisStore
    from sponsorsync.store.locks import HeldLock

_WAIT_S = 0.1


class State(StrEnum):
    """Of a script in Redis; the last three only after something was done."""

    ABSENT = "absent"
    SAME = "same"
    OLDER = "older"
    UPLOADED = "uploaded"
    REMOVED = "removed"
    FAILED = "failed"


LIVE = frozenset({State.SAME, State.UPLOADED})


class ScriptOutcome(FrozenReport):
    """Result of a deploy for one script."""

    session: str = Field(examples=["sponsorsync-write-behind"], description="Its name in Redis.")
    is_shipped: bool = Field(description="This release has it; else it is left over.")
    before: State
    after: State
    error: str | None = Field(default=None, description="Why it failed.")

    @property
    def is_settled(self) -> bool:
        """Whether it is as it should be: live if we ship it, else gone."""
        return self.after in LIVE if self.is_shipped else self.after is State.REMOVED


async def load_ours(client: GearsClient) -> list[Registration]:
    """Returns what scripts of ours have registered, of whatever release.

    Raises:
        GearsError: RedisGears does not answer as it should.
    """
    return [
        each
        for each in await client.load_registrations()
        if each.session.startswith(SESSION_PREFIX)
    ]


async def look(client: GearsClient, scripts: Sequence[GearsScript]) -> list[ScriptOutcome]:
    """Returns the state of each script, and of what an older release has left; changes nothing.

    Raises:
        GearsError: RedisGears does not answer as it should.
    """
    live = await load_ours(client)
    shipped = [
        ScriptOutcome(session=script.session, is_shipped=True, before=state, after=state)
        for script in scripts
        for state in [_compare(live, script)]
    ]
    left_over = sorted({each.session for each in live} - {script.session for script in scripts})
    return shipped + [
        ScriptOutcome(session=session, is_shipped=False, before=State.OLDER, after=State.OLDER)
        for session in left_over
    ]


async def deploy(
    client: GearsClient, scripts: Sequence[GearsScript], *, limit_s: float
) -> list[ScriptOutcome]:
    """Makes exactly these scripts live, and returns what became of each.

    A script that cannot be uploaded is FAILED, and what it was to replace stays live.

    Args:
        client: The server.
        scripts: All that register.
        limit_s: How long it may take, waiting for another replica included.

    Raises:
        GearsUnsupportedError: Our scripts do not run there.
        GearsError: It took too long.
    """
    await client.require_version()
    return await _settle(client, scripts, frozenset({State.ABSENT, State.OLDER}), limit_s=limit_s)


async def restore(
    client: GearsClient, scripts: Sequence[GearsScript], *, limit_s: float
) -> list[ScriptOutcome]:
    """Uploads the scripts of which there is nothing, and leaves those of another release alone.

    For a server that came back without them. Arguments and errors are those of `deploy`.
    """
    await client.require_version()
    return await _settle(client, scripts, frozenset({State.ABSENT}), limit_s=limit_s)


async def remove(client: GearsClient) -> list[ScriptOutcome]:
    """Takes out every script of ours, of whatever release.

    Raises:
        GearsUnsupportedError: Our scripts do not run there, so there are none.
    """
    await client.require_version()
    return [
        await _remove(client, outcome) for outcome in await look(client, ()) if _is_left(outcome)
    ]


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
                found = await look(client, scripts)
                if not any(map(is_due, found)):
                    return found
                async with _hold_deploying(client.store) as is_ours:
                    if is_ours:
                        by_session = {script.session: script for script in scripts}
                        return [
                            await _act(client, outcome, by_session.get(outcome.session))
                            if is_due(outcome)
                            else outcome
                            for outcome in await look(client, scripts)
                        ]
                await asyncio.sleep(_WAIT_S)
    except TimeoutError:
        raise GearsError(
            f"The scripts were not live after {limit_s:.0f} s (SPONSORSYNC_GEARS_TIMEOUT_S)."
        ) from None


async def _act(
    client: GearsClient, outcome: ScriptOutcome, script: GearsScript | None
) -> ScriptOutcome:
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
    # An upgrade finds only what RedisGears remembers of a session, see `parse_registrations`.
    for forgotten in after & before:
        await client.unregister(forgotten)
    return outcome.model_copy(update={"after": State.UPLOADED})


def _fail(outcome: ScriptOutcome, error: str) -> ScriptOutcome:
    return outcome.model_copy(update={"after": State.FAILED, "error": error})


def _is_left(outcome: ScriptOutcome) -> bool:
    return not outcome.is_shipped


async def _remove(client: GearsClient, outcome: ScriptOutcome) -> ScriptOutcome:
    # An upload without registrations would leave the old ones live.
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
    """Yields whether we are the one who uploads; if so, nobody else is until the end."""
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
        with suppress(StoreUnavailableError):  # then the next time
            await lock.extend()
