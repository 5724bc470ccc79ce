"""Requests to Patreon, and the values that its answers are parsed into."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeAlias

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sponsorsync.domain.errors import (
    AccountLinkError,
    LinkLimitedError,
    LinkRefusedError,
    LinkUnreachableError,
)
from sponsorsync.patreon import messages
from sponsorsync.patreon.patronage import PatreonIdentity, Patronage, PatronStatus

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None

# A member as Patreon documents it: the requested attributes and one more.
ATTRIBUTES: dict[str, Json] = {
    "patron_status": "active_patron",
    "currently_entitled_amount_cents": 1000,
    "pledge_cadence": 1,
    "pledge_relationship_start": "2025-10-18T12:00:00.000+00:00",
    "next_charge_date": "2026-12-01T08:00:00.000+00:00",
    "is_gifted": False,
    "is_free_trial": False,
    "last_charge_status": "Paid",
}
PARSED = Patronage(
    campaign_id="1234567",
    status=PatronStatus.ACTIVE,
    cents=1000,
    since=datetime(2025, 10, 18, 12, tzinfo=UTC),
    paid_until=datetime(2026, 12, 1, 8, tzinfo=UTC),
    is_gift=False,
    is_trial=False,
)
CAMPAIGN: dict[str, Json] = {"type": "campaign", "id": "1234567", "attributes": {}}
MEMBERS = ("03ca69c3-ebea-4b9a-8fac-e4a837873254", "d485d5ac-6c82-42c6-9c08-c50cf01b73d7")


def _link(kind: str, identifier: Json) -> dict[str, Json]:
    return {"type": kind, "id": identifier}


def _member(
    number: int = 0, /, *, campaign: Json = "1234567", tiers: Json = None, **attributes: Json
) -> dict[str, Json]:
    return {
        **_link("member", MEMBERS[number]),
        "attributes": {**ATTRIBUTES, **attributes},
        "relationships": {
            "campaign": {"data": _link("campaign", campaign)},
            "currently_entitled_tiers": {"data": tiers},
        },
    }


def _tier(identifier: str, amount_cents: Json) -> dict[str, Json]:
    return {**_link("tier", identifier), "attributes": {"amount_cents": amount_cents}}


def _answer(*included: Json, members: int = 1) -> dict[str, Json]:
    links: list[Json] = [_link("member", each) for each in MEMBERS[:members]]
    return {
        "data": {
            **_link("user", "987654321"),
            "attributes": {},
            "relationships": {"memberships": {"data": links}},
        },
        "included": list(included),
        "links": {"self": "https://www.patreon.com/api/oauth2/v2/user/987654321"},
    }


def _dump(document: Json) -> bytes:
    return json.dumps(document).encode()


def _parse(answer: Json) -> PatreonIdentity:
    return messages.parse_identity(_dump(answer))


def _parse_one(*included: Json) -> Patronage:
    [patronage] = _parse(_answer(*included)).patronages
    return patronage


def test_the_query_names_the_campaign_of_a_membership() -> None:
    """If only `memberships` is included, Patreon sends no campaign."""
    assert "memberships.campaign" in messages.IDENTITY_QUERY["include"].split(",")


def test_a_patronage_is_parsed_with_all_that_decides() -> None:
    """No other data, such as the name, are kept."""
    identity = _parse(_answer(_member(), CAMPAIGN))

    assert identity == PatreonIdentity(account_id="987654321", patronages=(PARSED,))


@pytest.mark.parametrize("status", ["declined_patron", "former_patron", None])
def test_only_an_active_patronage_has_an_end(status: str | None) -> None:
    """For a declined patron, the next charge is another attempt, and no end of a paid period."""
    patronage = _parse_one(_member(patron_status=status))

    assert patronage.paid_until is None


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-12-01T08:00:00.000+00:00", datetime(2026, 12, 1, 8, tzinfo=UTC)),
        ("2026-12-01T08:00:00+00:00", datetime(2026, 12, 1, 8, tzinfo=UTC)),
        ("2026-12-01T08:00:00Z", datetime(2026, 12, 1, 8, tzinfo=UTC)),
        ("2026-12-01T09:00:00.250000+01:00", datetime(2026, 12, 1, 8, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-12-01T08:00:00", datetime(2026, 12, 1, 8, tzinfo=UTC)),
        (None, None),
    ],
)
def test_dates_are_utc_in_each_of_their_forms(said: str | None, meant: datetime | None) -> None:
    """Patreon's own examples have milliseconds, microseconds or neither."""
    patronage = _parse_one(_member(next_charge_date=said, pledge_relationship_start=said))

    assert (patronage.paid_until, patronage.since) == (meant, meant)


