"""GitHub's webhook events: signature, delivery id, and effect."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.hooks import Delivery, Hook
from sponsorsync.sandbox.people import Sponsorship
from sponsorsync.store import keys
from sponsorsync.store.entitlements import EntitlementChange, EntitlementStore, Saved
from sponsorsync.web.webhooks import MAX_EVENT_BYTES
from tests.conftest import ORIGIN, SPONSORABLE, UNREACHABLE, Clock, RunService, Service
from tests.support.use_cases import SECRET, create_hook
from tests.support.waiting import until, until_relayed

URL = f"{ORIGIN}/webhooks/github"
STRANGER = 112_493_071
MONTHLY = 48_210_377


@asynccontextmanager
async def run_listening(
    run_service: RunService, **overrides: object
) -> AsyncIterator[tuple[Service, Hook]]:
    """Yields a service that accepts signed events, and a client that signs and sends them."""
    async with run_service(webhook_secret=SecretStr(SECRET), **overrides) as service:
        yield service, create_hook(service)


@pytest.fixture
async def listening(run_service: RunService) -> AsyncIterator[Service]:
    """A service that accepts signed events."""
    async with run_listening(run_service) as (service, _):
        yield service


@pytest.fixture
def hook(listening: Service) -> Hook:
    """The maintainer's webhook: it signs and sends events to the service."""
    return create_hook(listening)


@pytest.fixture
def joining(github: SimulatedGitHub, clock: Clock) -> Sponsorship:
    """The sponsorship of a person who never signed in."""
    clock.now = clock.now.replace(microsecond=0)
    return github.people.sponsor("stranger", SPONSORABLE, cents=1000, days_ago=0)


async def _facts(local: Redis, person_id: int = STRANGER) -> dict[str, str]:
    facts = await local.hgetall(keys.sponsorship(SPONSORABLE, person_id))
    return {str(field): str(value) for field, value in facts.items()}


async def _is_entitled(local: Redis, person_id: int = STRANGER) -> bool:
    return bool(await local.sismember(keys.sponsors(SPONSORABLE), str(person_id)))


async def test_without_a_secret_there_is_no_webhook(service: Service) -> None:
    """The answer names the setting that is missing."""
    answer = await create_hook(service).send(Delivery("1", "ping", b"{}"))

    assert (answer.status_code, answer.json()["code"]) == (404, "no_webhook")
    assert "SPONSORSYNC_WEBHOOK_SECRET" in answer.json()["detail"]


async def test_an_event_with_a_wrong_signature_is_refused(
    listening: Service, joining: Sponsorship, local: Redis
) -> None:
    """The signature is checked first, so a forged body is not parsed."""
    forged = create_hook(listening, secret="another-secret-of-somebody")
    event = forged.event("created", joining)
    answers = [await forged.send(event), await forged.send(replace(event, body=b"no json"))]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(401, "bad_signature")] * 2
    assert "login_url" not in answers[0].json()
    assert await local.keys("*") == []


async def test_a_signed_event_that_is_no_json_is_refused(hook: Hook) -> None:
    """GitHub's form preselects the wrong content type; the answer names the right one."""
    answer = await hook.send(Delivery("1", "sponsorship", b"payload=%7B%7D"))

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_event")
    assert "content type application/json" in answer.json()["detail"]


@pytest.mark.parametrize(
    "number", ["", " ", "1 2", "1/2", "1" * 101], ids=["none", "blank", "two", "slash", "long"]
)
async def test_an_event_needs_a_number(
    hook: Hook, joining: Sponsorship, local: Redis, number: str
) -> None:
    """The delivery id is not signed, but a redelivery is recognized by it."""
    answer = await hook.send(replace(hook.event("created", joining), number=number))

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_event")
    assert "X-GitHub-Delivery" in answer.json()["detail"]
    assert await local.keys("*") == []


