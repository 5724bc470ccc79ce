"""The list of entitled people, and the entitlement of one person, for administrators."""

from datetime import timedelta

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from sponsorsync.store import keys
from tests.conftest import SPONSORABLE, Browser, Clock, Service
from tests.support.administration import (
    FORMER,
    MEMBER,
    MONTHLY,
    ONE_TIME,
    ORGANIZATION,
    PRIVATE,
    STRANGER,
    list_sponsors,
    put_override,
    reconcile,
)


async def test_the_list_has_each_entitlements_source(service: Service, admin: Browser) -> None:
    """Sponsorship, organization and override appear, also for people who never signed in."""
    browser = await service.sign_in("monthly")
    await reconcile(admin)
    await browser.sign_in("org-member")
    await put_override(admin, STRANGER)
    await put_override(admin, MONTHLY, cents=100)
    listed = await list_sponsors(admin)

    summary = {
        number: (
            each["user_login"],
            each["entitlement"]["source"],
            each["entitlement"]["tier_cents"],
        )
        for number, each in listed.items()
    }
    assert {number: summary[number] for number in summary if number != 55_618_204} == {
        MONTHLY: ("monthly", "sponsorship", 1000),
        PRIVATE: (None, "sponsorship", 500),
        ONE_TIME: (None, "sponsorship", 2500),
        ORGANIZATION: (None, "sponsorship", 10_000),
        MEMBER: ("org-member", "organization", 10_000),
        STRANGER: (None, "override", None),
    }
    assert listed[ONE_TIME]["entitlement"]["until"] is not None
    assert listed[PRIVATE]["entitlement"]["privacy"] == "private"
    assert [(each["source"], each["note"]) for each in listed[MONTHLY]["considered"]][:2] == [
        ("sponsorship", None),
        ("override", "an-operator: Wrote the translation"),
    ]


async def test_a_wrong_type_key_of_one_person_hides_no_other_person_in_the_list(
    service: Service, admin: Browser, local: Redis
) -> None:
    """A string in place of the hash makes that entitlement unknown, or that login null."""
    await service.sign_in("monthly")
    await put_override(admin, STRANGER)
    await put_override(admin, MEMBER)
    for key in (keys.sponsorship(SPONSORABLE, STRANGER), keys.user_details(MEMBER)):
        await local.delete(key)
        await local.set(key, "somebody else's")
    listed = await list_sponsors(admin)

    assert (listed[MONTHLY]["user_login"], listed[MEMBER]["user_login"]) == ("monthly", None)
    assert {number: entry["entitlement"]["status"] for number, entry in listed.items()} == {
        MONTHLY: "entitled",
        MEMBER: "entitled",
        STRANGER: "unknown",
    }


@pytest.mark.parametrize("part", ["entitlement", "profile", "meta"])
async def test_the_log_names_the_wrong_type_key(service: Service, local: Redis, part: str) -> None:
    """The answer is 409 and refers to the log, which names the key."""
    browser = await service.sign_in("monthly")
    key = {
        "entitlement": keys.sponsorship(SPONSORABLE, MONTHLY),
        "profile": keys.user_details(MONTHLY),
        "meta": keys.meta(MONTHLY),
    }[part]
    await local.delete(key)
    await local.set(key, "somebody else's")
    with capture_logs() as logs:
        answers = [await browser.get(path) for path in ("/me", "/auth/sponsor")]
    causes = [log["cause"] for log in logs if log["event"] == "request_failed"]

    assert [answer.status_code for answer in answers] == [409, 409]
    assert [f" {key} " in cause for cause in causes] == [True, True]


async def test_only_administrators_see_an_overrides_note(service: Service, admin: Browser) -> None:
    """The person reads that an administrator decided, without the reason and the name."""
    browser = await service.sign_in("stranger")
    await put_override(admin, STRANGER, reason="A very private reason", actor="a-private-actor")

    seen = [
        (await browser.get("/me")).text,
        (await browser.get("/account")).text,
        (await browser.post("/me/refresh")).text,
        str((await browser.get("/auth/sponsor")).headers),
    ]
    shown = (await admin.get(f"/admin/sponsors/{STRANGER}")).text

    assert all("administrator gave you" in text for text in seen[:3])
    assert not any("private reason" in text or "private-actor" in text for text in seen)
    assert "a-private-actor: A very private reason" in shown


async def test_each_person_is_on_at_least_one_page(admin: Browser, local: Redis) -> None:
    """A list of 1,500 people is read page by page, with the cursor of each answer."""
    people = range(1_000_000, 1_001_500)
    async with local.pipeline() as pipeline:
        for person_id in people:
            _ = pipeline.sadd(keys.sponsors(SPONSORABLE), person_id)
            _ = pipeline.hset(
                keys.sponsorship(SPONSORABLE, person_id),
                mapping={"source": "sponsorship", "checked_at": "1", "tier_cents": "100"},
            )
            _ = pipeline.hset(
                keys.meta(person_id),
                mapping={f"v:entitlement:{SPONSORABLE}": "1", f"p:entitlement:{SPONSORABLE}": "1"},
            )
        await pipeline.execute()
    seen: dict[int, str] = {}
    cursor, pages = 0, 0
    while cursor is not None:
        page = (await admin.get("/admin/sponsors", params={"cursor": cursor, "limit": 100})).json()
        seen |= {each["id"]: each["entitlement"]["status"] for each in page["sponsors"]}
        cursor, pages = page["next_cursor"], pages + 1

    assert seen == dict.fromkeys(people, "entitled")
    assert pages > 5


@pytest.mark.parametrize(
    "query", ["cursor=-1", "cursor=x", f"cursor={10**30}", "limit=0", "limit=1001"]
)
async def test_a_malformed_page_is_422(admin: Browser, query: str) -> None:
    """The message names the wrong parameter, `cursor` or `limit`."""
    answer = await admin.get(f"/admin/sponsors?{query}")

    assert answer.status_code == 422
    assert query.partition("=")[0] in answer.json()["detail"]


async def test_a_person_whose_entitlement_has_just_ended_is_listed_as_not_entitled(
    service: Service, admin: Browser, clock: Clock, local: Redis
) -> None:
    """The index still contains the person until the next sweep of ended entitlements."""
    await service.sign_in("stranger")
    await put_override(admin, STRANGER, until=(clock.now + timedelta(hours=1)).isoformat())
    clock.advance(hours=2)
    listed = await list_sponsors(admin)

    assert await local.sismember(keys.sponsors(SPONSORABLE), str(STRANGER))
    assert listed[STRANGER]["entitlement"]["status"] == "not_entitled"
    assert listed[STRANGER]["entitlement"]["source"] == "none"


async def test_the_reason_is_available_for_every_number(service: Service, admin: Browser) -> None:
    """A former sponsor gets the reason; a number without a person is unknown, and not an error."""
    await service.sign_in("former")

    former, nobody = [
        (await admin.get(f"/admin/sponsors/{number}")).json() for number in (FORMER, 1)
    ]
    refused = await admin.get("/admin/sponsors/nobody")

    assert (former["user_login"], former["entitlement"]["status"]) == ("former", "not_entitled")
    assert former["entitlement"]["reason"].startswith("Your sponsorship of maintainer with $10.00")
    assert (nobody["user_login"], nobody["entitlement"]["status"]) == (None, "unknown")
    assert refused.status_code == 422
