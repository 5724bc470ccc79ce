"""Health, readiness, metrics, outages of Redis, errors and OpenAPI."""

import re
from typing import Any, cast

import pytest
from openapi_spec_validator import validate
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.app import create_app
from sponsorsync.domain.errors import SettingsError
from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from tests.conftest import UNREACHABLE, Browser, RunBrowser, Service
from tests.support.waiting import until


async def test_healthz_answers(browser: Browser) -> None:
    """The answer depends on no other server."""
    assert (await browser.get("/healthz")).json()["status"] == "ok"


async def test_readyz_needs_the_local_redis_only(
    run_browser: RunBrowser, durable_server: EmbeddedValkey
) -> None:
    """An outage of durable is shown in the answer, but the service stays ready."""
    states = []
    for overrides in (
        {"durable_url": SecretStr(durable_server.url)},
        {"durable_url": UNREACHABLE},
        {"redis_url": UNREACHABLE},
    ):
        async with run_browser(**overrides) as browser:
            answer = await browser.get("/readyz")
            body = answer.json()
            states.append((answer.status_code, body["local"]["status"], body["durable"]["status"]))

    assert states == [
        (200, "ok", "ok"),
        (200, "ok", "unavailable"),
        (503, "unavailable", "not_configured"),
    ]


async def test_a_failing_loop_shows_until_it_works_again(
    run_browser: RunBrowser, local: Redis, durable_server: EmbeddedValkey
) -> None:
    """The service stays ready, and the failing background loop is restarted."""
    async with run_browser(durable_url=SecretStr(durable_server.url)) as browser:

        async def load_sweep() -> dict[str, Any]:
            answer = await browser.get("/readyz")
            assert (answer.status_code, answer.json()["status"]) == (200, "ready")
            [sweep] = [loop for loop in answer.json()["loops"] if loop["name"] == "sweep"]
            return cast("dict[str, Any]", sweep)

        async def has_status(status: str) -> bool:
            return bool((await load_sweep())["status"] == status)

        before = await load_sweep()
        await local.hset(keys.DEAD_LETTERS, "1", "no JSON: the sweep reads it")
        await until(lambda: has_status("failing"))
        text, failed = (await browser.get("/metrics")).text, await load_sweep()
        await local.delete(keys.DEAD_LETTERS)
        await until(lambda: has_status("running"))
        after = await load_sweep()

    assert before == {
        "name": "sweep",
        "status": "running",
        "failures": 0,
        "last_error": None,
        "last_failed_at": None,
    }
    assert (failed["status"], failed["last_error"]) == ("failing", "JSONDecodeError")
    # On a slow machine it fails more than once before the data are mended.
    assert 1 <= failed["failures"] <= after["failures"]
    assert 'sponsorsync_background_up{loop="sweep"} 0.0' in text
    assert re.search(r'sponsorsync_background_failures_total{loop="sweep"} [1-9]', text)
    assert 'sponsorsync_background_up{loop="relay"} 1.0' in text
    assert (after["status"], after["last_error"]) == ("running", "JSONDecodeError")


async def test_metrics_count_dead_letters(service: Service, local: Redis) -> None:
    """A dead letter is a person that could not be pushed to durable; operators set an alarm."""
    await local.hset(keys.DEAD_LETTERS, "1", "{}")
    browser = await service.sign_in("monthly")

    text = (await browser.get("/metrics")).text

    assert "sponsorsync_dead_letters 1.0" in text
    assert "sponsorsync_dirty_people 1.0" in text
    assert 'sponsorsync_redis_up{redis="local"} 1.0' in text


@pytest.mark.parametrize(
    ("path", "text"), [("/", "/login"), ("/metrics", 'sponsorsync_redis_up{redis="local"} 0.0')]
)
async def test_the_start_page_and_the_metrics_need_no_redis(
    run_browser: RunBrowser, path: str, text: str
) -> None:
    """The start page and the metrics are available while Redis is away."""
    async with run_browser(redis_url=UNREACHABLE) as browser:
        answer = await browser.get(path, headers={"accept": "text/html"})

    assert (answer.status_code, text in answer.text) == (200, True)


async def test_a_local_redis_that_is_away_is_503_with_retry_after(run_browser: RunBrowser) -> None:
    """A program reads when to try again; a person reads why on the page."""
    async with run_browser(redis_url=UNREACHABLE) as browser:
        browser.cookies.set("sponsorsync", "x", domain="sponsorsync.test")
        api = await browser.get("/preferences/mnodes")
        page = await browser.get("/account", headers={"accept": "text/html"})

    assert (api.status_code, api.json()["code"]) == (503, "store_unavailable")
    assert int(api.headers["retry-after"]) >= 1
    assert page.status_code == 503
    assert "cannot be reached" in page.text


@pytest.mark.parametrize(
    ("config", "word"),
    [({"maxmemory": "1"}, "out of memory"), ({"min-replicas-to-write": "1"}, "replicas")],
)
async def test_a_local_redis_that_refuses_writes_is_503_with_its_reason(
    sponsor: Browser, local: Redis, config: dict[str, str], word: str
) -> None:
    """A change is one script, so a refused one has changed nothing."""
    await sponsor.put("/preferences/mnodes/a")
    before = await _everything(local)
    try:
        for name, value in config.items():
            await local.config_set(name, value)
        answer = await sponsor.put("/preferences/mnodes/b")
    finally:
        for name in config:
            await local.config_set(name, "0")

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert word in answer.json()["detail"]
    assert await _everything(local) == before


