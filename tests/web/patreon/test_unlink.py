"""Unlinking, and an account at Patreon that several people link."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.patreon.client import PatreonClient
from sponsorsync.store import keys
from sponsorsync.store.linked_accounts import LinkedAccountStore
from tests.conftest import SPONSORABLE
from tests.support.patronages import (
    LINKED_ACCOUNTS,
    MONTHLY,
    STRANGER,
    entitlement_of,
    patronage_of,
)
from tests.support.waiting import until

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from sponsorsync.patreon.patronage import PatreonIdentity
    from tests.conftest import Browser, Service


# ---------------------------------------------------------------------- one account, one person


async def test_unlinking_ends_it_at_once(service: Service, stranger: Browser) -> None:
    """Twice is no error; then somebody else may link it, and keeps it."""
    await stranger.link_patreon("active")
    before = await stranger.get("/auth/sponsor")
    unlinked = await stranger.post("/patreon/unlink")
    after = await stranger.get("/auth/sponsor")
    other = await service.sign_in("former")
    await other.link_patreon("active")
    again = await stranger.post("/patreon/unlink")

    assert (before.status_code, after.status_code) == (204, 403)
    assert (unlinked.status_code, unlinked.headers["location"]) == (303, "/account")
    assert again.status_code == 303
    assert (await entitlement_of(other))["source"] == "patreon"


async def test_who_links_it_last_has_it(service: Service, stranger: Browser) -> None:
    """The first one loses it at that moment, and may take it back."""
    other = await service.sign_in("former")
    holders = []
    for browser in (stranger, other, stranger, stranger):
        await browser.link_patreon("active")
        holders.append(
            [(await each.get("/auth/sponsor")).status_code for each in (stranger, other)]
        )

    assert holders == [[204, 403], [403, 204], [204, 403], [204, 403]]


async def test_who_linked_it_last_has_it_also_when_local_had_lost_everything(
    service: Service, stranger: Browser, local: Redis, durable: Redis
) -> None:
    """The first one comes back from durable, which tells of both, and is told so by the second."""
    await stranger.link_patreon("active")

    async def is_durable() -> bool:
        return not await local.scard(keys.DIRTY)

    await until(is_durable)
    await local.flushall()
    other = await service.sign_in("former")
    await other.link_patreon("active")
    await stranger.sign_in("stranger")
    doors = [(await each.get("/auth/sponsor")).status_code for each in (stranger, other)]
    await until(is_durable)
    kept = await durable.hget(keys.sponsorship(SPONSORABLE, STRANGER), "also")

    assert (doors, kept) == ([403, 204], None)
    assert await local.hgetall(LINKED_ACCOUNTS) == {"90210010": "29871456"}


@pytest.mark.parametrize(
    ("account_id", "version"),
    [("90210010", "1"), ("90210024", "9" * 16)],
    ids=["an older one", "another one"],
)
async def test_an_index_that_came_back_older_takes_nothing(
    stranger: Browser, local: Redis, durable: Redis, account_id: str, version: str
) -> None:
    """It names who had linked the account before; their grant is older, or of another account."""
    await stranger.link_patreon("active")

    async def is_durable() -> bool:
        return bool(await durable.sismember(keys.sponsors(SPONSORABLE), str(STRANGER)))

    await until(is_durable)
    key, former = keys.sponsorship(SPONSORABLE, STRANGER), 29_871_456
    grant = f'[{{"source": "patreon", "since": 1, "until": 2, "account_id": "{account_id}"}}]'
    await local.hset(keys.sponsorship(SPONSORABLE, former), "also", grant)
    await local.hset(keys.meta(former), f"v:entitlement:{SPONSORABLE}", version)
    await local.hset(LINKED_ACCOUNTS, "90210010", str(former))
    await local.delete(key)

    assert (await entitlement_of(stranger))["source"] == "patreon"
    assert await local.hgetall(LINKED_ACCOUNTS) == {"90210010": str(STRANGER)}


async def test_another_account_takes_the_place_of_the_first(
    service: Service, stranger: Browser
) -> None:
    """One person has one; the first account is free for others again."""
    await stranger.link_patreon("active")
    await stranger.link_patreon("annual")
    other = await service.sign_in("former")
    await other.link_patreon("active")

    assert (await entitlement_of(stranger))["source"] == "patreon"
    assert (await entitlement_of(other))["source"] == "patreon"


async def test_a_deleted_account_frees_it(
    service: Service, stranger: Browser, local: Redis
) -> None:
    """It leaves no trace, and does not take it away from who links it then."""
    await stranger.link_patreon("active")
    before = await local.hgetall(LINKED_ACCOUNTS)
    await stranger.delete("/me")
    left = await local.hgetall(LINKED_ACCOUNTS)
    other = await service.sign_in("former")
    await other.link_patreon("active")
    await stranger.sign_in("stranger")

    assert (before, left) == ({"90210010": str(STRANGER)}, {})
    assert (await entitlement_of(other))["source"] == "patreon"
    assert await patronage_of(stranger) is None


async def test_who_unlinks_takes_the_index_from_nobody_else(
    stranger: Browser, local: Redis
) -> None:
    """Somebody else may stand there by now; they keep being found."""
    await stranger.link_patreon("active")
    await local.hset(LINKED_ACCOUNTS, "90210010", str(MONTHLY))
    await stranger.post("/patreon/unlink")

    assert await local.hgetall(LINKED_ACCOUNTS) == {"90210010": str(MONTHLY)}


async def test_a_stale_index_takes_nothing_from_anybody(
    service: Service, stranger: Browser, local: Redis
) -> None:
    """It says who had linked an account; who has linked another one since keeps that."""
    await stranger.link_patreon("annual")
    await local.hset(LINKED_ACCOUNTS, "90210010", str(STRANGER))
    other = await service.sign_in("former")
    await other.link_patreon("active")

    assert (await entitlement_of(stranger))["source"] == "patreon"
    assert (await entitlement_of(other))["source"] == "patreon"


async def test_who_died_while_linking_keeps_nobody_waiting_for_long(
    stranger: Browser, local: Redis
) -> None:
    """The right to link ends by itself; who has it gives it back."""
    await stranger.link_patreon("active")
    after = await local.exists(keys.linking(EntitlementSource.PATREON, "90210010"))
    await local.set(keys.linking(EntitlementSource.PATREON, "90210010"), "of-who-died", px=300)
    again = await stranger.link_patreon("active")

    assert (after, again.status_code) == (0, 303)


async def test_who_does_not_come_to_an_end_is_503(
    stranger: Browser, local: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is changed, and the other's right stays theirs."""
    monkeypatch.setattr("sponsorsync.store.linked_accounts._WAIT_S", 0.15)
    await local.set(keys.linking(EntitlementSource.PATREON, "90210010"), "of-another", px=60_000)
    answer = await stranger.link_patreon("active")

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert "linking the same account at Patreon" in answer.json()["detail"]
    assert await local.get(keys.linking(EntitlementSource.PATREON, "90210010")) == "of-another"
    assert await patronage_of(stranger) is None


