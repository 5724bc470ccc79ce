"""GitHub's events as they come over HTTP: who may send them, and what they change."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr

from sponsorsync.sandbox.hooks import Delivery, Hook
from sponsorsync.store import keys
from sponsorsync.store.entitlements import EntitlementStore
from sponsorsync.web.webhooks import MAX_EVENT_BYTES
from tests.conftest import GITHUB_URL, ORIGIN, SPONSORABLE
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from sponsorsync.sandbox.github import SimulatedGitHub
    from sponsorsync.sandbox.people import Sponsorship
    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from sponsorsync.store.entitlements import EntitlementChange, Saved
    from tests.conftest import Clock, RunService, Service

SECRET = "a-secret-shared-with-github"
URL = f"{ORIGIN}/webhooks/github"
STRANGER = 112_493_071
MONTHLY = 48_210_377


@pytest.fixture
async def listening(run_service: RunService) -> AsyncIterator[Service]:
    """A service that knows the webhook's secret."""
    async with run_service(webhook_secret=SecretStr(SECRET)) as service:
        yield service


@pytest.fixture
def hook(listening: Service) -> Hook:
    """The maintainer's webhook."""
    return create_hook(listening)


def create_hook(service: Service, *, secret: str = SECRET) -> Hook:
    """Returns a webhook that leads to a service."""
    return Hook(
        url=URL,
        secret=secret,
        base_url=GITHUB_URL,
        transport=httpx.ASGITransport(service.app),
    )


@pytest.fixture
def joining(github: SimulatedGitHub, clock: Clock) -> Sponsorship:
    """The sponsorship of somebody who never signed in."""
    clock.now = clock.now.replace(microsecond=0)
    return github.people.sponsor("stranger", SPONSORABLE, cents=1000, days_ago=0)


async def _facts(local: Redis, person_id: int = STRANGER) -> dict[str, str]:
    facts = await local.hgetall(keys.sponsorship(SPONSORABLE, person_id))
    return {str(field): str(value) for field, value in facts.items()}


async def _is_entitled(local: Redis, person_id: int = STRANGER) -> bool:
    return bool(await local.sismember(keys.sponsors(SPONSORABLE), str(person_id)))


# ---------------------------------------------------------------------- who may


async def test_without_a_secret_there_is_no_webhook(service: Service) -> None:
    """The answer names the setting."""
    answer = await create_hook(service).send(Delivery("1", "ping", b"{}"))

    assert (answer.status_code, answer.json()["code"]) == (404, "no_webhook")
    assert "SPONSORSYNC_WEBHOOK_SECRET" in answer.json()["detail"]


async def test_what_is_signed_otherwise_is_not_read(
    listening: Service, joining: Sponsorship, local: Redis
) -> None:
    """Nothing of it counts, JSON or not."""
    forged = create_hook(listening, secret="another-secret-of-somebody")
    event = forged.tell("created", joining)
    answers = [await forged.send(event), await forged.send(replace(event, body=b"no json"))]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(401, "bad_signature")] * 2
    assert "login_url" not in answers[0].json()
    assert await local.keys("*") == []


async def test_what_is_signed_and_no_json_is_a_mistake(hook: Hook) -> None:
    """Of whoever configured the webhook: GitHub's form for it offers the wrong one first."""
    answer = await hook.send(Delivery("1", "sponsorship", b"payload=%7B%7D"))

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_event")
    assert "content type application/json" in answer.json()["detail"]


@pytest.mark.parametrize(
    "number", ["", " ", "1 2", "1/2", "1" * 101], ids=["none", "blank", "two", "slash", "long"]
)
async def test_an_event_needs_a_number(
    hook: Hook, joining: Sponsorship, local: Redis, number: str
) -> None:
    """It is not signed, but without one the same event could be sent for ever."""
    answer = await hook.send(replace(hook.tell("created", joining), number=number))

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_event")
    assert "X-GitHub-Delivery" in answer.json()["detail"]
    assert await local.keys("*") == []


@pytest.mark.parametrize("announced", [True, False])
async def test_what_is_too_large_is_not_read(hook: Hook, announced: bool) -> None:
    """Whether it says so beforehand or not."""
    delivery = Delivery("1", "ping", b" " * MAX_EVENT_BYTES + b"{}")

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(delivery.body), 65536):
            yield delivery.body[at : at + 65536]

    async with httpx.AsyncClient(transport=hook._transport) as client:
        answer = await client.post(
            URL,
            content=delivery.body if announced else chunks(),
            headers=delivery.headers(SECRET),
        )

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


