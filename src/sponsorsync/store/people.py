"""Profiles, cover facts and sessions on the local Redis: what a login writes and a page reads."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import structlog

from sponsorsync.domain.account import Account, KnownCover
from sponsorsync.domain.admission import Standing
from sponsorsync.domain.cover import CoverFacts, CoverSource, Grant
from sponsorsync.domain.errors import DurableUnavailableError
from sponsorsync.domain.profile import Profile
from sponsorsync.domain.sponsorship import PaymentSource, Privacy
from sponsorsync.store import keys
from sponsorsync.store.fetching import ask_until_known
from sponsorsync.store.gathering import Gathering

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sponsorsync.store.connect import RedisStore
    from sponsorsync.store.fetching import Fetcher

T = TypeVar("T")

Hash = dict[bytes, bytes]
Fields = dict[str, str | None]

_SESSION_TOKEN_BYTES = 32

_log = structlog.get_logger(__name__)


class PeopleStore:
    """Keeps people, their cover and their sessions."""

    def __init__(
        self,
        local: RedisStore,
        *,
        sponsorables: Sequence[str],
        collections: Sequence[str],
        session_life: timedelta,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._local = local
        self._gathering = Gathering(local)
        self._sponsorables = sponsorables
        self._collections = collections
        self._session_s = int(session_life.total_seconds())
        self._fetcher = fetcher

    async def load_account(self, person_id: int) -> Account:
        """Returns what is known of a person, in one round trip where all of it is known.

        Raises:
            DurableUnavailableError: Only durable knows, and it cannot be asked.
        """
        return await self._load_account(person_id, self._fetcher)

    async def load_account_for_login(self, person_id: int) -> Account:
        """Returns the same; what only durable knows is left out while it cannot be asked."""
        try:
            return await self._load_account(person_id, self._fetcher)
        except DurableUnavailableError:
            return await self._load_account(person_id, None)

    async def save_login(
        self, profile: Profile, covers: Sequence[KnownCover], *, replaces: str | None
    ) -> str | None:
        """Keeps a login in one script and opens a session.

        Args:
            profile: Of who signed in.
            covers: What is known now, each with the version of what it was built on; a sponsorable
                that is missing keeps its presence.
            replaces: The session token that the browser had before; that session ends.

        Returns:
            The new session's token, for the cookie. It is not stored, only a hash of it. None where
            a cover has changed meanwhile: then nothing was kept.
        """
        token = secrets.token_urlsafe(_SESSION_TOKEN_BYTES)
        told = {
            "profile": dump_profile(profile),
            "covers": {
                cover.facts.sponsorable: dump_cover_facts(cover.facts)
                for cover in covers
                if cover.facts is not None
            },
            "versions": {
                cover.facts.sponsorable: cover.version
                for cover in covers
                if cover.facts is not None
            },
            "collections": list(self._collections),
            "is_verified": self._fetcher is None or self._fetcher.is_local_verified,
            "has_durable": self._fetcher is not None,
        }
        saved = await self._local.run_script(
            "save_login",
            profile.id,
            self._session_s,
            keys.session(token),
            keys.session(replaces) if replaces else "",
            json.dumps(told),
        )
        return None if saved == b"changed" else token

    async def load_session(self, token: str) -> int | None:
        """Returns the id of the person whose session this is, or None."""
        reply = await self._local.run("GET", keys.session(token))
        return None if reply is None else int(cast("bytes", reply))

    async def load_standing(self, caller: str | int, sponsorable: str) -> Standing | None:
        """Returns who calls and their cover, in one round trip where both are known.

        Args:
            caller: The token of their session, or their id.
            sponsorable: The login that receives, lower-cased.

        Returns:
            None if there is no such session.

        Raises:
            DurableUnavailableError: Only durable knows, and it cannot be asked.
        """
        session, known_id = (
            (keys.session(caller), "") if isinstance(caller, str) else ("", str(caller))
        )
        answer = await ask_until_known(
            None,
            self._fetcher,
            self._gathering,
            lambda token: ("load_standing", (session, known_id, token, sponsorable)),
        )
        if len(answer) == 1:
            return None
        _, person, login, cover = answer
        person_id = int(cast("bytes", person))
        return Standing(
            person_id=person_id,
            login=cast("bytes", login).decode(errors="replace") or None,
            facts=or_unknown(person_id, partial(parse_cover_facts, sponsorable, as_hash(cover))),
        )

    async def end_session(self, token: str) -> None:
        """Ends a session; an unknown one is ended already."""
        session = keys.session(token)
        person_id = await self.load_session(token)
        if person_id is not None:
            await self._local.run_together(
                [("DEL", session), ("ZREM", keys.sessions(person_id), session)]
            )

    async def revoke_sessions(self, person_id: int) -> int:
        """Ends all sessions of a person; returns how many there were."""
        return cast("int", await self._local.run_script("revoke_sessions", person_id))

    async def delete_account(self, person_id: int) -> None:
        """Removes everything of a person from local, ends their sessions, and lets durable know.

        One script; the deletion then travels like any change, and is not undone by anything older.
        """
        await self._local.run_script(
            "delete_account",
            person_id,
            json.dumps(
                {"sponsorables": list(self._sponsorables), "collections": list(self._collections)}
            ),
        )

    async def _load_account(self, person_id: int, fetcher: Fetcher | None) -> Account:
        answer = await ask_until_known(
            person_id,
            fetcher,
            self._local,
            lambda token: ("load_account", (person_id, token, *self._sponsorables)),
        )
        profile = as_hash(answer[1])
        return Account(
            profile=or_unknown(person_id, lambda: parse_profile(profile)),
            covers={
                sponsorable: parse_known_cover(sponsorable, person_id, version, flat)
                for sponsorable, version, flat in zip(
                    self._sponsorables, answer[2::2], answer[3::2], strict=True
                )
            },
        )


def dump_profile(profile: Profile) -> Fields:
    """Returns the fields of `user_details:{id}`; None stands for no field."""
    return {
        "id": str(profile.id),
        "user_login": profile.login,
        "email": profile.email,
        "name": profile.name,
        "avatar_url": profile.avatar_url,
        "first_seen": _seconds(profile.first_seen),
        "last_login": _seconds(profile.last_login),
    }


def parse_profile(fields: Hash) -> Profile | None:
    """Returns the profile that a hash holds, or None where it holds none."""
    if b"id" not in fields:
        return None
    return Profile(
        id=int(fields[b"id"]),
        login=_text(fields, b"user_login") or "",
        name=_text(fields, b"name"),
        email=_text(fields, b"email"),
        avatar_url=_text(fields, b"avatar_url"),
        first_seen=_moment(fields, b"first_seen") or datetime.fromtimestamp(0, UTC),
        last_login=_moment(fields, b"last_login") or datetime.fromtimestamp(0, UTC),
    )


def dump_cover_facts(facts: CoverFacts) -> Fields:
    """Returns the fields of `sponsorship:{login}:{id}`; None stands for no field."""
    return {
        "source": facts.source.value,
        "checked_at": _seconds(facts.checked_at),
        "tier_cents": None if facts.tier_cents is None else str(facts.tier_cents),
        "is_one_time": str(int(facts.is_one_time)),
        "privacy": None if facts.privacy is None else facts.privacy.value,
        "payment_source": None if facts.payment_source is None else facts.payment_source.value,
        "since": _seconds(facts.since),
        "valid_until": _seconds(facts.valid_until),
        "unknown_since": _seconds(facts.unknown_since),
        "also": _dump_grants(facts.grants) if facts.grants else None,
        "also_until": _dump_latest_end(facts.grants),
        "memberships_checked_at": _seconds(facts.memberships_checked_at),
        "memberships_unknown_since": _seconds(facts.memberships_unknown_since),
    }


def parse_cover_facts(sponsorable: str, fields: Hash) -> CoverFacts | None:
    """Returns the facts that a hash holds, or None where it holds none."""
    if b"source" not in fields:
        return None
    privacy = _text(fields, b"privacy")
    payment_source = _text(fields, b"payment_source")
    tier_cents = fields.get(b"tier_cents")
    return CoverFacts(
        sponsorable=sponsorable,
        checked_at=_moment(fields, b"checked_at"),
        source=CoverSource(_text(fields, b"source") or CoverSource.NONE),
        tier_cents=None if tier_cents is None else int(tier_cents),
        is_one_time=fields.get(b"is_one_time") == b"1",
        privacy=None if privacy is None else Privacy(privacy),
        payment_source=None if payment_source is None else PaymentSource(payment_source),
        since=_moment(fields, b"since"),
        valid_until=_moment(fields, b"valid_until"),
        unknown_since=_moment(fields, b"unknown_since"),
        grants=_parse_grants(fields.get(b"also", b"[]")),
        memberships_checked_at=_moment(fields, b"memberships_checked_at"),
        memberships_unknown_since=_moment(fields, b"memberships_unknown_since"),
        is_partial=b"partial" in fields,
    )


def parse_known_cover(
    sponsorable: str, person_id: int, version: object, flat: object
) -> KnownCover:
    """Returns what a script replied of one person's cover: its version, and the hash."""
    read = partial(parse_cover_facts, sponsorable, as_hash(flat))
    return KnownCover(facts=or_unknown(person_id, read), version=cast("bytes", version).decode())