async def test_an_account_that_is_deleted_meanwhile_stays_so(
    stranger: Browser, local: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another tab, while Patreon is asked; the deletion has promised that nothing is kept."""
    back = await stranger.go_to_patreon("active")
    fetch = PatreonClient.fetch_identity

    async def fetch_while_it_is_deleted(client: PatreonClient, token: str) -> PatreonIdentity:
        await stranger.delete("/me")
        return await fetch(client, token)

    monkeypatch.setattr(PatreonClient, "fetch_identity", fetch_while_it_is_deleted)
    answer = await stranger.get(back)

    assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")
    assert await local.exists(LINKED_ACCOUNTS, keys.sponsorship(SPONSORABLE, STRANGER)) == 0


async def test_two_at_once_do_not_both_get_it(
    service: Service, stranger: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever shares an account with friends, and has both press the button together."""
    other = await service.sign_in("former")
    backs = [await each.go_to_patreon("active") for each in (stranger, other)]
    monkeypatch.setattr("sponsorsync.store.linked_accounts._WAIT_S", 0.0)
    find, answers = LinkedAccountStore.find_person, []

    async def find_while_another_links(
        accounts: LinkedAccountStore, source: EntitlementSource, sponsorable: str, account_id: str
    ) -> int | None:
        holder = await find(accounts, source, sponsorable, account_id)
        monkeypatch.setattr(LinkedAccountStore, "find_person", find)
        answers.append(await other.get(backs[1]))
        return holder

    monkeypatch.setattr(LinkedAccountStore, "find_person", find_while_another_links)
    answers.append(await stranger.get(backs[0]))
    doors = [(await each.get("/auth/sponsor")).status_code for each in (stranger, other)]

    assert [answer.status_code for answer in answers] == [503, 303]
    assert doors == [204, 403]


async def test_two_at_once_both_come_to_an_end(service: Service, stranger: Browser) -> None:
    """Who is second waits for the first; one of them has it then."""
    other = await service.sign_in("former")
    backs = [await each.go_to_patreon("active") for each in (stranger, other)]

    answers = await asyncio.gather(stranger.get(backs[0]), other.get(backs[1]))
    doors = [(await each.get("/auth/sponsor")).status_code for each in (stranger, other)]

    assert [answer.status_code for answer in answers] == [303, 303]
    assert sorted(doors) == [204, 403]
