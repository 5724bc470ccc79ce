"""The background loops that keep local and durable equal."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from datetime import timedelta
from functools import partial

import structlog

from sponsorsync.background import Supervisor
from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.store import keys
from sponsorsync.store.connect import Gate, RedisStore
from sponsorsync.store.entitlements import end_entitlements
from sponsorsync.sync.hydrate import Hydrator
from sponsorsync.sync.incarnations import Incarnations
from sponsorsync.sync.listener import Listener
from sponsorsync.sync.relay import BATCH, Relay
from sponsorsync.sync.retention import remove_lapsed
from sponsorsync.sync.scan import in_batches, scan_entitled
from sponsorsync.sync.snapshot import Snapshot
from sponsorsync.sync.unconfirmed import UnconfirmedChanges
from sponsorsync.sync.verify import Verifier

_WATCH_S = 1.0
_SWEEP_S = 2.0
_RETENTION_S = 3600.0
_REST_S = 1.0

_log = structlog.get_logger(__name__)


class SyncEngine:
    """Builds the parts of the engine for a plain Redis; `start` starts their loops.

    Args of the constructor:
        local, durable: Stores behind the gates.
        ungated: Stores of the same two servers without gates, for comparing incarnations.
        may_configure: Whether the engine may set local's notification flags.
        drains: Whether the relay and the listener run; False where scripts inside local do their
            work. The loops `sweep` and `retention` run in both cases.
    """

    def __init__(
        self,
        local: RedisStore,
        durable: RedisStore,
        *,
        ungated: tuple[RedisStore, RedisStore],
        gates: tuple[Gate, Gate],
        catalog: Catalog,
        retention: timedelta,
        may_configure: bool,
        drains: bool,
    ) -> None:
        self._local = local
        self._durable = durable
        self._catalog = catalog
        self._retention = retention
        self._drains = drains
        self._gates = gates
        self.incarnations = Incarnations(*ungated, local_gate=gates[0], durable_gate=gates[1])
        self.hydrator = Hydrator(local, durable, catalog=catalog, incarnations=self.incarnations)
        # For comparing the servers, while the gates still refuse all other connections.
        self._ungated_hydrator = Hydrator(*ungated, catalog=catalog, incarnations=self.incarnations)
        self.relay = Relay(
            local, durable, catalog=catalog, hydrator=self.hydrator, incarnations=self.incarnations
        )
        self._unconfirmed = UnconfirmedChanges(
            local,
            durable,
            merge_newer=self.hydrator.merge_newer,
            push_again=self.incarnations.push_again,
        )
        self.snapshot = Snapshot(local, catalog=catalog, relay=self.relay)
        self.verifier = Verifier(
            local, durable, catalog=catalog, hydrator=self.hydrator, relay=self.relay
        )
        self.listener = Listener(
            local, catalog=catalog, hydrator=self.hydrator, may_configure=may_configure
        )
        self._has_tried_to_compare = asyncio.Event()

    def start(self, supervisor: Supervisor) -> None:
        """Starts every loop; all wait until the servers have been compared, or that has failed.

        Until then the gates refuse connections, so the loops would report an outage at each start.
        """
        supervisor.start("incarnations", self._watch_incarnations)
        loops: list[tuple[str, Callable[[], Coroutine[None, None, None]], float | None]] = [
            ("sweep", self._sweep, _SWEEP_S),
            ("retention", self._remove_lapsed, _RETENTION_S),
        ]
        if self._drains:
            loops += [
                ("relay", self.relay.run, None),
                ("listener", self.listener.listen, None),
                ("notifications", self.listener.handle, None),
            ]
        for name, work, every_s in loops:
            supervisor.start(name, partial(self._run_after_comparison, work), every_s=every_s)

    async def push_now(self, person_id: int) -> bool:
        """Pushes a person to durable at once; returns whether durable confirmed all changes.

        Raises:
            StoreUnavailableError: A server is down; the relay tries again.
        """
        await self.relay.drain([person_id])
        return await self._local.run("SISMEMBER", keys.DIRTY, person_id) == 0

    async def open(self) -> None:
        """Compares the servers and opens the gates once, for a command that runs no loops.

        Raises:
            StoreUnavailableError: A server does not answer.
        """
        if await self.incarnations.check(self._ungated_hydrator.merge_newer):
            await self._hydrate_entitled()

    async def _watch_incarnations(self) -> None:
        """Compares the servers at the start, after a refused connection, and after a FLUSHALL."""
        has_compared = False
        while True:
            rest_s = 0.0
            try:
                if not (has_compared and await self._is_settled()):
                    await self.open()
                has_compared = True
            except StoreUnavailableError as error:
                rest_s = _REST_S
                _log.warning("comparison_waits", seconds=rest_s, reason=str(error))
            finally:
                self._has_tried_to_compare.set()
            await asyncio.sleep(rest_s)
            await self._wait_for_refusal()

    async def _run_after_comparison(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        await self._has_tried_to_compare.wait()
        await work()

    async def _wait_for_refusal(self) -> None:
        refusals = [asyncio.create_task(gate.refused.wait()) for gate in self._gates]
        try:
            await asyncio.wait(refusals, timeout=_WATCH_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for refusal in refusals:
                refusal.cancel()

    async def _is_settled(self) -> bool:
        return (
            not any(gate.refused.is_set() for gate in self._gates)
            and self.incarnations.is_local_verified
            and await self.incarnations.is_recorded()
        )

    async def _hydrate_entitled(self) -> None:
        """Fetches all entitled people to a local that is new or was flushed.

        An application that reads Redis directly finds sponsors' data there again.
        """
        pages = scan_entitled(self._durable, self._catalog)
        async with aclosing(in_batches(pages, BATCH)) as batches:
            async for ids in batches:
                await self.hydrator.hydrate(ids)

    async def _sweep(self) -> None:
        await end_entitlements(self._local)
        await self.relay.sweep()
        await self._unconfirmed.check()

    async def _remove_lapsed(self) -> None:
        while await remove_lapsed(self._durable, catalog=self._catalog, retention=self._retention):
            pass
