"""Unlinking, and several people who link the same account at Patreon."""

import asyncio

import pytest
from redis.asyncio import Redis

from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.patreon.client import PatreonClient
from sponsorsync.patreon.patronage import PatreonIdentity
from sponsorsync.store import keys
from sponsorsync.store.linked_accounts import LinkedAccountStore
from tests.conftest import SPONSORABLE, Browser, Service
from tests.support.patronages import LINKED_ACCOUNTS, MONTHLY, STRANGER, patronage_of
from tests.support.waiting import until_relayed


async def test_unlinking_ends_the_entitlement_at_once(service: Service, stranger: Browser) -> None:
    """Another person may link the account afterwards; unlinking again does not take it away."""
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
    assert (await other.load_entitlement())["source"] == "patreon"


async def test_an_account_counts_for_its_last_person(service: Service, stranger: Browser) -> None:
    """Each link takes the account away from the person who had linked it before."""
    other = await service.sign_in("former")
    holders = []
    for browser in (stranger, other, stranger, stranger):
        await browser.link_patreon("active")
        holders.append(await _ask(stranger, other))

    assert holders == [[204, 403], [403, 204], [204, 403], [204, 403]]


async def test_the_last_link_counts_also_after_local_lost_everything(
    service: Service, stranger: Browser, local: Redis, durable: Redis
) -> None:
    """The first person's link is fetched from durable later, and must not replace the newer one."""
    await stranger.link_patreon("active")
    await until_relayed(local)
    await local.flushall()
    other = await service.sign_in("former")
    await other.link_patreon("active")
    await stranger.sign_in("stranger")
    doors = await _ask(stranger, other)
    await until_relayed(local)
    kept = await durable.hget(keys.sponsorship(SPONSORABLE, STRANGER), "also")

    assert (doors, kept) == ([403, 204], None)
    assert await local.hgetall(LINKED_ACCOUNTS) == {"90210010": "29871456"}


@pytest.mark.parametrize(
    ("account_id", "version"),
    [("90210010", "1"), ("90210024", "9" * 16)],
    ids=["an older one", "another one"],
)
async def test_an_older_index_of_linked_accounts_removes_no_link(
    stranger: Browser, local: Redis, account_id: str, version: str
) -> None:
    """The index names another person whose grant is older, or is of another account."""
    await stranger.link_patreon("active")
    await until_relayed(local)
    key, former = keys.sponsorship(SPONSORABLE, STRANGER), 29_871_456
    grant = f'[{{"source": "patreon", "since": 1, "until": 2, "account_id": "{account_id}"}}]'
    await local.hset(keys.sponsorship(SPONSORABLE, former), "also", grant)
    await local.hset(keys.meta(former), f"v:entitlement:{SPONSORABLE}", version)
    await local.hset(LINKED_ACCOUNTS, "90210010", str(former))
    await local.delete(key)

    assert (await stranger.load_entitlement())["source"] == "patreon"
    assert await local.hgetall(LINKED_ACCOUNTS) == {"90210010": str(STRANGER)}


async def test_a_second_account_replaces_the_first(service: Service, stranger: Browser) -> None:
    """A person has one linked account, so the first one is free for other people."""
    await stranger.link_patreon("active")
    await stranger.link_patreon("annual")
    other = await service.sign_in("former")
    await other.link_patreon("active")

    assert (await stranger.load_entitlement())["source"] == "patreon"
    assert (await other.load_entitlement())["source"] == "patreon"


async def test_deletion_frees_an_account(service: Service, stranger: Browser, local: Redis) -> None:
    """After the deletion another person links the account, and keeps it when the first returns."""
    await stranger.link_patreon("active")
    before = await local.hgetall(LINKED_ACCOUNTS)
    await stranger.delete("/me")
    left = await local.hgetall(LINKED_ACCOUNTS)
    other = await service.sign_in("former")
    await other.link_patreon("active")
    await stranger.sign_in("stranger")

    assert (before, left) == ({"90210010": str(STRANGER)}, {})
    assert (await other.load_entitlement())["source"] == "patreon"
    assert await patronage_of(stranger) is None


