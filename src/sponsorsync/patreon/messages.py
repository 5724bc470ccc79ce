"""Requests to Patreon and its answers, without any I/O.

They follow the documentation at https://docs.patreon.com/ (its text is at
https://github.com/Patreon/platform-documentation) and, for anything that it does not describe,
Patreon's own plugin for WordPress, https://github.com/Patreon/patreon-wordpress. docs/patreon.md
has the details.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, TypeVar, cast

from sponsorsync.domain.errors import LinkLimitedError, LinkRefusedError, LinkUnreachableError
from sponsorsync.patreon.patronage import PatreonIdentity, Patronage, PatronStatus

T = TypeVar("T")

IDENTITY_PATH = "/api/oauth2/v2/identity"

# Version 2 of the API answers with ids only, unless the query names each attribute.
# https://docs.patreon.com/#apiv2-oauth
# The query has to include the campaign of a membership too, as `memberships.campaign`:
# https://github.com/Patreon/platform-documentation/pull/53
IDENTITY_QUERY: Mapping[str, str] = MappingProxyType(
    {
        "include": "memberships,memberships.campaign,memberships.currently_entitled_tiers",
        "fields[member]": (
            "patron_status,currently_entitled_amount_cents,pledge_cadence,"
            "pledge_relationship_start,next_charge_date,is_gifted,is_free_trial"
        ),
        "fields[tier]": "amount_cents",
    }
)
"""https://docs.patreon.com/#get-api-oauth2-v2-identity"""

# https://docs.patreon.com/#member: null means that there never was a pledge.
_STATUSES = {
    "active_patron": PatronStatus.ACTIVE,
    "declined_patron": PatronStatus.DECLINED,
    "former_patron": PatronStatus.FORMER,
    None: PatronStatus.NONE,
}

# The limit is a hundred requests a minute with one token. https://docs.patreon.com/#rate-limits
_DEFAULT_RETRY_AFTER_S = 60

_NOT_AS_DOCUMENTED = (AttributeError, KeyError, TypeError, ValueError, OverflowError)


def build_headers(token: str) -> dict[str, str]:
    """Returns the headers of an API call."""
    return {"Accept": "application/json", "Authorization": f"Bearer {token}"}


def check_status(status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Raises the AccountLinkError for an answer's status; returns for 2xx.

    https://docs.patreon.com/#errors
    """
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise LinkLimitedError(
            "Patreon's rate limit is reached.", retry_after_s=read_retry_after(headers, body)
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise LinkUnreachableError(f"Patreon failed to answer (HTTP {status}).")
    raise LinkRefusedError(f"Patreon refused to answer (HTTP {status}).")


def check_token_status(status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Checks the status like `check_status`, unless the body has an OAuth error.

    Authlib raises that error, which says more than the status: a used code and a wrong secret both
    come with 401.
    https://github.com/mxpv/patreon-go/issues/6
    """
    document = _load_json(body)
    if not (isinstance(document, dict) and "error" in document):
        check_status(status, headers, body)


def read_retry_after(headers: Mapping[str, str], body: bytes) -> int:
    """Returns the seconds to wait after a rate limit, or a default.

    Patreon may not send the time: https://docs.patreon.com/#rate-limits
    """
    try:
        if "retry-after" in headers:
            return max(1, int(headers["retry-after"]))
        document = cast("Any", _load_json(body))
        return max(1, _expect(document["errors"][0]["retry_after_seconds"], int))
    except (IndexError, *_NOT_AS_DOCUMENTED):
        return _DEFAULT_RETRY_AFTER_S


def parse_identity(body: bytes) -> PatreonIdentity:
    """Returns the account and each of its patronages from the answer to IDENTITY_QUERY.

    Raises:
        LinkUnreachableError: The body is not as documented, or lacks a membership that it links to,
            or the campaign or status of a membership: unknown must not be taken for 'no'.
    """
    document = cast("Any", _load_json(body))
    try:
        user = document["data"]
        included = {
            (_expect(row["type"], str), _expect(row["id"], str)): row
            for row in _expect(document.get("included") or [], list)
        }
        members = [row for (kind, _), row in included.items() if kind == "member"]
        missing = {("member", link["id"]) for link in _read_links(user, "memberships")} - set(
            included
        )
        if _expect(user["type"], str) != "user" or missing:
            raise ValueError("not the whole of a person")
        return PatreonIdentity(
            account_id=_expect(user["id"], str),
            patronages=tuple(
                _parse_patronage(member, campaign["id"], included)
                for member in members
                if (campaign := member["relationships"]["campaign"]["data"]) is not None
            ),
        )
    except _NOT_AS_DOCUMENTED as error:
        raise LinkUnreachableError("Patreon sent an answer that could not be read.") from error


def _parse_patronage(
    member: Mapping[str, Any],
    campaign_id: object,
    included: Mapping[tuple[str, str], Mapping[str, Any]],
) -> Patronage:
    attributes = member["attributes"]
    status = _STATUSES[attributes["patron_status"]]
    tiers = [
        included["tier", link["id"]]["attributes"]
        for link in _read_links(member, "currently_entitled_tiers")
        if ("tier", link["id"]) in included
    ]
    next_charge = _parse_moment(attributes.get("next_charge_date"))
    return Patronage(
        campaign_id=_expect(campaign_id, str),
        status=status,
        cents=_choose_cents(tiers, attributes),
        since=_parse_moment(attributes.get("pledge_relationship_start")),
        paid_until=next_charge if status is PatronStatus.ACTIVE else None,
        is_gift=attributes.get("is_gifted") is True,
        is_trial=attributes.get("is_free_trial") is True,
    )


def _choose_cents(tiers: Sequence[Mapping[str, Any]], attributes: Mapping[str, Any]) -> int | None:
    """Returns the monthly price of the highest tier, or else of the pledge.

    The tiers come first, because people pay in their own currency, and less if they pay for a year:
    https://support.patreon.com/hc/en-us/articles/360047287991-Currency-updates-to-the-Patreon-API
    Without a tier that has a price, the pledge decides. Its amount is for all months between two
    charges, so it is divided by them, as in getUserPatronageLevel of Patreon's own plugin:
    https://github.com/Patreon/patreon-wordpress/blob/master/classes/patreon_wordpress.php
    """
    prices = [_expect_or_none(tier.get("amount_cents"), int) or 0 for tier in tiers]
    if highest := max(prices, default=0):
        return highest
    amount = _expect_or_none(attributes.get("currently_entitled_amount_cents"), int)
    months = _expect_or_none(attributes.get("pledge_cadence"), int) or 1
    return None if amount is None else amount // max(months, 1)


def _read_links(resource: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Returns the links of a relationship: https://jsonapi.org/format/#document-resource-objects.

    For an empty relationship, Patreon sends an empty list, null, or nothing.
    """
    relationship = resource.get("relationships", {}).get(name) or {}
    return _expect(relationship.get("data") or [], list)


def _parse_moment(value: object) -> datetime | None:
    """Returns a moment in UTC; Patreon's times without an offset are in UTC, too."""
    if value is None:
        return None
    moment = datetime.fromisoformat(_expect(value, str))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _expect(value: object, kind: type[T]) -> T:
    # Not isinstance: in Python, True is an int.
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, not {type(value).__name__}")
    return value


def _expect_or_none(value: object, kind: type[T]) -> T | None:
    return None if value is None else _expect(value, kind)


def _load_json(body: bytes) -> object:
    """Returns the JSON value of a body, or None if it is not JSON: no caller accepts null."""
    try:
        return cast("object", json.loads(body))
    except (ValueError, RecursionError):
        return None
