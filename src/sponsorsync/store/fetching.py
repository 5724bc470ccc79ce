"""Asking local until it knows: what is unknown there is fetched from durable first."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Protocol, cast

from sponsorsync.domain.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sponsorsync.store.connect import Argument, Reply, ScriptCall

_ASK = b"ask"
_POLL_S = 0.01
_PATIENCE_S = 3.0


class Fetcher(Protocol):
    """Brings one person's data back from durable; see `sponsorsync.sync.hydrate.Hydrator`."""

    @property
    def is_local_verified(self) -> bool:
        """Whether local is known not to be older than durable."""

    async def fetch(self, person_id: int, token: str, then: ScriptCall) -> Reply:
        """Ends a lease by filling what is unknown; runs a script after it, and returns its answer.

        Raises:
            DurableUnavailableError: Durable cannot be asked; the lease is given back.
        """


class ScriptRunner(Protocol):
    """Runs scripts on local: a `RedisStore`, or a `ScriptBatching` before it."""

    async def run_script(self, name: str, *arguments: Argument) -> Reply:
        """Runs a script of `store/lua`."""


async def ask_until_known(
    person_id: int | None,
    fetcher: Fetcher | None,
    local: ScriptRunner,
    call: Callable[[str], ScriptCall],
) -> list[object]:
    """Runs a script with a lease token until it has an answer, and returns that.

    Of all who find the same person unknown at once, here or in another process, the one whose token
    took the lease fetches; the others ask again shortly.

    Args:
        person_id: Whose data it is about; None where the script finds that out: it then
            names them after the holder of the lease.
        fetcher: None where there is no durable side; the token is then empty.
        local: Where the script runs.
        call: Returns the script to run, with a token.

    Raises:
        DurableUnavailableError: Only durable knows, and it cannot be asked.
        StoreUnavailableError: Somebody else's fetch takes too long.
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
            whom = int(cast("bytes", answer[2])) if person_id is None else person_id
            reply = await fetcher.fetch(whom, token, (name, arguments))
        else:
            await asyncio.sleep(_POLL_S)
            reply = await local.run_script(name, *arguments)
        answer = cast("list[object]", reply)
    return answer
