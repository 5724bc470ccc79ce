"""What a monitoring system scrapes, in the text format of Prometheus.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from sponsorsync.domain.errors import StoreError
from sponsorsync.store import keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sponsorsync.background import Supervisor
    from sponsorsync.redis_pair import RedisPair

# Gauges by the command that counts: what local knows, for all replicas together.
_COUNTED = {
    "sponsorsync_people": ("People who are known.", ("ZCARD", keys.PEOPLE)),
    "sponsorsync_dirty_people": (
        "People with changes that durable has not confirmed.",
        ("SCARD", keys.DIRTY),
    ),
    "sponsorsync_outbox_entries": ("Entries that wake the relay.", ("XLEN", keys.OUTBOX)),
    "sponsorsync_dead_letters": (
        "People whose data one side does not take; `sponsorsync verify` says why.",
        ("HLEN", keys.DEAD_LETTERS),
    ),
}


class Metrics:
    """Counts at the moment of the question; nothing is kept."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(
        self, redis_pair: RedisPair, supervisor: Supervisor, *, sponsorables: Sequence[str]
    ) -> None:
        self._redis_pair = redis_pair
        self._supervisor = supervisor
        self._sponsorables = sponsorables

    async def render(self, events: Mapping[str, int]) -> bytes:
        """Returns all metrics; of a server that is away, that it is.

        Args:
            events: How many of GitHub's this replica has taken, by outcome.
        """
        registry = CollectorRegistry()
        up = Gauge(
            "sponsorsync_redis_up", "Whether a Redis takes writes.", ["side"], registry=registry
        )
        for store in (self._redis_pair.local, self._redis_pair.durable):
            if store is not None:
                try:
                    await store.check_writable()
                    up.labels(store.name).set(1)
                except StoreError:
                    up.labels(store.name).set(0)
        await self._add_counts(registry)
        await self._add_reconciled(registry)
        self._add_relay(registry)
        self._add_loops(registry)
        taken = Counter(
            "sponsorsync_webhook_events",
            "Events of GitHub's that came to this replica.",
            ["outcome"],
            registry=registry,
        )
        for outcome, count in events.items():
            taken.labels(outcome).inc(count)
        return generate_latest(registry)

    async def _add_counts(self, registry: CollectorRegistry) -> None:
        try:
            counts = await self._redis_pair.local.run_together([c for _, c in _COUNTED.values()])
        except StoreError:
            return
        for (name, (text, _)), count in zip(_COUNTED.items(), counts, strict=True):
            Gauge(name, text, registry=registry).set(cast("int", count))

    async def _add_reconciled(self, registry: CollectorRegistry) -> None:
        try:
            reply = await self._redis_pair.local.run("HGETALL", keys.RECONCILED)
            failed = await self._redis_pair.local.run("HKEYS", keys.RECONCILE_FAILED)
        except StoreError:
            return
        began = Gauge(
            "sponsorsync_reconciled_timestamp_seconds",
            "When the last complete comparison with GitHub began, of whichever replica.",
            ["sponsorable"],
            registry=registry,
        )
        for sponsorable, second in cast("dict[bytes, bytes]", reply).items():
            began.labels(sponsorable.decode()).set(float(second))
        failing = Gauge(
            "sponsorsync_reconcile_failing",
            "Whether a comparison with GitHub has failed since the last complete one.",
            ["sponsorable"],
            registry=registry,
        )
        for each in self._sponsorables:
            failing.labels(each).set(each.encode() in cast("list[bytes]", failed))

    def _add_relay(self, registry: CollectorRegistry) -> None:
        engine = self._redis_pair.engine
        if engine is None:
            return
        counts = engine.relay.counts
        for name, text, count in (
            ("sent", "Packages that this replica handed to durable.", counts.sent),
            ("confirmed", "People who left dirty by this replica.", counts.confirmed),
            ("dead_lettered", "Times that this replica set somebody aside.", counts.dead_lettered),
            ("outages", "Times that this replica's relay had to wait.", counts.outages),
        ):
            Counter(f"sponsorsync_relay_{name}", text, registry=registry).inc(count)
        Gauge(
            "sponsorsync_local_verified",
            "Whether local is known not to be older than durable.",
            registry=registry,
        ).set(engine.incarnations.is_local_verified)

    def _add_loops(self, registry: CollectorRegistry) -> None:
        up = Gauge(
            "sponsorsync_background_up",
            "Whether a background loop of this replica has not failed lately.",
            ["loop"],
            registry=registry,
        )
        failures = Counter(
            "sponsorsync_background_failures",
            "Times that a background loop of this replica failed and was restarted.",
            ["loop"],
            registry=registry,
        )
        for loop in self._supervisor.list_loops():
            up.labels(loop.name).set(loop.status == "running")
            failures.labels(loop.name).inc(loop.failures)