# ---------------------------------------------------------------------- what is told


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
async def test_what_is_of_no_use_is_accepted(
    hook: Hook, local: Redis, event: str, content: dict[str, Any], outcome: str
) -> None:
    """GitHub may send more than is known today."""
    answer = await hook.send(Delivery("1", event, json.dumps(content).encode()))

    assert (answer.status_code, answer.json()) == (202, {"outcome": outcome})
    assert await local.keys("*") == []


async def test_a_sponsor_who_never_signed_in_is_entitled_when_they_do(
    listening: Service, hook: Hook, joining: Sponsorship, github: SimulatedGitHub, local: Redis
) -> None:
    """Also while GitHub tells nothing at that moment."""
    answer = await hook.send(hook.tell("created", joining))
    kept, is_indexed = await _facts(local), await _is_entitled(local)
    github.switches.forbidden = True
    browser = await listening.sign_in("stranger")
    [entitlement] = (await browser.get("/me")).json()["entitlements"]

    assert (answer.status_code, answer.json()) == (202, {"outcome": "applied"})
    assert (kept["tier_cents"], kept["source"], is_indexed) == ("1000", "sponsorship", True)
    assert entitlement["status"] == "entitled"


async def test_entitlement_of_who_never_signed_in_reaches_durable(
    run_service: RunService, durable_server: EmbeddedValkey, durable: Redis, joining: Sponsorship
) -> None:
    """It travels like any change, and nobody stays dirty."""
    async with run_service(
        webhook_secret=SecretStr(SECRET), durable_url=SecretStr(durable_server.url)
    ) as service:
        hook = create_hook(service)
        await hook.send(hook.tell("created", joining))
        await until(lambda: _is_indexed(durable))


async def test_the_entitlement_by_another_sponsorable_need_not_be_known(
    run_service: RunService,
    durable_server: EmbeddedValkey,
    local: Redis,
    durable: Redis,
    joining: Sponsorship,
) -> None:
    """Nobody tells it of who never signs in; they do not wait for it for ever."""

    async def is_clean() -> bool:
        return not await local.scard(keys.DIRTY)

    async with run_service(
        webhook_secret=SecretStr(SECRET),
        durable_url=SecretStr(durable_server.url),
        sponsorables=(SPONSORABLE, "another"),
    ) as service:
        hook = create_hook(service)
        await hook.send(hook.tell("created", joining))
        await until(lambda: _is_indexed(durable))
        await until(is_clean)


async def _is_indexed(durable: Redis) -> bool:
    return bool(await durable.sismember(keys.sponsors(SPONSORABLE), str(STRANGER)))


async def test_an_event_is_kept_while_durable_is_down(
    run_service: RunService, joining: Sponsorship, local: Redis
) -> None:
    """It waits on local."""
    async with run_service(
        webhook_secret=SecretStr(SECRET), durable_url=SecretStr("redis://127.0.0.1:1/0")
    ) as service:
        hook = create_hook(service)
        answers = [
            await hook.send(hook.tell("created", joining)),
            await hook.send(hook.tell("cancelled", joining)),
        ]

    assert [answer.json()["outcome"] for answer in answers] == ["applied"] * 2
    assert await local.sismember(keys.DIRTY, str(STRANGER))


async def test_the_life_of_a_sponsorship(
    hook: Hook, joining: Sponsorship, local: Redis, clock: Clock
) -> None:
    """All six actions, one after the other."""
    end = clock.now + timedelta(days=9)
    await hook.send(hook.tell("created", joining))
    joining.is_private = True
    await hook.send(hook.tell("edited", joining, former_privacy="public"))
    edited = await _facts(local)
    assert joining.tier is not None
    joining.tier.monthly_price_in_cents = 2500
    await hook.send(
        hook.tell("pending_tier_change", joining, former_cents=1000, effective_date=end)
    )
    pending = await _facts(local)
    await hook.send(hook.tell("tier_changed", joining, former_cents=1000))
    changed = await _facts(local)
    await hook.send(hook.tell("pending_cancellation", joining, effective_date=end))
    announced, was_entitled = await _facts(local), await _is_entitled(local)
    clock.advance(days=-1)
    await hook.send(hook.tell("cancelled", joining))
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
    """No event marks that."""
    payment = github.people.sponsor("stranger", SPONSORABLE, days_ago=1, one_time=True)
    await hook.send(hook.tell("created", payment))
    days = settings.one_time_days - 1

    assert int((await _facts(local))["valid_until"]) == pytest.approx(
        (clock.now + timedelta(days=days)).timestamp(), abs=1
    )