async def test_unlinking_leaves_another_persons_entry(stranger: Browser, local: Redis) -> None:
    """The index already names another person for the account; that entry stays."""
    await stranger.link_patreon("active")
    await local.hset(LINKED_ACCOUNTS, "90210010", str(MONTHLY))
    await stranger.post("/patreon/unlink")

    assert await local.hgetall(LINKED_ACCOUNTS) == {"90210010": str(MONTHLY)}


async def test_a_stale_index_ends_no_other_link(
    service: Service, stranger: Browser, local: Redis
) -> None:
    """The index names a person for an account that this person has replaced by another one."""
    await stranger.link_patreon("annual")
    await local.hset(LINKED_ACCOUNTS, "90210010", str(STRANGER))
    other = await service.sign_in("former")
    await other.link_patreon("active")

    assert (await stranger.load_entitlement())["source"] == "patreon"
    assert (await other.load_entitlement())["source"] == "patreon"


async def test_the_lock_of_a_dead_replica_expires(stranger: Browser, local: Redis) -> None:
    """A running replica releases the lock itself; that of a dead one ends with its TTL."""
    await stranger.link_patreon("active")
    after = await local.exists(keys.linking(EntitlementSource.PATREON, "90210010"))
    await local.set(keys.linking(EntitlementSource.PATREON, "90210010"), "of-who-died", px=300)
    again = await stranger.link_patreon("active")

    assert (after, again.status_code) == (0, 303)


async def test_a_lock_that_is_not_released_is_503(
    stranger: Browser, local: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is saved, and the lock stays with its holder."""
    monkeypatch.setattr("sponsorsync.store.linked_accounts._WAIT_S", 0.15)
    await local.set(keys.linking(EntitlementSource.PATREON, "90210010"), "of-another", px=60_000)
    answer = await stranger.link_patreon("active")

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert "linking the same account at Patreon" in answer.json()["detail"]
    assert await local.get(keys.linking(EntitlementSource.PATREON, "90210010")) == "of-another"
    assert await patronage_of(stranger) is None


async def test_a_link_does_not_restore_an_account_deleted_meanwhile(
    stranger: Browser, local: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person deletes the account in another tab while our service waits for Patreon."""
    back = await stranger.go_to_patreon("active")
    fetch = PatreonClient.fetch_identity

    async def fetch_while_it_is_deleted(client: PatreonClient, token: str) -> PatreonIdentity:
        await stranger.delete("/me")
        return await fetch(client, token)

    monkeypatch.setattr(PatreonClient, "fetch_identity", fetch_while_it_is_deleted)
    answer = await stranger.get(back)

    assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")
    assert await local.exists(LINKED_ACCOUNTS, keys.sponsorship(SPONSORABLE, STRANGER)) == 0


async def test_two_links_at_once_give_one_entitlement(
    service: Service, stranger: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people link the same account; the one that does not get the lock is answered 503."""
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
    doors = await _ask(stranger, other)

    assert [answer.status_code for answer in answers] == [503, 303]
    assert doors == [204, 403]


async def test_two_links_at_once_both_finish(service: Service, stranger: Browser) -> None:
    """The second link waits for the lock, so both finish; one of the two people is entitled."""
    other = await service.sign_in("former")
    backs = [await each.go_to_patreon("active") for each in (stranger, other)]

    answers = await asyncio.gather(stranger.get(backs[0]), other.get(backs[1]))
    doors = await _ask(stranger, other)

    assert [answer.status_code for answer in answers] == [303, 303]
    assert sorted(doors) == [204, 403]


async def _ask(*browsers: Browser) -> list[int]:
    return [(await each.get("/auth/sponsor")).status_code for each in browsers]
