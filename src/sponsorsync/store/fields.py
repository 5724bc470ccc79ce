"""Converts entitlement facts and profiles to the fields of Redis hashes, and back.

Moments are stored as whole seconds since 1970.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar, cast

import structlog

from sponsorsync.domain.account import StoredEntitlement
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.profile import Profile
from sponsorsync.domain.sources import EntitlementSource, Grant, PaymentSource
from sponsorsync.domain.sponsorship import Privacy

T = TypeVar("T")

Hash = dict[bytes, bytes]
Fields = dict[str, str | None]

_PLAIN_GRANT_FIELDS = {each.name for each in dataclasses.fields(Grant)} - {
    "source",
    "since",
    "until",
    "member_until",
}
"""Fields of a grant that have the same value in JSON."""

_log = structlog.get_logger(__name__)


def dump_entitlement_facts(facts: EntitlementFacts) -> Fields:
    """Returns the fields of `sponsorship:{login}:{id}`; None means that the field is removed."""
    return {
        "source": facts.source.value,
        "checked_at": _dump_moment(facts.checked_at),
        "tier_cents": None if facts.tier_cents is None else str(facts.tier_cents),
        "is_one_time": str(int(facts.is_one_time)),
        "privacy": None if facts.privacy is None else facts.privacy.value,
        "payment_source": None if facts.payment_source is None else facts.payment_source.value,
        "since": _dump_moment(facts.since),
        "valid_until": _dump_moment(facts.valid_until),
        "unknown_since": _dump_moment(facts.unknown_since),
        "also": _dump_grants(facts.grants) if facts.grants else None,
        "also_until": _dump_latest_end(facts.grants),
        "memberships_checked_at": _dump_moment(facts.memberships_checked_at),
        "memberships_unknown_since": _dump_moment(facts.memberships_unknown_since),
    }


def parse_entitlement_facts(sponsorable: str, fields: Hash) -> EntitlementFacts | None:
    """Returns the facts in a hash; None if the hash has no facts."""
    if b"source" not in fields:
        return None
    privacy = _parse_text(fields, b"privacy")
    payment_source = _parse_text(fields, b"payment_source")
    tier_cents = fields.get(b"tier_cents")
    return EntitlementFacts(
        sponsorable=sponsorable,
        checked_at=_parse_moment(fields, b"checked_at"),
        source=EntitlementSource(_parse_text(fields, b"source") or EntitlementSource.NONE),
        tier_cents=None if tier_cents is None else int(tier_cents),
        is_one_time=fields.get(b"is_one_time") == b"1",
        privacy=None if privacy is None else Privacy(privacy),
        payment_source=None if payment_source is None else PaymentSource(payment_source),
        since=_parse_moment(fields, b"since"),
        valid_until=_parse_moment(fields, b"valid_until"),
        unknown_since=_parse_moment(fields, b"unknown_since"),
        grants=_parse_grants(fields.get(b"also", b"[]")),
        memberships_checked_at=_parse_moment(fields, b"memberships_checked_at"),
        memberships_unknown_since=_parse_moment(fields, b"memberships_unknown_since"),
        is_partial=b"partial" in fields,
    )


def parse_stored_entitlement(
    sponsorable: str, person_id: int, version: object, flat: object
) -> StoredEntitlement:
    """Returns a stored entitlement from the version and the flat list of facts of a reply."""
    parse = partial(parse_entitlement_facts, sponsorable, as_hash(flat))
    facts = parse_or_none(person_id, parse)
    return StoredEntitlement(facts=facts, version=cast("bytes", version).decode())


def dump_profile(profile: Profile) -> Fields:
    """Returns the fields of `user_details:{id}`; None means that the field is removed."""
    return {
        "id": str(profile.id),
        "user_login": profile.login,
        "email": profile.email,
        "name": profile.name,
        "avatar_url": profile.avatar_url,
        "first_seen": _dump_moment(profile.first_seen),
        "last_login": _dump_moment(profile.last_login),
    }


def parse_profile(fields: Hash) -> Profile | None:
    """Returns the profile in a hash; None if the hash has no profile."""
    if b"id" not in fields:
        return None
    return Profile(
        id=int(fields[b"id"]),
        login=_parse_text(fields, b"user_login") or "",
        name=_parse_text(fields, b"name"),
        email=_parse_text(fields, b"email"),
        avatar_url=_parse_text(fields, b"avatar_url"),
        first_seen=_parse_moment(fields, b"first_seen") or datetime.fromtimestamp(0, UTC),
        last_login=_parse_moment(fields, b"last_login") or datetime.fromtimestamp(0, UTC),
    )


def parse_or_none(person_id: int, parse: Callable[[], T | None]) -> T | None:
    """Returns the result of `parse`, or None if the data are unreadable (ValueError).

    Another program or a newer version of SponsorSync may have written them.
    """
    try:
        return parse()
    except ValueError as error:
        _log.warning("unreadable_in_redis", person=person_id, reason=str(error))
        return None


def as_hash(flat: object) -> Hash:
    """Returns a script's flat list of fields and values as a hash."""
    pairs = iter(cast("list[bytes]", flat))
    return dict(zip(pairs, pairs, strict=True))


def _parse_text(fields: Hash, field: bytes) -> str | None:
    value = fields.get(field)
    return None if value is None else value.decode(errors="replace")


def _parse_moment(fields: Hash, field: bytes) -> datetime | None:
    value = fields.get(field)
    return None if value is None else datetime.fromtimestamp(int(value), UTC)


def _dump_moment(moment: datetime | None) -> str | None:
    return None if moment is None else str(int(moment.timestamp()))


def _dump_grants(grants: Sequence[Grant]) -> str:
    """Returns grants as a sorted JSON list, without null values and without a true `has_seat`.

    Because the list is sorted, equal grants give equal texts: the order of the grants in memory
    changes whenever a source is checked again.
    """
    objects = [
        {
            name: int(value.timestamp()) if isinstance(value, datetime) else value
            for name, value in dataclasses.asdict(grant).items()
            if value is not None and (name, value) != ("has_seat", True)
        }
        for grant in sorted(grants, key=lambda each: (each.source, each.organization_id or 0))
    ]
    return json.dumps(objects)


def _dump_latest_end(grants: Sequence[Grant]) -> str | None:
    """Returns the field `also_until`: when the last grant ends; None if no grant has a seat."""
    ends = [grant.until for grant in grants if grant.has_seat]
    if not ends:
        return None
    return "never" if None in ends else _dump_moment(max(end for end in ends if end is not None))


def _parse_grants(text: bytes) -> tuple[Grant, ...]:
    """Returns the grants in a JSON text; raises ValueError if they are not ours."""
    try:
        return tuple(
            Grant(
                **{name: values[name] for name in _PLAIN_GRANT_FIELDS if name in values},
                source=_parse_source(values["source"]),
                since=datetime.fromtimestamp(values["since"], UTC),
                until=_moment_of(values, "until"),
                member_until=_moment_of(values, "member_until"),
            )
            for values in json.loads(text)
        )
    except (AttributeError, KeyError, TypeError, OverflowError) as error:
        raise ValueError("the field `also` holds no grants of ours") from error


def _parse_source(text: str) -> EntitlementSource:
    source = EntitlementSource(text)
    if source is EntitlementSource.NONE:
        raise ValueError("a grant has no source")
    return source


def _moment_of(values: Mapping[str, Any], field: str) -> datetime | None:
    return None if values.get(field) is None else datetime.fromtimestamp(values[field], UTC)
