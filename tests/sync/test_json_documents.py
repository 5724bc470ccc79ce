"""Where a server has RedisJSON, each person's hashes are there as one document, always in step.

The module is not ours to ship: without SPONSORSYNC_TEST_REJSON only that its absence costs nothing
is tested. CONTRIBUTING.md says where to get it.
"""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from sponsorsync.domain.account import NO_VERSION, StoredEntitlement
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.profile import Profile
from sponsorsync.domain.sources import EntitlementSource, PaymentSource
from sponsorsync.domain.sponsorship import Privacy
from sponsorsync.sandbox.valkey import run_valkey
from sponsorsync.store import keys
from sponsorsync.store.scripts import load_script
from sponsorsync.sync.person_records import apply_records, pack_people
from tests.support.sync import CATALOG, PERSON, SPONSORABLE, Pair, open_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sponsorsync.sandbox.valkey import EmbeddedValkey

REJSON = os.environ.get("SPONSORSYNC_TEST_REJSON", "")
DOCUMENT = keys.user_details_json(PERSON)
PROFILE = keys.user_details(PERSON)
FACTS = keys.sponsorship(SPONSORABLE, PERSON)
MONDAY = datetime(2026, 11, 23, 8, tzinfo=UTC)
MONDAY_S = 1795420800


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def json_servers(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[list[EmbeddedValkey]]:
    """Both servers, with the module."""
    if not REJSON:
        pytest.skip("SPONSORSYNC_TEST_REJSON does not name a rejson.so")
    config = {"loadmodule": REJSON}
    folder = tmp_path_factory.mktemp("json")
    async with (
        run_valkey(folder / "local", name="local", extra_config=config) as local,
        run_valkey(folder / "durable", name="durable", extra_config=config) as durable,
    ):
        yield [local, durable]


@pytest.fixture
async def pair(json_servers: list[EmbeddedValkey]) -> AsyncIterator[Pair]:
    """A replica of the service between them, empty."""
    async with _open_empty(json_servers, user="") as opened:
        yield opened


@pytest.fixture(params=["dumps", "values"])
async def either(
    request: pytest.FixtureRequest, json_servers: list[EmbeddedValkey]
) -> AsyncIterator[Pair]:
    """The same; and one whose users may not restore dumps, so that values travel."""
    commands = [] if request.param == "dumps" else ["-restore"]
    async with _open_empty(json_servers, user="some", commands=commands) as opened:
        assert opened.engine.incarnations.can_dump_to_durable == (request.param == "dumps")
        yield opened


@pytest.fixture
async def forbidden(json_servers: list[EmbeddedValkey]) -> AsyncIterator[Pair]:
    """The same, whose users may not write documents."""
    async with _open_empty(json_servers, user="some", commands=["-json.set"]) as opened:
        yield opened


@pytest.fixture
async def plain(
    local_server: EmbeddedValkey, durable_server: EmbeddedValkey, local: Redis, durable: Redis
) -> AsyncIterator[Pair]:
    """A pair without the module."""
    assert local is not durable  # both are empty now
    async with open_pair(local_server.url, durable_server.url) as opened:
        yield opened


async def test_a_login_writes_all_that_is_known_as_one_document(pair: Pair) -> None:
    """Numbers and booleans are such, so that a query may compare them; moments are seconds."""
    await _sign_in(pair)

    assert await _load(pair.local) == {
        "id": PERSON,
        "user_login": "31415926",
        "name": 'Zoë "Z" /\x00',
        "avatar_url": "https://avatars.test/1",
        "first_seen": MONDAY_S,
        "last_login": MONDAY_S,
        "sponsorships": {
            SPONSORABLE: {
                "source": "sponsorship",
                "tier_cents": 500,
                "is_one_time": True,
                "privacy": "private",
                "payment_source": "github",
                "since": MONDAY_S,
                "valid_until": MONDAY_S + 86400,
                "checked_at": MONDAY_S,
                "unknown_since": MONDAY_S,
            }
        },
    }


async def test_a_document_without_sponsorships_has_an_empty_object(pair: Pair) -> None:
    """An empty list would become an object, and an index would not find its path."""
    await pair.sign_in(entitled=None)

    document = await pair.local_store.run("JSON.GET", DOCUMENT, ".sponsorships")
    assert document == b"{}"


@pytest.mark.parametrize("text", ["nan", "0x10", "1e3", "-1", "", "123456789012345678"])
async def test_a_value_that_is_no_safe_number_stays_text(pair: Pair, text: str) -> None:
    """JSON has no nan, and cjson rounds long numbers: neither may fail a login."""
    await pair.sign_in()
    await pair.local.hset(FACTS, "tier_cents", text)
    await pair.sign_in(entitled=None)

    document = await _load(pair.local)
    assert document["sponsorships"][SPONSORABLE]["tier_cents"] == text


async def test_both_servers_have_the_same_document_after_each_change(either: Pair) -> None:
    """For a new person, a lapse, and a removed name."""
    await _sign_in(either)
    await either.relay()
    new = await _load(either.durable)
    assert new == await _load(either.local)
    assert new["sponsorships"][SPONSORABLE]["tier_cents"] == 500

    await either.lapse()
    await either.relay()
    assert await _load(either.durable) == await _load(either.local) != new
    assert "name" not in await _load(either.durable)


async def test_a_flushed_local_has_its_document_back_with_the_first_read(either: Pair) -> None:
    """It is built from the hashes: no record carries it."""
    await _sign_in(either)
    await either.relay()
    before = await _load(either.local)
    await either.local.flushall()

    await either.items()

    assert await _load(either.local) == before


async def test_a_foreign_write_is_in_the_document_once_it_is_found(pair: Pair) -> None:
    """The comparison makes it a change like any other."""
    await pair.sign_in()
    await pair.relay()
    await pair.local.hset(PROFILE, "name", "Ada")

    await pair.engine.verifier.run(fix=True)

    assert (await _load(pair.local))["name"] == "Ada"
    assert (await _load(pair.durable))["name"] == "Ada"


async def test_a_document_that_is_lost_comes_back_with_the_next_change(pair: Pair) -> None:
    """Also a change of something else: a snapshot fills a durable that got the module today."""
    await pair.sign_in()
    await pair.relay()
    before = await _load(pair.durable)
    await pair.durable.delete(DOCUMENT)
    await pair.add("a")
    await pair.relay()

    assert await _load(pair.durable) == before


async def test_a_change_of_preferences_alone_writes_no_document_on_durable(pair: Pair) -> None:
    """It is the change that travels most, and the document does not have them."""
    await pair.sign_in()
    await pair.relay()
    await pair.durable.config_resetstat()
    await pair.add("a")
    await pair.relay()

    assert "cmdstat_json.set" not in await pair.durable.info("commandstats")


async def test_verify_does_not_look_at_it(pair: Pair) -> None:
    """It is no truth that could differ."""
    await pair.sign_in()
    await pair.relay()
    await pair.local.delete(DOCUMENT)

    assert (await pair.engine.verifier.run()).agrees


async def test_a_deleted_account_leaves_no_document_on_either_side(either: Pair) -> None:
    """A copy is personal data too."""
    await either.sign_in()
    await either.relay()
    assert await either.durable.exists(DOCUMENT) == 1
    await either.people.delete_account(PERSON)
    assert await either.local.exists(DOCUMENT) == 0

    await either.relay()

    assert await either.durable.exists(DOCUMENT) == 0


async def test_a_deletion_removes_parts_from_the_document(pair: Pair) -> None:
    """Local came back from before a deletion that durable has."""
    await pair.sign_in()
    record = await pack_people(pair.local_store, [PERSON], what="entitled", catalog=CATALOG)
    await apply_records(pair.durable_store, record, catalog=CATALOG)
    deleted = await pair.local.hget(keys.meta(PERSON), "v:profile")
    await pair.durable.hset(keys.meta(PERSON), "x", str(deleted))
    await pair.durable.delete(PROFILE, FACTS)
    content = await pair.read_for_fetch("token")
    await pair.fill("token", content)

    assert await pair.local.exists(PROFILE, DOCUMENT) == 0


async def test_a_wrong_type_key_in_the_documents_place_stops_nothing(pair: Pair) -> None:
    """The hash is the truth: a copy of it fails no sign-in and no deletion."""
    for client in (pair.local, pair.durable):
        await client.set(DOCUMENT, "foreign")
    await pair.sign_in()
    await pair.relay()

    assert await pair.durable.exists(PROFILE, FACTS) == 2
    await pair.people.delete_account(PERSON)
    await pair.relay()
    assert await pair.durable.exists(PROFILE, FACTS) == 0
    assert [await each.get(DOCUMENT) for each in (pair.local, pair.durable)] == ["foreign"] * 2


async def test_a_wrong_type_key_in_the_facts_place_is_no_sponsorship(pair: Pair) -> None:
    """A login without new facts does not read them, and must not fail."""
    await pair.sign_in()
    await pair.local.delete(FACTS)
    await pair.local.set(FACTS, "foreign")
    await pair.save_login(entitled=None, version=NO_VERSION)

    assert (await _load(pair.local))["sponsorships"] == {}


async def test_a_text_that_is_not_utf8_travels_and_leaves_no_older_document(pair: Pair) -> None:
    """The module refuses it: no document is better than one that says what is no longer so."""
    await pair.sign_in()
    await pair.relay()
    await pair.local_store.run("HSET", PROFILE, "team", b"\xff")
    await pair.sign_in()
    await pair.relay()

    assert await pair.durable_store.run("HGET", PROFILE, "team") == b"\xff"
    assert await pair.local.exists(DOCUMENT) == await pair.durable.exists(DOCUMENT) == 0
    await pair.local.hset(PROFILE, "team", "x")
    await pair.sign_in()
    assert (await _load(pair.local))["team"] == "x"


async def test_a_user_without_the_right_to_write_documents_has_none(
    json_servers: list[EmbeddedValkey], forbidden: Pair
) -> None:
    """Not even an earlier one; and refusals do not fill the log."""
    for server in json_servers:
        async with Redis.from_url(server.url) as client:
            await client.execute_command("JSON.SET", DOCUMENT, ".", "{}")  # type: ignore[no-untyped-call]
            await client.acl_log_reset()
    await forbidden.sign_in()
    await forbidden.relay()

    for client in (forbidden.local, forbidden.durable):
        assert await client.exists(PROFILE) == 1
        assert await client.exists(DOCUMENT) == 0
        assert await client.acl_log() == []


async def test_a_server_without_the_module_runs_no_command_for_it(plain: Pair) -> None:
    """A snapshot of everybody is made of these scripts; and an error counted is an alarm."""
    await plain.sign_in()
    for client in (plain.local, plain.durable):
        await client.config_resetstat()
    await plain.sign_in()
    await plain.relay()

    assert await plain.durable.exists(PROFILE, DOCUMENT) == 1
    for client in (plain.local, plain.durable):
        assert set(await client.info("errorstats")) <= {"errorstat_NOSCRIPT"}
    commands = await plain.durable.info("commandstats")
    assert {"cmdstat_hkeys", "cmdstat_hgetall", "cmdstat_del"}.isdisjoint(commands)


async def test_redis_6_is_asked_in_its_own_way(plain: Pair, pair: Pair) -> None:
    """It has no `acl_check_cmd`, and RedisGears runs on it."""
    script = load_script("repair").replace("redis.acl_check_cmd then", "nil then")
    for each in (plain, pair):
        await each.sign_in()
        await each.local.delete(DOCUMENT)
        await each.local.config_resetstat()
        assert await each.local_store.run("EVAL", script, 0, PERSON, "mark", "profile") == b"ok"

    assert "cmdstat_hgetall" not in await plain.local.info("commandstats")
    assert await pair.local.exists(DOCUMENT) == 1


# ------------------------------------------------------------------


@asynccontextmanager
async def _open_empty(
    servers: list[EmbeddedValkey], *, user: str, commands: list[str] | None = None
) -> AsyncIterator[Pair]:
    """Opens a pair as a user of these rights ('': as who may do all)."""
    address = f"redis://{user}{':secret@' if user else ''}127.0.0.1:{{}}/0"
    for server in servers:
        async with Redis.from_url(server.url) as client:
            await client.flushall()
            await client.acl_setuser(
                "some",
                enabled=True,
                reset=True,
                passwords=["+secret"],
                keys=["*"],
                channels=["*"],
                commands=["+@all", *(commands or [])],
            )
    async with open_pair(*(address.format(server.port) for server in servers)) as opened:
        yield opened


async def _sign_in(pair: Pair) -> None:
    """Keeps a login of whom everything is known but an address."""
    profile = Profile(
        id=PERSON,
        login="31415926",
        name='Zoë "Z" /\x00',
        email=None,
        avatar_url="https://avatars.test/1",
        first_seen=MONDAY,
        last_login=MONDAY,
    )
    facts = EntitlementFacts(
        sponsorable=SPONSORABLE,
        checked_at=MONDAY,
        source=EntitlementSource.SPONSORSHIP,
        tier_cents=500,
        is_one_time=True,
        privacy=Privacy.PRIVATE,
        payment_source=PaymentSource.GITHUB,
        since=MONDAY,
        valid_until=MONDAY + timedelta(days=1),
        unknown_since=MONDAY,
    )
    await pair.people.save_login(profile, [StoredEntitlement(facts, NO_VERSION)], replaces=None)


async def _load(client: Redis) -> dict[str, Any]:
    """Returns the document as the server has it."""
    reply = await client.execute_command("JSON.GET", DOCUMENT)  # type: ignore[no-untyped-call]
    document: dict[str, Any] = json.loads(reply)
    return document