async def test_an_event_without_a_sponsor_changes_nothing(
    hook: Hook, joining: Sponsorship, local: Redis
) -> None:
    """Without the maintainer's token nobody can look, either."""
    answer = await hook.send(hook.tell("cancelled", joining, sponsor_is_null=True))

    assert (answer.status_code, answer.json()) == (202, {"outcome": "ignored"})
    assert await local.keys("*") == []


async def test_an_event_that_comes_again_is_known(
    hook: Hook, joining: Sponsorship, local: Redis
) -> None:
    """By its number, which a redelivery keeps."""
    created, cancelled = hook.tell("created", joining), hook.tell("cancelled", joining)
    outcomes = [
        (await hook.send(event)).json()["outcome"]
        for event in (created, created, cancelled, created, cancelled)
    ]

    assert outcomes == ["applied", "seen_before", "applied", "seen_before", "seen_before"]
    assert not await _is_entitled(local)
    assert 0 < await local.ttl(keys.delivery(created.number)) <= keys.DELIVERY_TTL_S


async def test_an_event_that_was_not_kept_may_come_again(
    hook: Hook, joining: Sponsorship, local: Redis
) -> None:
    """It is known only once it was applied."""
    created = hook.tell("created", joining)
    await local.set(keys.sponsorship(SPONSORABLE, STRANGER), "somebody else's")
    refused = await hook.send(created)
    untouched = await local.keys("*")
    await local.delete(keys.sponsorship(SPONSORABLE, STRANGER))
    taken = await hook.send(created)

    assert (refused.status_code, len(untouched)) == (409, 1)
    assert taken.json() == {"outcome": "applied"}


async def test_an_older_event_after_a_newer_one(
    hook: Hook, joining: Sponsorship, local: Redis
) -> None:
    """Nothing in it tells when it was sent, but it is about the same sponsorship."""
    cancelled = await hook.send(hook.tell("cancelled", joining))
    created = await hook.send(hook.tell("created", joining))

    assert (cancelled.json()["outcome"], created.json()["outcome"]) == ("applied", "nothing_new")
    assert not await _is_entitled(local)


async def test_a_tier_of_long_ago_does_not_come_back(
    hook: Hook, joining: Sponsorship, local: Redis
) -> None:
    """Whoever has kept the event can send it under another number: that is not signed."""
    assert joining.tier is not None
    joining.tier.monthly_price_in_cents = 2500
    upgrade = hook.tell("tier_changed", joining, former_cents=1000)
    joining.tier.monthly_price_in_cents = 500
    await hook.send(hook.tell("created", joining))
    replayed = await hook.send(replace(upgrade, number="another"))

    assert replayed.json() == {"outcome": "nothing_new"}
    assert (await _facts(local))["tier_cents"] == "500"


async def test_what_does_not_fit_is_left_to_a_look(
    run_service: RunService, github: SimulatedGitHub, joining: Sponsorship, local: Redis
) -> None:
    """Where there is the maintainer's token; the answer says so."""
    token = github.tokens.issue(github.people.get_person(SPONSORABLE))
    async with run_service(
        webhook_secret=SecretStr(SECRET), maintainer_token=SecretStr(token)
    ) as service:
        hook = create_hook(service)
        await hook.send(hook.tell("created", joining))
        await local.delete(keys.RECONCILE_REQUESTS)
        answer = await hook.send(hook.tell("tier_changed", joining, former_cents=700))
        kept = await local.hkeys(keys.RECONCILE_REQUESTS)

    assert answer.json() == {"outcome": "reconcile_requested"}
    assert kept == [SPONSORABLE]  # whatever becomes of this replica


async def test_two_replicas_apply_an_event_once(
    run_service: RunService, joining: Sponsorship, local: Redis
) -> None:
    """Whichever of them is asked first; both events of a moment count."""
    secret = SecretStr(SECRET)
    async with run_service(webhook_secret=secret) as one, run_service(webhook_secret=secret) as two:
        hooks = [create_hook(one), create_hook(two)]
        created, edited = (hooks[0].tell(action, joining) for action in ("created", "edited"))
        answers = await asyncio.gather(
            *(hook.send(event) for event in (created, edited) for hook in hooks)
        )
        outcomes = [answer.json()["outcome"] for answer in answers]

    assert outcomes[:2].count("applied") <= 1
    assert outcomes[2:].count("applied") == 1
    assert await local.xlen(keys.AUDIT) == 1
    assert await _is_entitled(local)


