"""Cover facts on the local Redis, of people who may never have signed in."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, cast

import structlog

from sponsorsync.domain.comparisons import FailedComparison
from sponsorsync.domain.errors import (
    DurableUnavailableError,
    StoreConflictError,
    StoreUnavailableError,
)
from sponsorsync.store import keys
from sponsorsync.store.people import dump_cover_facts, parse_known_cover

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from sponsorsync.domain.account import KnownCover
    from sponsorsync.domain.cover import CoverFacts
    from sponsorsync.store.connect import RedisStore
    from sponsorsync.store.fetching import Fetcher
    from sponsorsync.store.people import PeopleStore

# People of whom only durable knows are fetched beside each other; more would take all connections.
_FETCHES = 8
_SCAN_COUNT = 500
_BATCH = 100
_NOTED = re.compile(rb"(?P<sponsorable>[\w-]+):(?P<id>\d{1,15})(?::(?P<member>\d{1,15}))?")
# Webhooks, logins and comparisons may change the same cover at the same time.
_TRIES = 5
# Whoever links an account of Patreon's waits for who does so already, for some seconds.
_PATRON_TRIES = 50
_PATRON_WAIT_S = 0.1
# So begins a script's sentence on a foreign key.
_FOREIGN = "WRONGTYPE "

_log = structlog.get_logger(__name__)


async def end_covers(local: RedisStore) -> None:
    """Makes each cover that has ended by now an event.

    Raises:
        StoreUnavailableError: Local cannot be asked.
    """
    while cast("int", await local.run_script("sweep_covers", _BATCH)) == _BATCH:
        pass


async def load_failed_comparisons(local: RedisStore) -> dict[str, FailedComparison]:
    """Returns of which sponsorables a comparison has failed since the last complete one.

    Raises:
        StoreConflictError: Somebody else wrote that key.
        StoreUnavailableError: Local cannot be asked.
    """
    reply = cast("dict[bytes, bytes]", await local.run("HGETALL", keys.RECONCILE_FAILED))
    found = {}
    for sponsorable, text in reply.items():
        # What somebody else wrote is none.
        with suppress(ValueError, KeyError, TypeError, OverflowError):
            told = json.loads(text)
            at = datetime.fromtimestamp(told["at"], UTC)
            found[sponsorable.decode()] = FailedComparison(at=at, reason=str(told["reason"]))
    return found


class Saved(StrEnum):
    """What became of a change of cover.

    Attributes:
        CONFLICT: There is a foreign key in the place of one of this person's; the log names it.
    """

    OK = "ok"
    CHANGED = "changed"
    SEEN = "seen"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class CoverChange:
    """Facts to keep.

    Attributes:
        version: Of what they are built on; if that has changed, nothing is kept.
        delivery: The event's number; one that was applied before is not applied again.
    """

    person_id: int
    facts: CoverFacts
    version: str
    by: str
    reference: str
    delivery: str = ""


@dataclass(slots=True)
class ChangedOrganization:
    """An organization whose members are to be judged, each by a note: its field, and what it says.

    Attributes:
        id: GitHub's number.
        note: Of all members; None where only some are to be judged.
        newcomers: Of those who are new there, by their numbers.
    """

    sponsorable: str
    id: int
    note: tuple[bytes, bytes] | None = None
    newcomers: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)

    @property
    def notes(self) -> list[tuple[bytes, bytes]]:
        """All of them."""
        return [*self.newcomers.values(), *([] if self.note is None else [self.note])]


class CoverStore:
    """Loads and saves what GitHub tells of sponsorships, without anybody signing in."""

    def __init__(
        self,
        local: RedisStore,
        people: PeopleStore,
        *,
        sponsorables: Sequence[str],
        collections: Sequence[str],
        fetcher: Fetcher | None,
    ) -> None:
        self._local = local
        self._people = people
        self._sponsorables = sponsorables
        self._collections = collections
        self._fetcher = fetcher

    async def load(self, sponsorable: str, person_ids: Sequence[int]) -> Mapping[int, KnownCover]:
        """Returns what is known of each; what only durable knows is brought here first.

        While durable cannot be asked, that counts as nothing; so does what a foreign key is in the
        place of.
        """
        covers = await self._load_here(sponsorable, person_ids)
        missing = [person_id for person_id, (_, is_known) in covers.items() if not is_known]
        if missing and self._fetcher is not None:
            await self._fetch(missing)
            covers |= await self._load_here(sponsorable, missing)
        return {person_id: cover for person_id, (cover, _) in covers.items()}

    async def load_for_certain(self, sponsorable: str, person_id: int) -> KnownCover:
        """Returns what is known of one person's cover, for who adds to that.

        Raises:
            DurableUnavailableError: Only durable knows, and it cannot be asked.
            StoreConflictError: There is a foreign key in the place of one of theirs.
        """
        cover, is_known = (await self._load_here(sponsorable, [person_id]))[person_id]
        self._require_ours(cover)
        if is_known or self._fetcher is None:
            return cover
        await self._people.load_account(person_id)
        cover, is_known = (await self._load_here(sponsorable, [person_id]))[person_id]
        if not is_known:
            # Local has a part of it (`partial`); the relay adds the rest when durable is back.
            raise DurableUnavailableError(
                "Durable storage, which may know more of this cover, could not be asked yet."
            )
        return cover

    async def change(
        self,
        sponsorable: str,
        person_id: int,
        decide: Callable[[CoverFacts | None], CoverFacts | None],
        *,
        by: str,
        reference: str = "",
        delivery: str = "",
        for_certain: bool = False,
    ) -> tuple[Saved | None, CoverFacts | None]:
        """Changes what is known of one person's cover, however many others do so meanwhile.

        Args:
            sponsorable: The login that receives, lower-cased.
            person_id: Whose cover it is.
            decide: Returns the new facts for those that are known; None to leave them.
            by: What it comes from, for the audit trail.
            reference: Which one of these.
            delivery: The event's number, if it is one.
            for_certain: Nothing is changed while only durable knows, and cannot be asked.

        Returns:
            What became of it, None where it was left; and the facts that are known now.

        Raises:
            DurableUnavailableError: See `for_certain`.
            StoreConflictError: There is a foreign key in the place of one that it would change.
            StoreUnavailableError: Local cannot be asked, or others keep changing it.
        """
        for _ in range(_TRIES):
            if for_certain:
                known = await self.load_for_certain(sponsorable, person_id)
            else:
                known = (await self.load(sponsorable, [person_id]))[person_id]
                self._require_ours(known)
            facts = decide(known.facts)
            if facts is None:
                return None, known.facts
            change = CoverChange(
                person_id, facts, known.version, by=by, reference=reference, delivery=delivery
            )
            [saved] = await self.save([change])
            if saved is Saved.CONFLICT:
                raise self._local.say_conflict()
            if saved is not Saved.CHANGED:
                return saved, facts if saved is Saved.OK else known.facts
        raise StoreUnavailableError("Somebody else keeps changing the same cover.")

    async def save(self, changes: Sequence[CoverChange]) -> list[Saved]:
        """Keeps facts, each person's in one script that also notes it in the audit trail.

        Raises:
            StoreConflictError: There is a foreign key in the place of one that is everybody's.
            StoreUnavailableError: Local cannot be asked.
        """
        if not changes:
            return []
        is_verified = self._fetcher is None or self._fetcher.is_local_verified
        replies = await self._local.run_scripts(
            "save_cover", [self._dump(change, is_verified=is_verified) for change in changes]
        )
        return [
            self._tell(change, cast("bytes", reply).decode(errors="replace"))
            for change, reply in zip(changes, replies, strict=True)
        ]

    async def is_delivered(self, delivery: str) -> bool:
        """Tells whether an event of this number was applied."""
        return await self._local.run("EXISTS", keys.delivery(delivery)) == 1

    async def find_unknown(self, sponsorable: str, person_ids: Sequence[int]) -> set[int]:
        """Returns of whom more may be known than `load` has just returned.

        That is what durable knows, while it is away, and what a foreign key is in the place of.
        """
        covers = await self._load_here(sponsorable, person_ids)
        return {
            person_id
            for person_id, (cover, is_known) in covers.items()
            if not is_known and (self._fetcher is not None or _is_foreign(cover))
        }

    async def take_seat(
        self,
        sponsorable: str,
        organization_id: int,
        person_id: int,
        *,
        seats: int | None,
    ) -> bool:
        """Tells whether a member has one of an organization's seats, and takes a free one.

        It is held for minutes; whoever keeps the member's grant has it for as long as that holds.

        Args:
            sponsorable: Whom the organization sponsors.
            organization_id: Whose seats they are.
            person_id: The member.
            seats: How many there are; None is one for each.
        """
        reply = await self._local.run_script(
            "take_seat",
            sponsorable,
            organization_id,
            person_id,
            "" if seats is None else seats,
        )
        return reply == 1

    async def has_changed_organizations(self) -> bool:
        """Tells whether `find_changed_organizations` would find any."""
        return await self._local.run("HLEN", keys.ORGANIZATIONS) != 0

    async def find_changed_organizations(self) -> list[ChangedOrganization]:
        """Returns those whose members, or some of them, are to be judged.

        What somebody else wrote among the notes is removed.
        """
        reply = cast("dict[bytes, bytes]", await self._local.run("HGETALL", keys.ORGANIZATIONS))
        found: dict[tuple[str, int], ChangedOrganization] = {}
        for name, note in reply.items():
            told = _NOTED.fullmatch(name)
            if told is None:
                _log.warning("organization_unreadable", field=name.decode(errors="replace"))
                await self._local.run("HDEL", keys.ORGANIZATIONS, name)
                continue
            key = told["sponsorable"].decode(), int(told["id"])
            changed = found.setdefault(key, ChangedOrganization(*key))
            if told["member"]:
                changed.newcomers[int(told["member"])] = (name, note)
            else:
                changed.note = (name, note)
        return list(found.values())

    async def settle_organizations(self, notes: Sequence[tuple[bytes, bytes]]) -> None:
        """Removes notes of which everybody was judged, unless there is a new one in its place."""
        for at in range(0, len(notes), _BATCH):
            flat = [each for note in notes[at : at + _BATCH] for each in note]
            await self._local.run_script("settle_organization", *flat)

    async def load_members(self, sponsorable: str, organization_id: int) -> list[int]:
        """Returns who is, or was, covered by an organization's sponsorship."""
        reply = await self._local.run("ZRANGE", keys.members(sponsorable, organization_id), 0, -1)
        return [int(member) for member in cast("list[bytes]", reply) if member.isdigit()]

    async def save_look(self, sponsorable: str) -> None:
        """Notes that GitHub has to be looked at again, until somebody has done so."""
        await self._local.run("HSET", keys.LOOKS, sponsorable, secrets.token_hex(8))

    async def load_looks(self) -> dict[str, str]:
        """Returns at whom GitHub has to be looked again, and what names the latest who asked.

        Besides those of `save_look` these are sponsorables of whom a monthly cover has ended by
        itself.
        """
        reply = cast("dict[bytes, bytes]", await self._local.run("HGETALL", keys.LOOKS))
        found = {field.decode(): name.decode() for field, name in reply.items()}
        return {each: name for each, name in found.items() if each in self._sponsorables}

    async def find_patron(self, sponsorable: str, patron_id: str) -> int | None:
        """Returns who linked an account of Patreon's."""
        reply = await self._local.run("HGET", keys.patrons(sponsorable), patron_id)
        return None if reply is None else int(cast("bytes", reply))

    @asynccontextmanager
    async def hold_patron(self, patron_id: str) -> AsyncIterator[None]:
        """Keeps others from linking the same account of Patreon's while the context is open.

        Raises:
            StoreUnavailableError: Somebody else does not come to an end; or local is away.
        """
        key, token = keys.linking(patron_id), secrets.token_hex(16)
        for _ in range(_PATRON_TRIES):
            if await self._local.run("SET", key, token, "NX", "PX", keys.LINKING_TTL_MS):
                break
            await asyncio.sleep(_PATRON_WAIT_S)
        else:
            raise StoreUnavailableError(
                "Somebody else is linking the same account of Patreon's. Try again in a moment."
            )
        try:
            yield
        finally:
            with suppress(StoreUnavailableError):  # it ends by itself, too
                await self._local.run_script("hold", key, token, 0)

    async def take_refresh(self, person_id: int) -> int:
        """Returns 0 where GitHub may be asked about a person now, else in how many ms it may."""
        return cast(
            "int", await self._local.run_script("take_refresh", person_id, *self._sponsorables)
        )

    async def load_asked(self, sponsorable: str) -> list[int]:
        """Returns who has asked since, and waits for, a complete comparison."""
        reply = await self._local.run("SMEMBERS", keys.asked(sponsorable))
        return [int(member) for member in cast("set[bytes]", reply) if member.isdigit()]

    async def settle_asked(self, sponsorable: str, person_ids: Sequence[int]) -> None:
        """Notes that these have been answered."""
        await self._local.run("SREM", keys.asked(sponsorable), *person_ids)

    async def load_logins(self, person_ids: Sequence[int]) -> Mapping[int, str | None]:
        """Returns the login of each as of their last sign-in, None of who never did."""
        if not person_ids:
            return {}
        reply = cast("list[bytes]", await self._local.run_script("load_logins", *person_ids))
        return {
            person_id: login.decode(errors="replace") or None
            for person_id, login in zip(person_ids, reply, strict=True)
        }

    async def load_covered(
        self, sponsorable: str, cursor: int, count: int
    ) -> tuple[int, list[int]]:
        """Returns some ids of the index of who is covered, and where the next ones begin (0: none).

        Over all of them each comes at least once.
        """
        reply = await self._local.run("SSCAN", keys.sponsors(sponsorable), cursor, "COUNT", count)
        cursor, members = cast("tuple[int, list[bytes]]", reply)
        return cursor, [int(member) for member in members if member.isdigit()]

    async def walk_covered(self, sponsorable: str) -> AsyncIterator[list[int]]:
        """Yields the ids that stand in the index of who is covered; some may come twice."""
        cursor = 0
        while True:
            cursor, members = await self.load_covered(sponsorable, cursor, _SCAN_COUNT)
            yield members
            if cursor == 0:
                return

    async def load_reconciled(self, sponsorable: str) -> datetime | None:
        """Returns when the last complete comparison with GitHub began."""
        reply = await self._local.run("HGET", keys.RECONCILED, sponsorable)
        return None if reply is None else datetime.fromtimestamp(int(cast("bytes", reply)), UTC)

    async def load_failed(self) -> dict[str, FailedComparison]:
        """Returns of which sponsorables a comparison has failed since the last complete one."""
        return await load_failed_comparisons(self._local)

    async def save_failed(self, sponsorable: str, failed: FailedComparison) -> None:
        """Notes that a comparison with GitHub was not complete."""
        told = {"at": int(failed.at.timestamp()), "reason": failed.reason}
        await self._local.run("HSET", keys.RECONCILE_FAILED, sponsorable, json.dumps(told))

    async def save_reconciled(
        self, sponsorable: str, began_at: datetime, look: str | None = None
    ) -> None:
        """Notes that a comparison with GitHub was complete.

        Args:
            sponsorable: Who was compared.
            began_at: Before GitHub was asked.
            look: What `load_looks` told then: that look is done, unless somebody asked again since.
        """
        await self._local.run_script(
            "save_reconciled", sponsorable, int(began_at.timestamp()), look or ""
        )

    async def take_reconciling(self, token: str) -> bool:
        """Takes the right to compare with GitHub; one replica has it at a time."""
        taken = await self._local.run(
            "SET", keys.RECONCILING, token, "NX", "PX", keys.RECONCILING_TTL_MS
        )
        return taken is not None

    async def hold_reconciling(self, token: str) -> bool:
        """Keeps that right for longer; False where it was lost."""
        ttl_ms = keys.RECONCILING_TTL_MS
        return await self._local.run_script("hold", keys.RECONCILING, token, ttl_ms) == 1

    async def give_up_reconciling(self, token: str) -> None:
        """Lets others compare."""
        await self._local.run_script("hold", keys.RECONCILING, token, 0)

    async def take_following(self, token: str) -> bool:
        """Takes the right to judge members again; one replica has it at a time."""
        taken = await self._local.run(
            "SET", keys.FOLLOWING, token, "NX", "PX", keys.FOLLOWING_TTL_MS
        )
        return taken is not None

    async def hold_following(self, token: str) -> bool:
        """Keeps that right for longer; False where it was lost."""
        ttl_ms = keys.FOLLOWING_TTL_MS
        return await self._local.run_script("hold", keys.FOLLOWING, token, ttl_ms) == 1

    async def give_up_following(self, token: str) -> None:
        """Lets others judge them."""
        await self._local.run_script("hold", keys.FOLLOWING, token, 0)

    async def _load_here(
        self, sponsorable: str, person_ids: Sequence[int]
    ) -> dict[int, tuple[KnownCover, bool]]:
        if not person_ids:
            return {}
        replies = cast(
            "list[tuple[bytes, int, list[bytes]]]",
            await self._local.run_script("load_covers", sponsorable, *person_ids),
        )
        return {
            person_id: (parse_known_cover(sponsorable, person_id, version, flat), is_known == 1)
            for person_id, (version, is_known, flat) in zip(person_ids, replies, strict=True)
        }

    async def _fetch(self, person_ids: Sequence[int]) -> None:
        places = asyncio.Semaphore(_FETCHES)

        async def fetch(person_id: int) -> None:
            async with places:
                # A foreign key is in the way of this person alone; their parts stay unknown.
                with suppress(StoreConflictError):
                    await self._people.load_account_for_login(person_id)

        await asyncio.gather(*(fetch(person_id) for person_id in person_ids))

    def _require_ours(self, cover: KnownCover) -> None:
        if _is_foreign(cover):
            raise self._local.say_conflict(cover.version)

    def _tell(self, change: CoverChange, reply: str) -> Saved:
        if not reply.startswith(_FOREIGN):
            return Saved(reply)
        _log.warning(
            "cover_not_kept",
            person=change.person_id,
            sponsorable=change.facts.sponsorable,
            by=change.by,
            reason=reply,
        )
        return Saved.CONFLICT

    def _dump(self, change: CoverChange, *, is_verified: bool) -> tuple[int | str, ...]:
        told = {
            "facts": dump_cover_facts(change.facts),
            "collections": list(self._collections),
            "is_verified": is_verified,
            "has_durable": self._fetcher is not None,
            "by": change.by,
            "reference": change.reference,
        }
        return (
            change.person_id,
            change.facts.sponsorable,
            change.version,
            change.delivery,
            json.dumps(told),
        )


def _is_foreign(cover: KnownCover) -> bool:
    return cover.version.startswith(_FOREIGN)