@pytest.mark.parametrize(
    ("amount", "months", "prices", "cents"),
    [
        (1000, 1, {}, 1000),
        (1000, None, {}, 1000),
        (1000, 0, {}, 1000),
        (10_080, 12, {}, 840),
        (0, 1, {}, 0),
        (None, None, {}, None),
        (10_080, 12, {"54321": 1000}, 1000),
        (5500, 1, {"54321": 500}, 500),
        (0, None, {"54321": 1000}, 1000),
        (None, None, {"54321": 500, "54322": 2500, "54323": 1000}, 2500),
        (300, 1, {"54320": 0}, 300),
        (0, None, {"54320": 0}, 0),
        (300, 1, {"54321": None}, 300),
    ],
    ids=[
        *("a month", "no cadence", "cadence 0", "a year", "nothing", "not shown"),
        *("a tier by the year", "a tier in crowns", "a gift", "the highest of three"),
        *("a free tier and more", "a free tier", "a tier without a price"),
    ],
)
def test_the_price_is_that_of_the_highest_tier_else_of_the_pledge_by_the_month(
    amount: int | None, months: int | None, prices: dict[str, Json], cents: int | None
) -> None:
    """A tier's price is preferred: a pledge may be in another currency, discounted, or 0.

    It is in the patron's currency, costs less if paid by the year, and is 0 for a gift.
    """
    tiers: list[Json] = [_link("tier", identifier) for identifier in prices]
    member = _member(tiers=tiers, currently_entitled_amount_cents=amount, pledge_cadence=months)
    included = [_tier(identifier, price) for identifier, price in prices.items()]

    patronage = _parse_one(member, *included)

    assert patronage.cents == cents


def test_a_tier_without_attributes_has_no_price() -> None:
    """Patreon does not document whether the scope shows a tier's price."""
    patronage = _parse_one(_member(tiers=[_link("tier", "54321")]))

    assert patronage.cents == 1000


@pytest.mark.parametrize(
    ("attributes", "marks"),
    [
        ({"is_gifted": True, "patron_status": None}, (True, False)),
        ({"is_free_trial": True}, (False, True)),
        ({"is_gifted": None, "is_free_trial": None}, (False, False)),
        ({"is_gifted": "yes", "is_free_trial": 1}, (False, False)),
    ],
)
def test_gifts_and_trials_are_marked(attributes: dict[str, Json], marks: tuple[bool, bool]) -> None:
    """Only `true` marks a gift or a trial; `patronage.py` decides what the marks mean."""
    patronage = _parse_one(_member(**attributes))

    assert (patronage.is_gift, patronage.is_trial) == marks


def test_attributes_that_may_be_null_may_be_absent() -> None:
    """Only the status is required, since without it the patronage is unknown."""
    member = _member()
    member["attributes"] = {"patron_status": "active_patron"}

    assert _parse(_answer(member)).patronages == (
        Patronage(
            campaign_id="1234567",
            status=PatronStatus.ACTIVE,
            cents=None,
            since=None,
            paid_until=None,
            is_gift=False,
            is_trial=False,
        ),
    )


def test_each_membership_keeps_its_campaign() -> None:
    """Support of another maintainer must not be taken for support of ours."""
    other = _member(1, campaign="7654321", patron_status="former_patron")

    identity = _parse(_answer(_member(), other, CAMPAIGN, members=2))

    assert [(each.campaign_id, each.status) for each in identity.patronages] == [
        ("1234567", PatronStatus.ACTIVE),
        ("7654321", PatronStatus.FORMER),
    ]


@pytest.mark.parametrize(
    "relationships",
    [{"memberships": {"data": []}}, {"memberships": {"data": None}}, {"memberships": None}, {}],
)
def test_an_account_without_support_has_no_patronage(relationships: Json) -> None:
    """Patreon then sends no `included`, and an empty list or null in place of the links."""
    answer: Json = {"data": {**_link("user", "987654321"), "relationships": relationships}}

    assert _parse(answer) == PatreonIdentity(account_id="987654321", patronages=())


def test_a_membership_without_a_campaign_is_skipped() -> None:
    """Such a membership cannot be one in our campaign."""
    member = _member()
    member["relationships"] = {"campaign": {"data": None}}

    assert _parse(_answer(member)).patronages == ()