def _let_others_change(patch: pytest.MonkeyPatch, local: Redis, *, times: int) -> None:
    """Others change the entitlement just before it is kept, so many times."""
    save, left = EntitlementStore.save, iter(range(times))

    async def save_after_others(
        entitlements: EntitlementStore, changes: Sequence[EntitlementChange]
    ) -> list[Saved]:
        if next(left, None) is not None:
            await local.hincrby(keys.meta(STRANGER), f"v:entitlement:{SPONSORABLE}", 1)
        return await save(entitlements, changes)

    patch.setattr(EntitlementStore, "save", save_after_others)


async def test_an_event_is_applied_on_what_others_changed_meanwhile(
    hook: Hook, joining: Sponsorship, local: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub does not send it again: it has to be judged once more."""
    await hook.send(hook.tell("created", joining))
    _let_others_change(monkeypatch, local, times=2)
    answer = await hook.send(hook.tell("cancelled", joining))

    assert (answer.status_code, answer.json()) == (202, {"outcome": "applied"})
    assert not await _is_entitled(local)


async def test_an_event_that_others_keep_from_being_applied_may_come_again(
    hook: Hook, joining: Sponsorship, local: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever, and it is not taken for one that was applied."""
    await hook.send(hook.tell("created", joining))
    cancelled = hook.tell("cancelled", joining)
    with monkeypatch.context() as patch:
        _let_others_change(patch, local, times=99)
        refused = await hook.send(cancelled)
    answer = await hook.send(cancelled)

    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert answer.json() == {"outcome": "applied"}


async def test_who_becomes_entitled_brings_along_what_is_there(
    run_service: RunService, durable_server: EmbeddedValkey, durable: Redis, joining: Sponsorship
) -> None:
    """As at a login: preferences of who is not entitled had not left local."""
    joining.is_ended = True
    async with run_service(
        webhook_secret=SecretStr(SECRET), durable_url=SecretStr(durable_server.url)
    ) as service:
        browser = await service.sign_in("stranger")
        await browser.put("/preferences/mnodes/C1")
        hook = create_hook(service)
        again = replace(joining, is_ended=False, created_at=joining.created_at + timedelta(days=1))
        await hook.send(hook.tell("created", again))

        async def has_arrived() -> bool:
            return bool(await durable.sismember(keys.preferences(STRANGER, "mnodes"), "C1"))

        await until(has_arrived)


async def test_metrics_count_events_by_what_became_of_them(
    listening: Service, hook: Hook, joining: Sponsorship
) -> None:
    """A webhook whose secret is wrong on one side, or that nobody calls, shows there."""
    created = hook.tell("created", joining)
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


# ---------------------------------------------------------------------- whatever may come


@pytest.fixture
def examples() -> dict[str, bytes]:
    """GitHub's own payloads; see CONTRIBUTING.md for where they are."""
    folder = os.environ.get("SPONSORSYNC_GITHUB_EXAMPLES")
    if not folder:
        pytest.skip("set SPONSORSYNC_GITHUB_EXAMPLES to a folder of GitHub's example payloads")
    files = sorted(Path(folder).rglob("sponsorship.*.json"))
    assert files
    return {file.name: file.read_bytes() for file in files}


async def test_githubs_own_examples_are_taken(
    run_service: RunService, local: Redis, examples: dict[str, bytes]
) -> None:
    """Each of them, but for one without a sponsor."""
    outcomes = {}
    async with run_service(
        webhook_secret=SecretStr(SECRET), sponsorables=("octocat", "octo-org")
    ) as service:
        hook = create_hook(service)
        for name, body in examples.items():
            await local.flushall()
            answer = await hook.send(Delivery("1", "sponsorship", body))
            outcomes[name] = (answer.status_code, answer.json()["outcome"])

    assert {status for status, _ in outcomes.values()} == {202}
    assert {name for name, (_, outcome) in outcomes.items() if outcome != "applied"} == {
        name for name in outcomes if "null_sponsor" in name
    }