@pytest.mark.parametrize("announced", [True, False])
async def test_an_event_that_is_too_large_is_not_read(hook: Hook, announced: bool) -> None:
    """The size is in Content-Length, or is found while the chunks arrive."""
    delivery = Delivery("1", "ping", b" " * MAX_EVENT_BYTES + b"{}")

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(delivery.body), 65536):
            yield delivery.body[at : at + 65536]

    async with httpx.AsyncClient(transport=hook.transport) as client:
        answer = await client.post(
            URL, content=delivery.body if announced else chunks(), headers=delivery.headers(SECRET)
        )

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("event", "content", "outcome"),
    [
        ("ping", {"hook": {"type": "SponsorsListing"}}, "pong"),
        ("github_app_authorization", {"action": "revoked"}, "ignored"),
        ("star", {"action": "created"}, "ignored"),
        ("", {}, "ignored"),
        ("sponsorship", {"action": "transferred", "sponsorship": {}}, "ignored"),
        ("sponsorship", {"sponsorship": {"sponsorable": {"login": "somebody"}}}, "ignored"),
    ],
)
async def test_an_unused_event_is_accepted(
    hook: Hook, local: Redis, event: str, content: dict[str, Any], outcome: str
) -> None:
    """GitHub may send new kinds of events, and must not see an error."""
    answer = await hook.send(Delivery("1", event, json.dumps(content).encode()))

    assert (answer.status_code, answer.json()) == (202, {"outcome": outcome})
    assert await local.keys("*") == []


async def test_a_sponsor_is_entitled_before_the_first_sign_in(
    listening: Service, hook: Hook, joining: Sponsorship, github: SimulatedGitHub, local: Redis
) -> None:
    """The entitlement holds also if GitHub does not answer at the sign-in."""
    answer = await hook.send(hook.event("created", joining))
    stored, is_indexed = await _facts(local), await _is_entitled(local)
    github.switches.forbidden = True
    browser = await listening.sign_in("stranger")
    [entitlement] = (await browser.get("/me")).json()["entitlements"]

    assert (answer.status_code, answer.json()) == (202, {"outcome": "applied"})
    assert (stored["tier_cents"], stored["source"], is_indexed) == ("1000", "sponsorship", True)
    assert entitlement["status"] == "entitled"


@pytest.mark.parametrize("others", [(), ("another",)], ids=["the only one", "one of two"])
async def test_the_entitlement_of_a_new_person_reaches_durable(
    run_service: RunService,
    durable_url: SecretStr,
    local: Redis,
    durable: Redis,
    joining: Sponsorship,
    others: tuple[str, ...],
) -> None:
    """The person never signs in, so GitHub never answers about the other sponsorable."""
    async with run_listening(
        run_service, durable_url=durable_url, sponsorables=(SPONSORABLE, *others)
    ) as (_, hook):
        await hook.send(hook.event("created", joining))
        await until(lambda: _is_indexed(durable))
        await until_relayed(local)


async def _is_indexed(durable: Redis) -> bool:
    return bool(await durable.sismember(keys.sponsors(SPONSORABLE), str(STRANGER)))


async def test_an_event_is_stored_while_durable_is_down(
    run_service: RunService, joining: Sponsorship, local: Redis
) -> None:
    """Local keeps the person dirty until durable is back."""
    async with run_listening(run_service, durable_url=UNREACHABLE) as (_, hook):
        answers = [
            await hook.send(hook.event("created", joining)),
            await hook.send(hook.event("cancelled", joining)),
        ]

    assert [answer.json()["outcome"] for answer in answers] == ["applied"] * 2
    assert await local.sismember(keys.DIRTY, str(STRANGER))


async def test_the_life_of_a_sponsorship(
    hook: Hook, joining: Sponsorship, local: Redis, clock: Clock
) -> None:
    """GitHub sends all six actions of its event, one after another."""
    end = clock.now + timedelta(days=9)
    await hook.send(hook.event("created", joining))
    joining.is_private = True
    await hook.send(hook.event("edited", joining, former_privacy="public"))
    edited = await _facts(local)
    assert joining.tier is not None
    joining.tier.monthly_price_in_cents = 2500
    await hook.send(
        hook.event("pending_tier_change", joining, former_cents=1000, effective_date=end)
    )
    pending = await _facts(local)
    await hook.send(hook.event("tier_changed", joining, former_cents=1000))
    changed = await _facts(local)
    await hook.send(hook.event("pending_cancellation", joining, effective_date=end))
    announced, was_entitled = await _facts(local), await _is_entitled(local)
    clock.advance(days=-1)
    await hook.send(hook.event("cancelled", joining))
    ended = await _facts(local)

    assert (edited["privacy"], pending["tier_cents"], changed["tier_cents"]) == (
        "private",
        "1000",
        "2500",
    )
    assert (int(announced["valid_until"]), was_entitled) == (int(end.timestamp()), True)
    assert int(ended["valid_until"]) == int(clock.now.timestamp())
    assert not await _is_entitled(local)


