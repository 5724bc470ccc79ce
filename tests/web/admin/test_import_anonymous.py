"""Import of an anonymous visitor's preferences."""

import httpx
from redis.asyncio import Redis

from sponsorsync.store import keys
from tests.conftest import Browser
from tests.support.administration import MONTHLY

VISITOR = 10**12 + 5


async def test_an_import_adds_a_visitors_preferences(sponsor_admin: Browser, local: Redis) -> None:
    """An import may be larger than one change, can be repeated, and keeps the visitor's set."""
    items = [f"node-{number:04}" for number in range(1500)]
    await local.hset(keys.visitor(VISITOR), "theirs", "1")
    await local.sadd(keys.preferences(VISITOR, "mnodes"), *items)
    await sponsor_admin.put("/preferences/mnodes/own")

    answers = [await _import(sponsor_admin) for _ in range(2)]
    items_after = (await sponsor_admin.get("/preferences/mnodes")).json()["items"]

    assert [answer.json() for answer in answers] == [
        {"id": MONTHLY, "collections": {"mnodes": 1500}}
    ] * 2
    assert items_after == [*items, "own"]
    assert await local.scard(keys.preferences(VISITOR, "mnodes")) == 1500


async def test_an_empty_visitors_import_adds_nothing(sponsor_admin: Browser, local: Redis) -> None:
    """A visitor without preferences is not an error."""
    await local.hset(keys.visitor(VISITOR), "theirs", "1")

    answer = await _import(sponsor_admin)

    assert answer.json() == {"id": MONTHLY, "collections": {"mnodes": 0}}


async def test_an_import_needs_a_visitor_and_a_person(sponsor_admin: Browser, local: Redis) -> None:
    """The source has to be a visitor, so no sponsor's set is copied into another account."""
    await local.hset(keys.visitor(VISITOR), "theirs", "1")

    answers = [
        await _import(sponsor_admin, visitor=MONTHLY),
        await _import(sponsor_admin, person=1),
        await _import(sponsor_admin, visitor=-1),
        await sponsor_admin.post(f"/admin/people/{MONTHLY}/import-anonymous", json={}),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 422, 422]
    assert "no visitor" in answers[0].json()["detail"]
    assert "has signed in" in answers[1].json()["detail"]


async def test_an_import_refuses_items_of_wrong_form(sponsor_admin: Browser, local: Redis) -> None:
    """The application writes the visitor's set, which may contain anything."""
    key = keys.preferences(VISITOR, "mnodes")
    await local.hset(keys.visitor(VISITOR), "theirs", "1")
    await local.eval("redis.call('SADD', KEYS[1], '\\255')", 1, key)
    not_text = await _import(sponsor_admin)
    await local.delete(key)
    await local.set(key, "no set")
    not_a_set = await _import(sponsor_admin)

    assert (not_text.status_code, not_a_set.status_code) == (422, 409)
    assert await local.exists(keys.preferences(MONTHLY, "mnodes")) == 0


async def _import(
    sponsor_admin: Browser, *, person: int = MONTHLY, visitor: int = VISITOR
) -> httpx.Response:
    return await sponsor_admin.post(
        f"/admin/people/{person}/import-anonymous", json={"from": visitor}
    )
