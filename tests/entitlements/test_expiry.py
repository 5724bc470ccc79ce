"""Entitlements that end at their time, without a durable Redis and so without a sync engine."""

from typing import cast

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from sponsorsync.background import open_supervisor
from sponsorsync.entitlements import expiry
from sponsorsync.entitlements.expiry import start_expiry
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.entitlements import end_entitlements
from tests.conftest import SPONSORABLE, RunService
from tests.support.use_cases import MONTHLY
from tests.support.waiting import until


async def test_an_ended_person_leaves_the_index(run_service: RunService, local: Redis) -> None:
    """Other services read the index directly; the audit trail has the cause of the loss."""

    async def is_over() -> bool:
        return not await local.sismember(keys.sponsors(SPONSORABLE), str(MONTHLY))

    async with run_service(durable_url=None, redisent_host=None) as service:
        await service.sign_in("monthly")
        was_entitled = not await is_over()
        await local.hset(keys.sponsorship(SPONSORABLE, MONTHLY), "valid_until", "1795420800")
        await local.zadd(keys.ENTITLEMENT_ENDS, {f"{SPONSORABLE}:{MONTHLY}": 1_795_420_800})
        await until(is_over)

    entries = await local.xrevrange(keys.AUDIT, count=1)
    [(_, last)] = cast("list[tuple[str, dict[str, str]]]", entries)
    assert was_entitled
    assert (last["what"], last["by"], last["id"]) == ("lost", "end", str(MONTHLY))


async def test_an_unexpected_error_does_not_stop_the_expiry(
    local: Redis, local_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise no entitlement would end any more, and nobody would notice."""
    await local.sadd(keys.sponsors(SPONSORABLE), str(MONTHLY))
    await local.zadd(keys.ENTITLEMENT_ENDS, {f"{SPONSORABLE}:{MONTHLY}": 1})
    errors = iter([RuntimeError("unforeseen")])

    async def fail_once(store: RedisStore) -> None:
        for error in errors:
            raise error
        await end_entitlements(store)

    async def has_ended() -> bool:
        return not await local.exists(keys.sponsors(SPONSORABLE))

    monkeypatch.setattr(expiry, "end_entitlements", fail_once)
    monkeypatch.setattr(expiry, "_SWEEP_EVERY_S", 0.01)
    with capture_logs() as logs:
        async with open_supervisor() as supervisor:
            start_expiry(supervisor, local_store)
            await until(has_ended)

    assert [(log["event"], log["loop"], log["log_level"]) for log in logs] == [
        ("loop_failed", "entitlement_ends", "error")
    ]