async def test_a_one_time_payment_ends_by_itself(
    hook: Hook,
    github: SimulatedGitHub,
    local: Redis,
    clock: Clock,
    settings: Any,  # noqa: ANN401
) -> None:
    """GitHub sends no event at the end, so the service computes it."""
    payment = github.people.sponsor("stranger", SPONSORABLE, days_ago=1, one_time=True)
    await hook.send(hook.event("created", payment))
    days = settings.one_time_days - 1

    assert int((await _facts(local))["valid_until"]) == pytest.approx(
        (clock.now + timedelta(days=days)).timestamp(), abs=1
    )


async def test_an_event_needs_a_sponsor(hook: Hook, joining: Sponsorship, local: Redis) -> None:
    """The event names no sponsor, and no reconcile can run without the maintainer's token."""
    answer = await hook.send(hook.event("cancelled", joining, sponsor_is_null=True))

    assert (answer.status_code, answer.json()) == (202, {"outcome": "ignored"})
    assert await local.keys("*") == []


async def test_repeated_events_apply_once(hook: Hook, joining: Sponsorship, local: Redis) -> None:
    """A redelivery has the delivery id of the first delivery, which is remembered."""
    created, cancelled = hook.event("created", joining), hook.event("cancelled", joining)
    outcomes = [
        (await hook.send(event)).json()["outcome"]
        for event in (created, created, cancelled, created, cancelled)
    ]

    assert outcomes == ["applied", "seen_before", "applied", "seen_before", "seen_before"]
    assert not await _is_entitled(local)
    assert 0 < await local.ttl(keys.delivery(created.number)) <= keys.DELIVERY_TTL_S


async def test_a_failed_event_can_be_resent(hook: Hook, joining: Sponsorship, local: Redis) -> None:
    """Only the delivery id of an applied event is remembered."""
    created = hook.event("created", joining)
    await local.set(keys.sponsorship(SPONSORABLE, STRANGER), "somebody else's")
    refused = await hook.send(created)
    untouched = await local.keys("*")
    await local.delete(keys.sponsorship(SPONSORABLE, STRANGER))
    applied = await hook.send(created)

    assert (refused.status_code, len(untouched)) == (409, 1)
    assert applied.json() == {"outcome": "applied"}


async def test_older_events_change_nothing(hook: Hook, joining: Sponsorship, local: Redis) -> None:
    """Events have no time, but both contain the start of the same sponsorship."""
    cancelled = await hook.send(hook.event("cancelled", joining))
    created = await hook.send(hook.event("created", joining))

    assert (cancelled.json()["outcome"], created.json()["outcome"]) == ("applied", "nothing_new")
    assert not await _is_entitled(local)


async def test_no_replayed_tier_is_applied(hook: Hook, joining: Sponsorship, local: Redis) -> None:
    """The delivery id is not signed, so an old event can be replayed with another id."""
    assert joining.tier is not None
    joining.tier.monthly_price_in_cents = 2500
    upgrade = hook.event("tier_changed", joining, former_cents=1000)
    joining.tier.monthly_price_in_cents = 500
    await hook.send(hook.event("created", joining))
    replayed = await hook.send(replace(upgrade, number="another"))

    assert replayed.json() == {"outcome": "nothing_new"}
    assert (await _facts(local))["tier_cents"] == "500"


async def test_a_contradicting_event_requests_a_comparison(
    run_service: RunService, maintainer_settings: dict[str, Any], joining: Sponsorship, local: Redis
) -> None:
    """The event's former tier is not the stored one, so GitHub's list has to be compared."""
    async with run_listening(run_service, **maintainer_settings) as (_, hook):
        await hook.send(hook.event("created", joining))
        await local.delete(keys.RECONCILE_REQUESTS)
        answer = await hook.send(hook.event("tier_changed", joining, former_cents=700))
        requests = await local.hkeys(keys.RECONCILE_REQUESTS)

    assert answer.json() == {"outcome": "reconcile_requested"}
    assert requests == [SPONSORABLE]  # stored, so that another replica can run it


async def test_two_replicas_apply_an_event_once(
    run_service: RunService, joining: Sponsorship, local: Redis
) -> None:
    """Two replicas receive both events; the entitlement is granted once."""
    async with run_listening(run_service) as (_, one), run_listening(run_service) as (_, two):
        hooks = [one, two]
        created, edited = (hooks[0].event(action, joining) for action in ("created", "edited"))
        answers = await asyncio.gather(
            *(hook.send(event) for event in (created, edited) for hook in hooks)
        )
        outcomes = [answer.json()["outcome"] for answer in answers]

    assert outcomes[:2].count("applied") <= 1
    assert outcomes[2:].count("applied") == 1
    assert await local.xlen(keys.AUDIT) == 1
    assert await _is_entitled(local)