def or_unknown(person_id: int, parse: Callable[[], T | None]) -> T | None:
    """Returns what was read; what somebody else wrote, or a newer version of us, is unknown."""
    try:
        return parse()
    except ValueError as error:
        _log.warning("unreadable_in_redis", person=person_id, reason=str(error))
        return None


def as_hash(flat: object) -> Hash:
    """Returns the hash that a script replied as a flat list of fields and values."""
    pairs = iter(cast("list[bytes]", flat))
    return dict(zip(pairs, pairs, strict=True))


def _dump_grants(grants: Sequence[Grant]) -> str:
    """Returns them as JSON, in one order and without what is None: equal ones are equal texts.

    Each source is put behind the others when it is seen again, and that is no change of the cover.
    """
    told = [
        {
            "source": grant.source.value,
            "since": int(grant.since.timestamp()),
            "until": None if grant.until is None else int(grant.until.timestamp()),
            "cents": grant.cents,
            "organization_id": grant.organization_id,
            "organization": grant.organization,
            "member_until": (
                None if grant.member_until is None else int(grant.member_until.timestamp())
            ),
            "has_seat": None if grant.has_seat else False,
            "reason": grant.reason,
            "actor": grant.actor,
            "patron_id": grant.patron_id,
        }
        for grant in sorted(grants, key=lambda each: (each.source, each.organization_id or 0))
    ]
    return json.dumps(
        [{field: value for field, value in grant.items() if value is not None} for grant in told]
    )