@pytest.mark.parametrize(
    "answer",
    [
        _answer(),
        _answer(_member(), members=2),
        _answer({**_link("member", MEMBERS[0]), "attributes": ATTRIBUTES}),
        _answer({**_link("member", MEMBERS[0]), "relationships": _member()["relationships"]}),
        _answer({**_member(), "attributes": {}}),
        _answer({**_member(), "relationships": {}}),
        _answer(_member(campaign=1234567)),
        _answer(_member(campaign=None)),
        _answer(_member(patron_status="patient_patron")),
        _answer(_member(patron_status=["active_patron"])),
        _answer(_member(currently_entitled_amount_cents="1000")),
        _answer(_member(currently_entitled_amount_cents=10.5)),
        _answer(_member(currently_entitled_amount_cents=True)),
        _answer(_member(pledge_cadence="12")),
        _answer(_member(next_charge_date="soon")),
        _answer(_member(next_charge_date=1_796_112_000)),
        _answer(_member(next_charge_date="0001-01-01T00:00:00+14:00")),
        _answer(_member(tiers=[_link("tier", "54321")]), _tier("54321", "10 dollars")),
        _answer(_member(tiers={"54321": "10 dollars"})),
        {**_answer(_member()), "included": {}},
        {**_answer(_member()), "included": {"member": _member()}},
        {**_answer(_member()), "included": [None]},
        {"data": {"type": "user", "id": 987654321}},
        {"data": {"type": "campaign", "id": "1234567"}},
        {"data": {"id": "987654321"}},
        {"data": []},
        {"errors": [{"status": "400"}]},
        {},
        [],
        "user",
        None,
    ],
)
def test_an_undocumented_answer_is_unknown_and_never_no(answer: Json) -> None:
    """An incomplete answer would end an entitlement, or give it to another person."""
    with pytest.raises(LinkUnreachableError):
        _parse(answer)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"data": {"id": "98', b"\xff", b"[" * 200_000, b'{"a": 1e999}']
)
def test_an_answer_without_json_is_unknown(body: bytes) -> None:
    """A proxy may answer with a page, and an answer may break off."""
    with pytest.raises(LinkUnreachableError):
        messages.parse_identity(body)


def _json(*keys: str) -> SearchStrategy[Json]:
    return st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(keys), inner, max_size=4)
            | st.builds(_member, patron_status=inner, tiers=inner, campaign=inner)
        ),
        max_leaves=8,
    )


@given(answer=_json("data", "included", "type", "id", "attributes", "relationships", "errors"))
def test_any_json_is_an_identity_or_an_error_of_ours(answer: Json) -> None:
    """No answer of Patreon may raise an error that the service does not handle."""
    with suppress(AccountLinkError):
        _parse(answer)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, LinkRefusedError),
        (400, LinkRefusedError),
        (401, LinkRefusedError),
        (403, LinkRefusedError),
        (404, LinkRefusedError),
        (429, LinkLimitedError),
        (500, LinkUnreachableError),
        (503, LinkUnreachableError),
    ],
)
def test_each_status_is_one_kind_of_error(status: int, error: type[AccountLinkError]) -> None:
    """The kind of error decides on the answer to the person."""
    with pytest.raises(AccountLinkError) as caught:
        messages.check_status(status, httpx.Headers(), b"")

    assert type(caught.value) is error


@pytest.mark.parametrize("status", [200, 204])
def test_a_good_status_is_no_error(status: int) -> None:
    """The caller parses the body after this check."""
    messages.check_status(status, httpx.Headers(), b"")


@pytest.mark.parametrize(
    ("headers", "body", "wait_s"),
    [
        ({"Retry-After": "7"}, {"errors": [{"retry_after_seconds": 9}]}, 7),
        ({}, {"errors": [{"retry_after_seconds": 9}]}, 9),
        ({}, {"errors": [{"retry_after_seconds": 0}]}, 1),
        ({"Retry-After": "-3"}, {}, 1),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}, 60),
        ({}, {"errors": [{"retry_after_seconds": None}]}, 60),
        ({}, {"errors": []}, 60),
        ({}, {}, 60),
        ({}, [], 60),
        ({}, None, 60),
    ],
)
def test_a_limit_names_the_wait_in_a_header_or_the_body(
    headers: dict[str, str], body: Json, wait_s: int
) -> None:
    """Patreon promises neither, so without both the wait is a minute."""
    assert messages.read_retry_after(httpx.Headers(headers), _dump(body)) == wait_s


@pytest.mark.parametrize("status", [400, 401, 200])
def test_an_oauth_error_raises_nothing_by_its_status(status: int) -> None:
    """The body says whether the code or the secret is wrong, so it is read afterwards."""
    messages.check_token_status(status, httpx.Headers(), b'{"error": "invalid_grant"}')


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, b"", LinkRefusedError),
        (403, b"<html>", LinkRefusedError),
        (429, b'{"errors": [{"status": "429"}]}', LinkLimitedError),
        (429, b'["error"]', LinkLimitedError),
        (502, b"<html>", LinkUnreachableError),
    ],
)
def test_without_an_oauth_error_the_status_decides(
    status: int, body: bytes, error: type[AccountLinkError]
) -> None:
    """A rate limit and a page against robots have no OAuth error in their body."""
    with pytest.raises(error):
        messages.check_token_status(status, httpx.Headers(), body)