def _change_before_saves(patch: pytest.MonkeyPatch, local: Redis, *, times: int) -> None:
    """Simulates another replica that changes the entitlement before each of the next saves."""
    save, left = EntitlementStore.save, iter(range(times))

    async def save_after_others(
        entitlements: EntitlementStore, changes: Sequence[EntitlementChange]
    ) -> list[Saved]:
        if next(left, None) is not None:
            await local.hincrby(keys.meta(STRANGER), f"v:entitlement:{SPONSORABLE}", 1)
        return await save(entitlements, changes)

    patch.setattr(EntitlementStore, "save", save_after_others)


async def test_an_event_is_evaluated_again_after_a_concurrent_change(
    hook: Hook, joining: Sponsorship, local: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub does not repeat the event, so the service evaluates it until it can be saved."""
    await hook.send(hook.event("created", joining))
    _change_before_saves(monkeypatch, local, times=2)
    answer = await hook.send(hook.event("cancelled", joining))

    assert (answer.status_code, answer.json()) == (202, {"outcome": "applied"})
    assert not await _is_entitled(local)


async def test_an_event_is_refused_after_many_concurrent_changes(
    hook: Hook, joining: Sponsorship, local: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delivery id is not remembered, so the event can be sent again."""
    await hook.send(hook.event("created", joining))
    cancelled = hook.event("cancelled", joining)
    with monkeypatch.context() as patch:
        _change_before_saves(patch, local, times=99)
        refused = await hook.send(cancelled)
    answer = await hook.send(cancelled)

    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert answer.json() == {"outcome": "applied"}


async def test_a_new_sponsors_preferences_reach_durable(
    run_service: RunService, durable_url: SecretStr, durable: Redis, joining: Sponsorship
) -> None:
    """A person without entitlement has preferences on local only, until the event arrives."""
    joining.is_ended = True
    async with run_listening(run_service, durable_url=durable_url) as (service, hook):
        browser = await service.sign_in("stranger")
        await browser.put("/preferences/mnodes/C1")
        again = replace(joining, is_ended=False, created_at=joining.created_at + timedelta(days=1))
        await hook.send(hook.event("created", again))

        async def has_arrived() -> bool:
            return bool(await durable.sismember(keys.preferences(STRANGER, "mnodes"), "C1"))

        await until(has_arrived)


async def test_metrics_count_outcomes(listening: Service, hook: Hook, joining: Sponsorship) -> None:
    """The counters show a wrong secret, and a webhook that GitHub never calls."""
    created = hook.event("created", joining)
    await hook.send(hook.ping())
    await hook.send(created)
    await hook.send(created)
    await create_hook(listening, secret="another-secret-of-somebody").send(created)
    text = (await (await listening.open_browser()).get("/metrics")).text

    assert {
        line for line in text.splitlines() if line.startswith("sponsorsync_webhook_events_total")
    } == {
        'sponsorsync_webhook_events_total{outcome="pong"} 1.0',
        'sponsorsync_webhook_events_total{outcome="applied"} 1.0',
        'sponsorsync_webhook_events_total{outcome="seen_before"} 1.0',
        'sponsorsync_webhook_events_total{outcome="refused"} 1.0',
    }


@pytest.fixture
def examples() -> dict[str, bytes]:
    """GitHub's own payloads; CONTRIBUTING.md says where to get them."""
    folder = os.environ.get("SPONSORSYNC_GITHUB_EXAMPLES")
    if not folder:
        pytest.skip("set SPONSORSYNC_GITHUB_EXAMPLES to a folder of GitHub's example payloads")
    files = sorted(Path(folder).rglob("sponsorship.*.json"))
    assert files
    return {file.name: file.read_bytes() for file in files}


async def test_githubs_own_examples_are_accepted(
    run_service: RunService, local: Redis, examples: dict[str, bytes]
) -> None:
    """All examples are applied, except one without a sponsor."""
    outcomes = {}
    async with run_listening(run_service, sponsorables=("octocat", "octo-org")) as (_, hook):
        for name, body in examples.items():
            await local.flushall()
            answer = await hook.send(Delivery("1", "sponsorship", body))
            outcomes[name] = (answer.status_code, answer.json()["outcome"])

    assert {status for status, _ in outcomes.values()} == {202}
    assert {name for name, (_, outcome) in outcomes.items() if outcome != "applied"} == {
        name for name in outcomes if "null_sponsor" in name
    }