async def test_a_read_only_local_redis_is_503(
    sponsor: Browser, local: Redis, local_server: EmbeddedValkey
) -> None:
    """During a failover the local Redis is a read-only replica for a while."""
    await sponsor.put("/preferences/mnodes/a")
    try:
        await local.replicaof("127.0.0.1", local_server.port + 1)
        answer = await sponsor.put("/preferences/mnodes/b")
    finally:
        await local.replicaof("NO", "ONE")

    assert answer.status_code == 503
    assert "read-only" in answer.json()["detail"]


async def test_a_wrong_type_key_is_409_and_not_changed(sponsor: Browser, local: Redis) -> None:
    """The key may be the application's own, so the service does not overwrite it."""
    await local.set(keys.preferences(48210377, "mnodes"), "another type")

    answer = await sponsor.put("/preferences/mnodes/a")

    assert (answer.status_code, answer.json()["code"]) == (409, "store_conflict")
    assert await local.get(keys.preferences(48210377, "mnodes")) == "another type"


async def test_a_number_that_a_visitor_has_is_409(sponsor: Browser, local: Redis) -> None:
    """The preferences under this number belong to an anonymous visitor, not to the person."""
    await local.hset("user:48210377", "name", "visitor")
    await local.sadd("user:48210377:mnodes", "theirs")

    answers = [
        await sponsor.get("/preferences/mnodes"),
        await sponsor.put("/preferences/mnodes/a"),
        await sponsor.post("/preferences/mnodes/filter", json={"ids": ["theirs"]}),
    ]

    assert [answer.status_code for answer in answers] == [409, 409, 409]
    assert await local.smembers("user:48210377:mnodes") == {"theirs"}


async def test_an_unknown_address_is_a_problem_or_a_page(browser: Browser) -> None:
    """The Accept header decides between a problem document and an HTML page."""
    problem = await browser.get("/nothing")
    page = await browser.get("/nothing", headers={"accept": "text/html"})
    method = await browser.patch("/me")

    assert (problem.status_code, problem.json()["code"]) == (404, "not_found")
    assert "There is nothing at this address." in page.text
    assert (method.status_code, method.json()["code"]) == (405, "method_not_allowed")


async def test_an_unexpected_error_shows_no_trace(
    service: Service, local: Redis, capfd: pytest.CaptureFixture[str]
) -> None:
    """The answer has an incident number, under which the log has the traceback."""
    await local.set(keys.session("x"), "no number")  # only the service writes to this key
    browser = await service.open_browser()
    browser.cookies.set("sponsorsync", "x")
    answer = await browser.get("/me")

    assert answer.status_code == 500
    assert "no number" not in answer.text
    assert "content-security-policy" in answer.headers
    incident = answer.json()["detail"].split()[-1].rstrip(".")
    assert incident in "".join(capfd.readouterr())


async def test_openapi_is_valid_and_complete(browser: Browser) -> None:
    """Each route has a summary, a tag and a unique operation id; each error is a Problem."""
    document = (await browser.get("/openapi.json")).json()

    validate(document)
    operations: list[dict[str, Any]] = [
        operation for path in document["paths"].values() for operation in path.values()
    ]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    assert "get_me" in ids
    assert all(operation.get("summary") for operation in operations)
    assert all(operation.get("tags") for operation in operations)

    errors = [
        answer["content"]
        for path in document["paths"].values()
        for operation in path.values()
        for status, answer in operation["responses"].items()
        if status.startswith(("4", "5")) and operation["operationId"] != "get_readiness"
    ]
    schemas = [content["application/problem+json"]["schema"] for content in errors]
    assert all(schema == {"$ref": "#/components/schemas/Problem"} for schema in schemas)
    assert "HTTPValidationError" not in document["components"]["schemas"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz"])
async def test_monitors_may_use_head(browser: Browser, path: str) -> None:
    """Many monitors send HEAD requests only."""
    assert (await browser.head(path)).status_code == 200


async def test_the_api_page_has_its_own_policy(browser: Browser) -> None:
    """The page loads its scripts from a CDN; other sites must not frame it."""
    page = await browser.get("/docs")

    policy = page.headers["content-security-policy"]
    assert page.status_code == 200
    assert "script-src 'unsafe-inline' https://cdn.jsdelivr.net" in policy
    assert "frame-ancestors 'none'" in policy


def test_the_app_needs_its_settings(settings: Settings) -> None:
    """The error names the variable that is missing."""
    with pytest.raises(SettingsError, match="SPONSORSYNC_SPONSORABLES"):
        create_app(settings.model_copy(update={"sponsorables": ()}))


async def _everything(local: Redis) -> dict[str, bytes]:
    raw = {key: await local.dump(key) async for key in local.scan_iter("*")}
    return {key: str(value).encode() for key, value in raw.items()}
