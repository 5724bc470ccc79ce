"""Refused overrides: unknown people, malformed fields and missing actors."""

import pytest
from redis.asyncio import Redis

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.store import keys
from tests.conftest import Browser
from tests.support.administration import (
    OVERRIDE,
    STRANGER,
    delete_override,
    list_sponsors,
    put_override,
)


@pytest.mark.parametrize(
    ("switches", "login", "status", "code"),
    [
        ({}, "nobody-has-this", 404, "not_found"),
        ({"fail": {"account"}}, "stranger", 502, "github_unavailable"),
        ({"bad_json": {"account"}}, "stranger", 502, "github_unavailable"),
        ({"rate_limited": True}, "stranger", 503, "github_limited"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_without_an_answer_about_the_login_nothing_is_stored(
    admin: Browser,
    github: SimulatedGitHub,
    switches: dict[str, object],
    login: str,
    status: int,
    code: str,
    method: str,
) -> None:
    """Without GitHub's answer no account number belongs to the login."""
    vars(github.switches).update(switches)

    answer = await admin.request(
        method, f"/admin/overrides/{login}", json=OVERRIDE, params={"actor": "an-operator"}
    )
    trail = (await admin.get("/admin/audit")).json()["entries"]

    assert (answer.status_code, answer.json()["code"], trail) == (status, code, [])
    assert (await list_sponsors(admin)) == {}


@pytest.mark.parametrize("who", ["0", "007", "1234567890123456", "9" * 30])
async def test_digits_that_are_no_github_number_are_a_login(admin: Browser, who: str) -> None:
    """`int("007")` would be the number of another person."""
    answer = await put_override(admin, who)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.json()["detail"] == f"GitHub knows no account {who}."
    assert (await list_sponsors(admin)) == {}


@pytest.mark.parametrize(
    "who", ["-1", "a b", "a.b", "-ab", "ab%2Fcd", "ab%0A", "%D9%A1", "1%D9%A2", "x" * 101]
)
async def test_a_malformed_person_is_refused(
    admin: Browser, github: SimulatedGitHub, who: str
) -> None:
    """GitHub is not asked, since the text would change the path of the request."""
    answers = [await put_override(admin, who), await delete_override(admin, who)]

    assert {answer.status_code for answer in answers} <= {404, 422}
    assert github.requests.all() == []
    assert all("^" not in answer.json()["detail"] for answer in answers)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"until": "2001-01-01T00:00:00Z"}, "until: should be a moment that is still to come"),
        ({"until": "2999-01-01T00:00:00"}, "until: "),
        ({"until": "2999-01-01"}, "until: "),
        ({"until": "tomorrow"}, "until: "),
        ({"until": "9999-12-31T23:59:59-14:00"}, "until: "),
        ({"until": "0001-01-01T00:00:00+14:00"}, "until: "),
        ({"until": True}, "until: "),
        ({"reason": ""}, "reason: "),
        ({"reason": " \t"}, "reason: "),
        ({"reason": None}, "reason: "),
        ({"reason": "x" * 501}, "reason: "),
        ({"reason": "\ud800"}, "reason: "),
        ({"actor": ""}, "actor: "),
        ({"actor": "  "}, "actor: "),
        ({"actor": None}, "actor: "),
        ({"actor": "x" * 101}, "actor: "),
        ({"cents": -1}, "cents: "),
        ({"cents": 100_000_001}, "cents: "),
        ({"cents": 10.5}, "cents: "),
        ({"cents": "much"}, "cents: "),
        ({"cents": True}, "cents: "),
        ({"expires": "2999-01-01T00:00:00Z"}, "expires: "),
    ],
)
async def test_a_malformed_field_is_named_and_nothing_is_stored(
    admin: Browser, local: Redis, wrong: dict[str, object], said: str
) -> None:
    """The message is one sentence that begins with the field."""
    answer = await put_override(admin, STRANGER, **wrong)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert answer.json()["detail"].startswith(said)
    assert await local.keys(keys.sponsorship("*", STRANGER)) == []
    assert await local.xlen(keys.AUDIT) == 0


@pytest.mark.parametrize("body", ["", "nonsense", "[]", '"text"', "null", '{"reason": "x"'])
async def test_a_malformed_body_is_named_too(admin: Browser, body: str) -> None:
    """In a shell, wrong quoting often breaks the JSON; the message says that the body is wrong."""
    answer = await admin.put(
        f"/admin/overrides/{STRANGER}", content=body, headers={"Content-Type": "application/json"}
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert answer.json()["detail"].startswith("the body: ")


@pytest.mark.parametrize("missing", ["reason", "actor"])
async def test_an_override_needs_an_actor_and_a_reason(admin: Browser, missing: str) -> None:
    """The audit trail records who decided, and why."""
    body = {name: value for name, value in OVERRIDE.items() if name != missing}

    answer = await admin.put(f"/admin/overrides/{STRANGER}", json=body)

    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"{missing}: ")


@pytest.mark.parametrize("params", [{}, {"actor": ""}, {"actor": " "}])
async def test_a_removal_needs_an_actor_too(admin: Browser, params: dict[str, str]) -> None:
    """The audit trail records who removed the override."""
    await put_override(admin, STRANGER)

    answer = await admin.delete(f"/admin/overrides/{STRANGER}", params=params)

    assert answer.status_code == 422
    assert "actor: " in answer.json()["detail"]
    assert STRANGER in await list_sponsors(admin)


async def test_an_unknown_sponsorable_is_404_on_every_route(admin: Browser, local: Redis) -> None:
    """The message names the setting that lists the sponsorables."""
    wrong = {"sponsorable": "somebody-else", "actor": "an-operator"}

    answers = [
        await admin.put(f"/admin/overrides/{STRANGER}", json=OVERRIDE, params=wrong),
        await admin.delete(f"/admin/overrides/{STRANGER}", params=wrong),
        await admin.get("/admin/sponsors", params=wrong),
        await admin.get(f"/admin/sponsors/{STRANGER}", params=wrong),
    ]

    assert [answer.status_code for answer in answers] == [404] * 4
    assert {answer.json()["detail"] for answer in answers} == {
        "That sponsorable is not one of SPONSORSYNC_SPONSORABLES."
    }
    assert await local.keys(keys.sponsorship("*", STRANGER)) == []
