"""Entitlements that change without a sign-in, and the audit trail of all changes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from structlog.testing import capture_logs

from sponsorsync.domain.account import NO_VERSION
from sponsorsync.domain.audit import AuditEntry
from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.errors import StoreConflictError
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.store import keys
from sponsorsync.store.audit import AuditTrail
from sponsorsync.store.entitlements import EntitlementChange, EntitlementStore, Saved
from sponsorsync.store.fetching import Fetcher
from tests.support.sync import CATALOG, COLLECTION, PERSON, SPONSORABLE, Pair

BATCH = 100
OTHER = PERSON + 1


def _store(pair: Pair, fetcher: Fetcher | None = None) -> EntitlementStore:
    return EntitlementStore(
        pair.local_store,
        pair.people,
        catalog=CATALOG,
        fetcher=fetcher or pair.engine.hydrator,
    )


def _change(
    version: str, *, until: datetime | None = None, delivery: str = ""
) -> EntitlementChange:
    facts = EntitlementFacts(
        sponsorable=SPONSORABLE,
        checked_at=datetime.now(UTC),
        source=EntitlementSource.SPONSORSHIP,
        tier_cents=500,
        valid_until=until,
    )
    return EntitlementChange(PERSON, facts, version, "webhook", delivery, delivery)


async def _trail(pair: Pair, *, limit: int = 100) -> list[AuditEntry]:
    entries = await AuditTrail(pair.local_store).load(before=None, limit=limit)
    return list(reversed(entries))


async def _version(pair: Pair) -> str:
    return (await _store(pair).load(SPONSORABLE, [PERSON]))[PERSON].version


async def test_facts_on_an_older_version_are_not_saved(pair: Pair) -> None:
    """Other facts were saved since the load, so the caller has to load and evaluate them again."""
    await pair.sign_in(entitled=False)
    version = await _version(pair)
    await pair.sign_in(entitled=False)
    refused = await _store(pair).save([_change(version, delivery="1")])
    saved = await _store(pair).save([_change(await _version(pair), delivery="1")])
    again = await _store(pair).save([_change(NO_VERSION, delivery="1")])

    assert (refused, saved, again) == ([Saved.CHANGED], [Saved.OK], [Saved.SEEN])


async def test_facts_that_only_durable_has_are_fetched_first(pair: Pair) -> None:
    """An event changes the stored facts, so those that local lost are fetched before."""
    await pair.settle()
    await pair.local.flushall()
    await pair.compare()
    await pair.local.delete(keys.sponsorship(SPONSORABLE, PERSON))
    stored = (await _store(pair).load(SPONSORABLE, [PERSON]))[PERSON]

    assert stored.facts is not None
    assert stored.version != "0"


async def test_a_join_on_an_unverified_local_is_indexed_later(pair: Pair) -> None:
    """Local may have restarted with sets older than durable's, so the join waits for the relay."""

    class Unverified:
        is_local_verified = False

    await pair.sign_in(entitled=False)
    store = _store(pair, cast("Fetcher", Unverified()))
    await store.save([_change(await _version(pair))])
    is_indexed = await pair.local.sismember(keys.sponsors(SPONSORABLE), str(PERSON))
    await pair.relay()

    assert not is_indexed
    assert await pair.local.sismember(keys.sponsors(SPONSORABLE), str(PERSON))
    assert await pair.dirty() == set()


THEIR_KEYS = [
    keys.meta(PERSON),
    keys.pending(PERSON),
    keys.NEGATIVE.format(id=PERSON),
    keys.sponsorship(SPONSORABLE, PERSON),
    keys.preferences(PERSON, COLLECTION),
]


@pytest.mark.parametrize("key", [keys.AUDIT, keys.sponsors(SPONSORABLE), *THEIR_KEYS])
async def test_a_wrong_type_key_leaves_everything_unchanged(pair: Pair, key: str) -> None:
    """The change is refused before its first write, for every key that it would write."""
    await _store(pair).load(SPONSORABLE, [PERSON])  # records that durable has nothing
    await pair.local.set(key, "foreign")
    before = sorted(await pair.local.keys("*"))

    with pytest.raises(StoreConflictError):
        await _store(pair).change(
            SPONSORABLE, PERSON, lambda _: _change(NO_VERSION).facts, by="webhook", delivery="1"
        )

    assert sorted(await pair.local.keys("*")) == before


