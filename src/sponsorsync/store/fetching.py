"""Running a script on local that may need data to be fetched from durable first."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Protocol, cast

from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.store.connect import RedisStore, Reply, ScriptCall
from sponsorsync.store.script_batching import ScriptBatching

_ASK = b"ask"
_POLL_S = 0.01
_PATIENCE_S = 3.0


class Fetcher(Protocol):
    """Fetches one person's data from durable; see `sponsorsync.sync.hydrate.Hydrator`."""

    @property
    def is_local_verified(self) -> bool:
        """Whether local is known not to be older than durable."""

    async def fetch(self, person_id: int, token: str, then: ScriptCall) -> Reply:
        """Fills the person's unknown parts and ends the lease; then runs the script `then`.

        Returns the reply of `then`. Raises DurableUnavailableError, and releases the lease, if
        durable cannot be asked.
        """


def durable_state(fetcher: Fetcher | None) -> dict[str, bool]:
    """Returns the arguments about durable for the scripts that save facts (save_facts.lua)."""
    return {
        "has_durable": fetcher is not None,
        "is_verified": fetcher is None or fetcher.is_local_verified,
    }


async def ask_until_known(
    person_id: int | None,
    fetcher: Fetcher | None,
    local: RedisStore | ScriptBatching,
    call: Callable[[str], ScriptCall],
) -> list[object]:
    """Runs a script until its reply is not 'ask', and returns that reply.

    The script replies 'ask' if data must be fetched from durable first, with the token that holds
    the lease. Several callers, also in other processes, may need the same person: the caller whose
    token took the lease fetches, and the others run the script again after a short wait.

    Args:
        person_id: The person to fetch; None if the script finds the id and replies it after the
            token.
        fetcher: None if there is no durable; the token is then empty.
        local: Where the script runs.
        call: Returns the script and its arguments for a token.

    Raises:
        DurableUnavailableError: The data must be fetched from durable, which cannot be asked.
        StoreUnavailableError: Another caller's fetch takes too long.
    """
    token = secrets.token_hex(8) if fetcher else ""
    loop = asyncio.get_running_loop()
    ends = loop.time() + _PATIENCE_S
    name, arguments = call(token)
    answer = cast("list[object]", await local.run_script(name, *arguments))
    while answer[0] == _ASK and fetcher is not None:
        if loop.time() > ends:
            raise StoreUnavailableError("Your data are still being fetched from durable storage.")
        if answer[1] == token.encode():
            unknown_id = int(cast("bytes", answer[2])) if person_id is None else person_id
            reply = await fetcher.fetch(unknown_id, token, (name, arguments))
        else:
            await asyncio.sleep(_POLL_S)
            reply = await local.run_script(name, *arguments)
        answer = cast("list[object]", reply)
    return answer
