"""Metrics for a monitoring system, in the text format of Prometheus.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from sponsorsync.background import Supervisor
from sponsorsync.domain.errors import StoreError
from sponsorsync.redis_pair import RedisPair
from sponsorsync.store import keys

# Gauges that are each the reply of one command on local, so they are the same for all replicas.
_COUNTED = {
    "sponsorsync_people": ("People with stored data.", ("ZCARD", keys.PEOPLE)),
    "sponsorsync_dirty_people": (
        "People whose changes durable has not confirmed.",
        ("SCARD", keys.DIRTY),
    ),
    "sponsorsync_outbox_entries": ("Outbox entries that wake the relay.", ("XLEN", keys.OUTBOX)),
    "sponsorsync_dead_letters": (
        "People whose data one side refuses; `sponsorsync verify` says why.",
        ("HLEN", keys.DEAD_LETTERS),
    ),
}


@dataclass
class Metrics:
    """Collects the metrics anew at each request."""

    content_type = CONTENT_TYPE_LATEST

    redis_pair: RedisPair
    supervisor: Supervisor
    sponsorables: Sequence[str]

    async def render(self, events: Mapping[str, int]) -> bytes:
        """Returns all metrics as text, without those of a server that cannot be asked.

        `events` are the numbers of GitHub events that this replica received, by outcome.
        """
        registry = CollectorRegistry()
        up = _gauge(registry, "sponsorsync_redis_up", "Whether a Redis takes writes.", "redis")
        for store in (self.redis_pair.local, self.redis_pair.durable):
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
        text = "GitHub events that this replica received."
        received = _counter(registry, "sponsorsync_webhook_events", text, "outcome")
        for outcome, count in events.items():
            received.labels(outcome).inc(count)
        return generate_latest(registry)

    async def _add_counts(self, registry: CollectorRegistry) -> None:
        try:
            counts = await self.redis_pair.local.run_together([c for _, c in _COUNTED.values()])
        except StoreError:
            return
        for (name, (text, _)), count in zip(_COUNTED.items(), counts, strict=True):
            _gauge(registry, name, text).set(cast("int", count))

    async def _add_reconciled(self, registry: CollectorRegistry) -> None:
        try:
            reply = await self.redis_pair.local.run("HGETALL", keys.RECONCILED)
            failed = await self.redis_pair.local.run("HKEYS", keys.RECONCILE_FAILED)
        except StoreError:
            return
        text = "Start of the last complete comparison with GitHub, of any replica."
        name = "sponsorsync_reconciled_timestamp_seconds"
        began = _gauge(registry, name, text, "sponsorable")
        for sponsorable, second in cast("dict[bytes, bytes]", reply).items():
            began.labels(sponsorable.decode()).set(float(second))
        text = "Whether a comparison with GitHub has failed since the last complete one."
        failing = _gauge(registry, "sponsorsync_reconcile_failing", text, "sponsorable")
        for each in self.sponsorables:
            failing.labels(each).set(each.encode() in cast("list[bytes]", failed))

    def _add_relay(self, registry: CollectorRegistry) -> None:
        engine = self.redis_pair.engine
        if engine is None:
            return
        counts = engine.relay.counts
        for name, text, count in (
            ("sent", "Person records that this replica sent to durable.", counts.sent),
            ("confirmed", "People whose changes this replica had confirmed.", counts.confirmed),
            ("dead_lettered", "People moved to the dead letters.", counts.dead_lettered),
            ("outages", "Outages that made this replica's relay wait.", counts.outages),
        ):
            _counter(registry, f"sponsorsync_relay_{name}", text).inc(count)
        text = "Whether local was verified to be as new as durable."
        verified = _gauge(registry, "sponsorsync_local_verified", text)
        verified.set(engine.incarnations.is_local_verified)

    def _add_loops(self, registry: CollectorRegistry) -> None:
        text = "Whether a background loop of this replica works."
        up = _gauge(registry, "sponsorsync_background_up", text, "loop")
        text = "Failures after which a background loop of this replica was restarted."
        failures = _counter(registry, "sponsorsync_background_failures", text, "loop")
        for loop in self.supervisor.list_loops():
            up.labels(loop.name).set(loop.status == "running")
            failures.labels(loop.name).inc(loop.failures)


def _gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, registry=registry)


def _counter(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=registry)