def _dump_latest_end(grants: Sequence[Grant]) -> str | None:
    """Returns until when any of them covers, as the scripts read it; None where none does."""
    ends = [grant.until for grant in grants if grant.has_seat]
    if not ends:
        return None
    return "never" if None in ends else _seconds(max(end for end in ends if end is not None))


def _parse_grants(text: bytes) -> tuple[Grant, ...]:
    """Reads them; raises ValueError where somebody else wrote them."""
    try:
        return tuple(
            Grant(
                source=CoverSource(told["source"]),
                since=datetime.fromtimestamp(told["since"], UTC),
                until=_moment_of(told, "until"),
                cents=told.get("cents"),
                organization_id=told.get("organization_id"),
                organization=told.get("organization"),
                member_until=_moment_of(told, "member_until"),
                has_seat=told.get("has_seat", True),
                reason=told.get("reason"),
                actor=told.get("actor"),
                patron_id=told.get("patron_id"),
            )
            for told in json.loads(text)
        )
    except (AttributeError, KeyError, TypeError, OverflowError) as error:
        raise ValueError("its grants are none of ours") from error


def _moment_of(told: Mapping[str, Any], field: str) -> datetime | None:
    return None if told.get(field) is None else datetime.fromtimestamp(told[field], UTC)


def _text(fields: Hash, field: bytes) -> str | None:
    value = fields.get(field)
    return None if value is None else value.decode(errors="replace")


def _seconds(moment: datetime | None) -> str | None:
    return None if moment is None else str(int(moment.timestamp()))


def _moment(fields: Hash, field: bytes) -> datetime | None:
    value = fields.get(field)
    return None if value is None else datetime.fromtimestamp(int(value), UTC)