@pytest.mark.parametrize("key", THEIR_KEYS)
async def test_loading_entitlements_skips_the_wrong_type_key_of_another_person(
    pair: Pair, key: str
) -> None:
    """Many people are loaded and saved at once; the log names the wrong-type key."""
    await pair.local.set(key, "foreign")
    store = _store(pair)
    stored = await store.load(SPONSORABLE, [PERSON, OTHER])
    with capture_logs() as logs:
        saved = await store.save(
            [
                _change(stored[PERSON].version),
                replace(_change(stored[OTHER].version), person_id=OTHER),
            ]
        )
    [log] = logs

    assert [stored[each].facts for each in (PERSON, OTHER)] == [None, None]
    assert saved == [Saved.CONFLICT, Saved.OK]
    assert (log["person"], f" {key} " in log["reason"]) == (PERSON, True)


async def test_a_wrong_type_key_is_not_read_as_absent(pair: Pair) -> None:
    """The caller gets the error, also in a service without a durable Redis."""
    key = keys.sponsorship(SPONSORABLE, PERSON)
    await pair.local.set(key, "foreign")
    store = EntitlementStore(pair.local_store, pair.people, catalog=Catalog((), ()), fetcher=None)
    unknown = await store.find_unknown(SPONSORABLE, [PERSON, OTHER])

    with pytest.raises(StoreConflictError) as left:
        await store.change(SPONSORABLE, PERSON, lambda _: None, by="organization")
    with pytest.raises(StoreConflictError) as loaded:
        await store.load_for_certain(SPONSORABLE, PERSON)
    assert unknown == {PERSON}
    assert [f" {key} " in str(error.value.__cause__) for error in (left, loaded)] == [True, True]


_FILL = """
for number = 1, ARGV[1] do
  redis.call('XADD', KEYS[1], number .. '-0', 'id', number)
end
"""
_NODE = 100
"""Entries of one node of a stream by default; `XTRIM ~` removes only whole nodes."""


async def test_the_audit_trail_drops_its_oldest_entries(pair: Pair) -> None:
    """Without a limit the trail would fill the memory of Redis."""
    await pair.local.eval(_FILL, 1, keys.AUDIT, keys.AUDIT_LENGTH + 3 * _NODE)
    await _store(pair).save([_change(NO_VERSION, delivery="1")])
    length = await pair.local.xlen(keys.AUDIT)
    [(oldest, _)] = cast("list[tuple[str, object]]", await pair.local.xrange(keys.AUDIT, count=1))
    latest = (await _trail(pair, limit=1))[0]

    assert keys.AUDIT_LENGTH <= length < keys.AUDIT_LENGTH + _NODE
    assert int(oldest.partition("-")[0]) > 2 * _NODE
    assert (latest.person_id, latest.what) == (PERSON, "granted")


async def test_logins_are_audited(pair: Pair) -> None:
    """A login that changes nothing makes no entry."""
    await pair.sign_in(entitled=False)
    await pair.sign_in()
    await pair.sign_in()
    await pair.sign_in(until=datetime.now(UTC) + timedelta(days=1))
    await pair.lapse()
    await pair.sign_in(entitled=False)
    trail = await _trail(pair)

    assert [(entry.what, entry.by) for entry in trail] == [
        ("granted", "login"),
        ("changed", "login"),
        ("lost", "login"),
    ]
    assert {(entry.person_id, entry.sponsorable) for entry in trail} == {(PERSON, SPONSORABLE)}
    assert (trail[0].before["source"], trail[0].after["source"]) == ("none", "sponsorship")
    assert abs(trail[0].at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_an_entitlement_that_ends_by_time_is_audited_once(pair: Pair) -> None:
    """`sweep_entitlements` writes the entry; a wrong-type key at the trail does not stop it."""
    await pair.sign_in()
    for _ in range(2):
        # As if its end had passed.
        key = keys.sponsorship(SPONSORABLE, PERSON)
        await pair.local.hset(key, "valid_until", "1")
        await pair.local.zadd(keys.ENTITLEMENT_ENDS, {f"{SPONSORABLE}:{PERSON}": 1})
        await pair.local_store.run_script("sweep_entitlements", BATCH)
    trail = await _trail(pair)
    await pair.local.set(keys.AUDIT, "foreign")
    await pair.local.sadd(keys.sponsors(SPONSORABLE), str(PERSON))
    await pair.local.zadd(keys.ENTITLEMENT_ENDS, {f"{SPONSORABLE}:{PERSON}": 1})
    swept = await pair.local_store.run_script("sweep_entitlements", BATCH)

    assert [(entry.what, entry.by) for entry in trail] == [("granted", "login"), ("lost", "end")]
    assert swept == 1
