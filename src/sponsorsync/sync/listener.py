"""Handles local's keyspace notifications: other applications' writes, and reads of missing keys.

Redis sends each notification once, and only to clients that listen at that moment, so some are
lost; `verify` finds what they would have announced.
https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/
"""

import asyncio
import re
import secrets
from collections import Counter
from contextlib import suppress
from typing import cast

import structlog
from redis.exceptions import RedisError

from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.errors import StoreError
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.fetching import ask_until_known
from sponsorsync.sync.hydrate import Hydrator

NEEDED_FLAGS = frozenset("Esm")
"""Flags of `notify-keyspace-events`: keyevent notifications (E) of sets (s) and key misses (m)."""

_EVENTS = ("sadd", "srem", "spop", "sunionstore", "sinterstore", "sdiffstore", "keymiss")
_FLAG_NAMES = "Esm"
_QUEUE_SIZE = 10_000
_POLL_S = 1.0
_REST_S = 1.0

_log = structlog.get_logger(__name__)


class Listener:
    """Gives a version to writes past the service, and fetches collections that readers miss."""

    def __init__(
        self, local: RedisStore, *, catalog: Catalog, hydrator: Hydrator, may_configure: bool
    ) -> None:
        self._local = local
        self._hydrator = hydrator
        self._may_configure = may_configure
        collections = "|".join(map(re.escape, catalog.collections))
        self._key = re.compile(rf"user:([1-9][0-9]*):({collections})")
        # During a bulk import notifications arrive faster than they are handled. Those that do not
        # fit into the queue are dropped; `verify` finds the writes that they announced.
        self._queue: asyncio.Queue[tuple[str, int, str]] = asyncio.Queue(_QUEUE_SIZE)
        self._waiting: Counter[tuple[str, int, str]] = Counter()
        self._echo_channel = f"sponsorsync:listener:{secrets.token_hex(8)}"
        self._has_echoed = asyncio.Event()

    async def load_missing_flags(self) -> str:
        """Returns the flags of `notify-keyspace-events` that local lacks; sets them if permitted.

        Raises:
            StoreUnavailableError: Local is down.
        """
        reply = await self._local.run("CONFIG", "GET", "notify-keyspace-events")
        have = parse_flags(cast("dict[bytes, bytes]", reply))
        missing = "".join(sorted(NEEDED_FLAGS - have))
        if missing and self._may_configure:
            wanted = "".join(sorted(have | NEEDED_FLAGS))
            await self._local.run("CONFIG", "SET", "notify-keyspace-events", wanted)
            return ""
        return missing

    async def listen(self) -> None:
        """Receives notifications and puts them into the queue, until it is cancelled."""
        while True:
            try:
                if missing := await self.load_missing_flags():
                    _log.warning(
                        "notifications_off",
                        missing=missing,
                        what_to_do=f"CONFIG SET notify-keyspace-events with {_FLAG_NAMES} among "
                        "its flags, or set SPONSORSYNC_MANAGE_NOTIFICATIONS=true; until then only "
                        "`sponsorsync verify` notices writes and reads past the service",
                    )
                await self._listen_once()
            except (RedisError, StoreError) as error:
                _log.warning("listener_rests", seconds=_REST_S, reason=str(error))
                await asyncio.sleep(_REST_S)

    async def _listen_once(self) -> None:
        pubsub = self._local.open_pubsub()
        try:
            await pubsub.subscribe(self._echo_channel)
            await pubsub.psubscribe(*(f"__keyevent@*__:{event}" for event in _EVENTS))
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=_POLL_S)
                if message is not None:
                    self._enqueue(message)
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _enqueue(self, message: dict[str, bytes]) -> None:
        if message["channel"] == self._echo_channel.encode():
            self._has_echoed.set()
            return
        event = message["channel"].rpartition(b":")[2].decode()
        found = self._key.fullmatch(message["data"].decode(errors="replace"))
        if found is None:
            return
        notice = (event, int(found[1]), found[2])
        try:
            self._queue.put_nowait(notice)
            self._waiting[notice] += 1
        except asyncio.QueueFull:
            _log.warning("notification_dropped", event_name=event, person=notice[1])

    async def handle(self) -> None:
        """Handles the notifications in the queue, until it is cancelled."""
        while True:
            event, person_id, collection = notice = await self._queue.get()
            self._waiting[notice] -= 1
            if not self._waiting[notice]:
                del self._waiting[notice]
            while not self._hydrator.is_local_verified:  # noqa: ASYNC110 - no event
                # Local may hold an older set than durable; a version for this write would declare
                # the whole set newer than durable's.
                await asyncio.sleep(_POLL_S)
            try:
                if event == "keymiss":
                    await self._restore(person_id, collection)
                else:
                    await self._mark(event, person_id, collection)
            except StoreError as error:
                _log.info("notification_not_handled", event_name=event, reason=str(error))

    async def _mark(self, event: str, person_id: int, collection: str) -> None:
        key = (person_id, collection)
        reply = await self._local.run_script("mark_foreign", *key, event)
        if reply != b"lost?":
            return
        # The set is smaller than recorded. A removal may explain that, whose notification is still
        # to come; it is then handled after this one.
        await self._receive_pending()
        if not any(self._waiting[removal, *key] for removal in ("srem", "spop")):
            await self._local.run_script("mark_foreign", *key, "lost")

    async def _receive_pending(self) -> None:
        """Waits until all notifications that local has sent by now are in the queue."""
        self._has_echoed.clear()
        await self._local.run("PUBLISH", self._echo_channel, "")
        with suppress(TimeoutError):  # the connection was lost, and all notifications with it
            async with asyncio.timeout(_REST_S):
                await self._has_echoed.wait()

    async def _restore(self, person_id: int, collection: str) -> None:
        """Fetches a collection that a reader missed, unless it is known to be empty.

        The script here must not read a missing key (include/exists.lua): that would send another
        notification of a miss, without end.
        """
        await ask_until_known(
            person_id,
            self._hydrator,
            self._local,
            lambda token: ("read_preferences", (person_id, collection, token, "filter")),
        )


def parse_flags(reply: dict[bytes, bytes]) -> set[str]:
    """Returns the flags in an answer to CONFIG GET notify-keyspace-events."""
    flags = set(next(iter(reply.values()), b"").decode())
    # The flag A stands for all others except m (key misses) and n (new keys).
    return flags | set("g$lshzxetd") if "A" in flags else flags
