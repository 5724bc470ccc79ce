"""Preferences over HTTP."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.store import keys
from tests.conftest import Browser, RunBrowser
from tests.support.proxy import TcpProxy, run_proxy

MONTHLY = 48210377
SET = keys.preferences(MONTHLY, "mnodes")


async def test_added_items_are_listed_sorted(sponsor: Browser) -> None:
    """A Redis set has no order; people and tests need a stable one."""
    await sponsor.put("/preferences/mnodes/b")
    await sponsor.put("/preferences/mnodes/a")

    answer = await sponsor.get("/preferences/mnodes")

    assert answer.json() == {"collection": "mnodes", "items": ["a", "b"]}


async def test_a_change_returns_its_counts(sponsor: Browser) -> None:
    """A client may repeat a change whose answer was lost: the second one adds nothing."""
    change = {"add": ["a", "b", "a"], "remove": ["c"]}

    first = await sponsor.post("/preferences/mnodes", json=change)
    again = await sponsor.post("/preferences/mnodes", json=change)

    done = {"collection": "mnodes", "removed": 0, "size": 2, "pending": False}
    assert first.json() == done | {"added": 2}
    assert again.json() == done | {"added": 0}


async def test_an_item_is_removed(sponsor: Browser) -> None:
    """Removing the same item twice is not an error."""
    await sponsor.put("/preferences/mnodes/a")

    first = await sponsor.delete("/preferences/mnodes/a")
    again = await sponsor.delete("/preferences/mnodes/a")

    assert (first.json()["removed"], again.json()["removed"]) == (1, 0)


@pytest.mark.parametrize(
    ("path", "item"),
    [
        ("a%2Fb", "a/b"),
        ("a%252Fb", "a%2Fb"),
        ("..%2F..%2Fx", "../../x"),
        ("%E2%82%AC", "€"),
        ("filter", "filter"),
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("-x", "-x"),
    ],
)
async def test_items_are_decoded_once(sponsor: Browser, local: Redis, path: str, item: str) -> None:
    """Ids may contain slashes and percent signs."""
    await sponsor.put(f"/preferences/mnodes/{path}")

    assert await local.smembers(SET) == {item}


async def test_items_beyond_todays_limits_can_be_removed(sponsor: Browser, local: Redis) -> None:
    """Limits apply to added items only."""
    await sponsor.put("/preferences/mnodes/a")
    await local.sadd(SET, "x" * 300, "tab\there")

    answer = await sponsor.post("/preferences/mnodes", json={"remove": ["x" * 300, "tab\there"]})

    assert answer.json()["removed"] == 2


async def test_a_line_feed_at_the_end_of_a_path_is_not_lost(sponsor: Browser) -> None:
    """Like every control character, the line feed is refused instead of being cut off."""
    answer = await sponsor.put("/preferences/mnodes/a%0A")

    assert answer.status_code == 422


async def test_the_original_calls_work_as_before(sponsor: Browser, local: Redis) -> None:
    """Old front ends are still in use, and the application reads the key directly."""
    posted = await sponsor.post("/exclude", json={"id": "C5162902"})
    got = await sponsor.get("/exclude?id=C0000001")

    assert (posted.status_code, list(posted.json())) == (200, ["message"])
    assert (got.status_code, list(got.json())) == (200, ["message"])
    assert await local.smembers("user:48210377:mnodes") == {"C5162902", "C0000001"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/me"),
        ("GET", "/preferences/mnodes"),
        ("PUT", "/preferences/mnodes/a"),
        ("DELETE", "/preferences/mnodes/a"),
        ("POST", "/preferences/mnodes"),
        ("POST", "/preferences/mnodes/filter"),
        ("POST", "/exclude"),
        ("GET", "/exclude?id=a"),
        ("GET", "/account"),
    ],
)
async def test_without_a_session_everything_is_401(
    browser: Browser, local: Redis, method: str, path: str
) -> None:
    """Nothing is written; the first deployment wrote to `user:None`."""
    body: Any = {"id": "a", "ids": []} if path == "/exclude" else {"ids": []}
    body = {} if path == "/preferences/mnodes" else body

    answer = await browser.request(method, path, json=body if method == "POST" else None)

    assert answer.status_code == 401
    assert answer.json()["login_url"] == "/login"
    assert await local.dbsize() == 0


async def test_filter_keeps_order_and_duplicates(sponsor: Browser) -> None:
    """The order of a search result matters."""
    await sponsor.post("/preferences/mnodes", json={"add": ["x", "y"]})

    answer = await sponsor.post(
        "/preferences/mnodes/filter", json={"ids": ["b", "x", "a", "b", "y", "ü"]}
    )

    assert answer.json() == {"ids": ["b", "a", "b", "ü"]}


async def test_filter_accepts_ten_thousand_ids_at_most(sponsor: Browser) -> None:
    """Lua cannot unpack so many values at once, so the script works in chunks."""
    await sponsor.post("/preferences/mnodes", json={"add": ["id9999", "id0"]})
    ids = [f"id{n}" for n in range(10_000)]

    answer = await sponsor.post("/preferences/mnodes/filter", json={"ids": ids})
    too_many = await sponsor.post("/preferences/mnodes/filter", json={"ids": [*ids, "x"]})

    assert answer.json() == {"ids": ids[1:-1]}
    assert (too_many.status_code, too_many.json()["code"]) == (413, "too_large")


async def test_a_large_batch_is_applied_whole(run_browser: RunBrowser, local: Redis) -> None:
    """The batch exceeds Lua's stack, so the script works in chunks."""
    items = [f"id{n}" for n in range(9_000)]
    async with run_browser("monthly", max_batch=10_000) as browser:
        added = await browser.post("/preferences/mnodes", json={"add": items})
        removed = await browser.post("/preferences/mnodes", json={"remove": items[:-1]})

    assert (added.json()["added"], removed.json()["removed"]) == (9_000, 8_999)
    assert await local.smembers(SET) == {items[-1]}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"add": ["x" * 257]}, 422),
        ({"add": ["é" * 129]}, 422),
        ({"add": [""]}, 422),
        ({"add": ["a\x00b"]}, 422),
        ({"add": ["\ud800"]}, 422),
        ({"add": ["a"], "remove": ["a"]}, 422),
        ({"add": [1]}, 422),
        ({"addd": ["a"]}, 422),
        ({"add": [str(n) for n in range(1001)]}, 413),
        ({"add": ["ok", "x" * 257]}, 422),
    ],
)
async def test_a_malformed_change_has_no_effect(
    sponsor: Browser, local: Redis, change: dict[str, Any], status: int
) -> None:
    """The valid items of a change with a malformed one are not applied, either."""
    before = await local.hgetall(keys.meta(MONTHLY))

    answer = await sponsor.post(
        "/preferences/mnodes",
        content=_ascii_json(change),
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert await local.exists(SET) == 0
    assert await local.hgetall(keys.meta(MONTHLY)) == before


async def test_an_unknown_collection_is_named_and_refused(sponsor: Browser, local: Redis) -> None:
    """The collection becomes part of a Redis key, so only configured ones are accepted."""
    answer = await sponsor.put("/preferences/user:1/x")

    assert answer.status_code == 422
    assert "mnodes" in answer.json()["detail"]
    assert not [key async for key in local.scan_iter("user:*")]


async def test_a_full_collection_accepts_only_replacements(run_browser: RunBrowser) -> None:
    """The limit applies to the size after the change."""
    async with run_browser("monthly", max_items=2) as browser:
        await browser.post("/preferences/mnodes", json={"add": ["a", "b"]})
        refused = await browser.put("/preferences/mnodes/c")
        swapped = await browser.post("/preferences/mnodes", json={"add": ["c"], "remove": ["a"]})
        same = await browser.put("/preferences/mnodes/c")
        items = (await browser.get("/preferences/mnodes")).json()["items"]

    assert refused.status_code == 422
    assert "may hold 2 items" in refused.json()["detail"]
    assert (swapped.status_code, same.status_code) == (200, 200)
    assert items == ["b", "c"]


TOO_LARGE = b'{"ids": ["' + b"x" * (4 * 1024 * 1024) + b'"]}'


async def _in_chunks() -> AsyncIterator[bytes]:
    yield TOO_LARGE


@pytest.mark.parametrize("send", [lambda: TOO_LARGE, _in_chunks])
async def test_a_body_over_the_limit_is_413(
    sponsor: Browser, send: Callable[[], bytes | AsyncIterator[bytes]]
) -> None:
    """A client must not fill the memory of the service."""
    answer = await sponsor.post(
        "/preferences/mnodes/filter", content=send(), headers={"content-type": "application/json"}
    )

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_preference_request_costs_two_round_trips(
    run_browser: RunBrowser, local_server: EmbeddedValkey
) -> None:
    """One round trip finds the session, one does the work."""
    async with run_proxy(local_server.port) as proxy:
        url = SecretStr(f"redis://127.0.0.1:{proxy.port}/0")
        async with run_browser("monthly", redis_url=url, redis_pool_size=1) as browser:
            costs = [await _cost(proxy, browser, *call) for call in (*WARM_UP, *CALLS)]

    assert costs[len(WARM_UP) :] == [2] * len(CALLS)


WARM_UP: list[tuple[str, str, Any]] = [
    # The first use of a script on a server also loads it.
    ("PUT", "/preferences/mnodes/a", None),
    ("GET", "/preferences/mnodes", None),
    ("POST", "/preferences/mnodes/filter", {"ids": ["a"]}),
]
CALLS: list[tuple[str, str, Any]] = [
    ("PUT", "/preferences/mnodes/b", None),
    ("DELETE", "/preferences/mnodes/b", None),
    ("POST", "/preferences/mnodes", {"add": ["c", "d"], "remove": ["e"]}),
    ("GET", "/preferences/mnodes", None),
    ("POST", "/preferences/mnodes/filter", {"ids": ["a", "b"]}),
    ("POST", "/exclude", {"id": "f"}),
    ("GET", "/exclude?id=g", None),
    ("GET", "/me", None),
]


async def _cost(proxy: TcpProxy, browser: Browser, method: str, path: str, body: Any) -> int:  # noqa: ANN401
    before = proxy.round_trips
    answer = await browser.request(method, path, json=body)
    assert answer.status_code == 200
    return proxy.round_trips - before


def _ascii_json(value: object) -> bytes:
    """Returns JSON in ASCII: escapes can hold half a surrogate pair, UTF-8 cannot."""
    return json.dumps(value).encode()
