"""With RedisJSON, each server also has the hashes of a person as one JSON document.

We do not ship the module: without SPONSORSYNC_TEST_REJSON these tests check only that its absence
costs nothing. CONTRIBUTING.md says where to get it.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from sponsorsync.domain.account import NO_VERSION, StoredEntitlement
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.profile import Profile
from sponsorsync.domain.sources import EntitlementSource, PaymentSource
from sponsorsync.domain.sponsorship import Privacy
from sponsorsync.sandbox.valkey import EmbeddedValkey, run_valkey
from sponsorsync.store import keys
from sponsorsync.store.scripts import load_script
from tests.support.sync import PERSON, SPONSORABLE, Pair, open_pair

REJSON = os.environ.get("SPONSORSYNC_TEST_REJSON", "")
DOCUMENT = keys.USER_DETAILS_JSON.format(id=PERSON)
PROFILE = keys.user_details(PERSON)
FACTS = keys.sponsorship(SPONSORABLE, PERSON)
MONDAY = datetime(2026, 11, 23, 8, tzinfo=UTC)
MONDAY_S = 1795420800


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def json_servers(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[list[EmbeddedValkey]]:
    """Two servers with the module: local and durable."""
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
async def documented(json_servers: list[EmbeddedValkey]) -> AsyncIterator[Pair]:
    """A pair of empty servers with the module."""
    async with _open_empty(json_servers, user="") as opened:
        yield opened


@pytest.fixture(params=["dumps", "values"])
async def either(
    request: pytest.FixtureRequest, json_servers: list[EmbeddedValkey]
) -> AsyncIterator[Pair]:
    """A pair that sends dumps, then one that sends values because its users may not RESTORE."""
    commands = [] if request.param == "dumps" else ["-restore"]
    async with _open_empty(json_servers, user="some", commands=commands) as opened:
        assert opened.engine.incarnations.can_dump_to_durable == (request.param == "dumps")
        yield opened


@pytest.fixture
async def forbidden(json_servers: list[EmbeddedValkey]) -> AsyncIterator[Pair]:
    """A pair whose users may not write JSON documents."""
    async with _open_empty(json_servers, user="some", commands=["-json.set"]) as opened:
        yield opened


async def test_a_login_writes_one_document_of_all_facts(documented: Pair) -> None:
    """Numbers and booleans keep their types, so queries can compare them; times are seconds."""
    await _sign_in(documented)

    assert await _load(documented.local) == {
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


async def test_a_document_without_sponsorships_has_an_empty_object(documented: Pair) -> None:
    """`cjson` writes an empty Lua table as `{}`, so a search index finds an object at this path."""
    await documented.sign_in(entitled=None)

    document = await documented.local_store.run("JSON.GET", DOCUMENT, ".sponsorships")
    assert document == b"{}"


@pytest.mark.parametrize("text", ["nan", "0x10", "1e3", "-1", "", "123456789012345678"])
async def test_a_value_that_is_no_safe_number_stays_text(documented: Pair, text: str) -> None:
    """JSON has no nan, and cjson rounds long numbers: such values must not fail a login."""
    await documented.sign_in()
    await documented.local.hset(FACTS, "tier_cents", text)
    await documented.sign_in(entitled=None)

    document = await _load(documented.local)
    assert document["sponsorships"][SPONSORABLE]["tier_cents"] == text


async def test_both_servers_have_the_same_document_after_each_change(either: Pair) -> None:
    """The changes are a new person, a lapse, and the removal of a name."""
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
    """The fetch rebuilds the document from the hashes; records do not contain it."""
    await _sign_in(either)
    await either.relay()
    before = await _load(either.local)
    await either.local.flushall()

    await either.items()

    assert await _load(either.local) == before


async def test_a_repaired_foreign_write_is_in_the_document(documented: Pair) -> None:
    """`verify --fix` gives the write a version, as for any other change."""
    await documented.settle()
    await documented.local.hset(PROFILE, "name", "Ada")

    await documented.engine.verifier.run(fix=True)

    assert (await _load(documented.local))["name"] == "Ada"
    assert (await _load(documented.durable))["name"] == "Ada"


async def test_a_document_that_is_lost_comes_back_with_the_next_change(documented: Pair) -> None:
    """Any change writes the document, so a snapshot fills a durable that just got the module."""
    await documented.settle()
    before = await _load(documented.durable)
    await documented.durable.delete(DOCUMENT)
    await documented.add("a")
    await documented.relay()

    assert await _load(documented.durable) == before


async def test_a_change_of_preferences_alone_writes_no_document_on_durable(
    documented: Pair,
) -> None:
    """Preferences change most often, and the document does not contain them."""
    await documented.settle()
    await documented.durable.config_resetstat()
    await documented.add("a")
    await documented.relay()

    assert "cmdstat_json.set" not in await documented.durable.info("commandstats")


async def test_verify_ignores_documents(documented: Pair) -> None:
    """Documents are copies of the hashes, which verify compares."""
    await documented.settle()
    await documented.local.delete(DOCUMENT)

    assert (await documented.engine.verifier.run()).agrees


async def test_a_deleted_account_leaves_no_document_on_either_server(either: Pair) -> None:
    """The document is personal data, as the hashes are."""
    await either.settle()
    assert await either.durable.exists(DOCUMENT) == 1
    await either.people.delete_account(PERSON)
    assert await either.local.exists(DOCUMENT) == 0

    await either.relay()

    assert await either.durable.exists(DOCUMENT) == 0


async def test_a_deletion_removes_parts_from_the_document(documented: Pair) -> None:
    """Local is older, and gets the deletion of an account from durable."""
    await documented.sign_in()
    record = await documented.pack()
    await documented.apply(record)
    deleted = await documented.local.hget(keys.meta(PERSON), "v:profile")
    await documented.durable.hset(keys.meta(PERSON), "x", str(deleted))
    await documented.durable.delete(PROFILE, FACTS)
    content = await documented.read_for_fetch("token")
    await documented.fill("token", content)

    assert await documented.local.exists(PROFILE, DOCUMENT) == 0


async def test_a_wrong_type_key_in_the_documents_place_stops_nothing(documented: Pair) -> None:
    """The hashes are authoritative, so their copy must not fail a sign-in or a deletion."""
    for client in (documented.local, documented.durable):
        await client.set(DOCUMENT, "foreign")
    await documented.settle()

    assert await documented.durable.exists(PROFILE, FACTS) == 2
    await documented.people.delete_account(PERSON)
    await documented.relay()
    assert await documented.durable.exists(PROFILE, FACTS) == 0
    assert [await each.get(DOCUMENT) for each in (documented.local, documented.durable)] == [
        "foreign"
    ] * 2


async def test_a_wrong_type_key_in_the_facts_place_is_no_sponsorship(documented: Pair) -> None:
    """The document has no sponsorship then, and a login without new facts does not fail."""
    await documented.sign_in()
    await documented.local.set(FACTS, "foreign")
    await documented.save_login(entitled=None, version=NO_VERSION)

    assert (await _load(documented.local))["sponsorships"] == {}


async def test_a_text_that_is_not_utf8_is_relayed_without_a_document(documented: Pair) -> None:
    """RedisJSON refuses such text; the document is removed, for it would be outdated."""
    await documented.settle()
    await documented.local_store.run("HSET", PROFILE, "team", b"\xff")
    await documented.settle()

    assert await documented.durable_store.run("HGET", PROFILE, "team") == b"\xff"
    assert await documented.local.exists(DOCUMENT) == await documented.durable.exists(DOCUMENT) == 0
    await documented.local.hset(PROFILE, "team", "x")
    await documented.sign_in()
    assert (await _load(documented.local))["team"] == "x"


async def test_a_user_without_the_right_writes_no_documents(
    json_servers: list[EmbeddedValkey], forbidden: Pair
) -> None:
    """An earlier document is removed, and the ACL log gets no entry."""
    for server in json_servers:
        async with Redis.from_url(server.url) as client:
            await client.execute_command("JSON.SET", DOCUMENT, ".", "{}")  # type: ignore[no-untyped-call]
            await client.acl_log_reset()
    await forbidden.settle()

    for client in (forbidden.local, forbidden.durable):
        assert await client.exists(PROFILE) == 1
        assert await client.exists(DOCUMENT) == 0
        assert await client.acl_log() == []


async def test_a_server_without_the_module_runs_no_command_for_it(pair: Pair) -> None:
    """Needless commands would slow a snapshot down, and their errors would raise alarms."""
    await pair.sign_in()
    for client in (pair.local, pair.durable):
        await client.config_resetstat()
    await pair.settle()

    assert await pair.durable.exists(PROFILE, DOCUMENT) == 1
    for client in (pair.local, pair.durable):
        assert set(await client.info("errorstats")) <= {"errorstat_NOSCRIPT"}
    commands = await pair.durable.info("commandstats")
    assert {"cmdstat_hkeys", "cmdstat_hgetall", "cmdstat_del"}.isdisjoint(commands)


async def test_redis_6_writes_documents_without_acl_check_cmd(pair: Pair, documented: Pair) -> None:
    """Redis 6, on which RedisGears runs, has no `redis.acl_check_cmd`."""
    script = load_script("repair").replace("redis.acl_check_cmd then", "nil then")
    for each in (pair, documented):
        await each.sign_in()
        await each.local.delete(DOCUMENT)
        await each.local.config_resetstat()
        assert await each.local_store.run("EVAL", script, 0, PERSON, "mark", "profile") == b"ok"

    assert "cmdstat_hgetall" not in await pair.local.info("commandstats")
    assert await documented.local.exists(DOCUMENT) == 1


# ------------------------------------------------------------------


@asynccontextmanager
async def _open_empty(
    servers: list[EmbeddedValkey], *, user: str, commands: list[str] | None = None
) -> AsyncIterator[Pair]:
    """Opens an empty pair as a user with these rights; '' is the default user with all rights."""
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


async def _sign_in(documented: Pair) -> None:
    """Saves a login with all facts except an e-mail address."""
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
    await documented.people.save_login(
        profile, [StoredEntitlement(facts, NO_VERSION)], replaces=None
    )


async def _load(client: Redis) -> dict[str, Any]:
    """Returns the document of a server."""
    reply = await client.execute_command("JSON.GET", DOCUMENT)  # type: ignore[no-untyped-call]
    document: dict[str, Any] = json.loads(reply)
    return document
