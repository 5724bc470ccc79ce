"""All data of a person on one Redis, for the export of their personal data."""

from typing import cast

from sponsorsync.domain.account import StoredPersonalData
from sponsorsync.domain.catalog import Catalog
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore


async def load_stored_personal_data(
    store: RedisStore, person_id: int, catalog: Catalog
) -> StoredPersonalData:
    """Returns all data stored under a person's number, in one round trip.

    It uses no MULTI: RedisGears 1.2 crashes its server if a MULTI has a command on a key that one
    of the registered scripts watches.

    Raises:
        StoreUnavailableError: The server cannot be asked.
        StoreConflictError: A key holds data of another kind.
    """
    profile, meta, pending, *rest = await store.run_together(
        [
            ("HGETALL", keys.user_details(person_id)),
            ("HGETALL", keys.meta(person_id)),
            ("HGETALL", keys.pending(person_id)),
            *(("HGETALL", keys.sponsorship(each, person_id)) for each in catalog.sponsorables),
            *(("SMEMBERS", keys.preferences(person_id, each)) for each in catalog.collections),
        ],
        is_atomic=False,
    )
    entitlements, sets = rest[: len(catalog.sponsorables)], rest[len(catalog.sponsorables) :]
    return StoredPersonalData(
        profile=_as_text(profile),
        entitlements={
            name: _as_text(facts)
            for name, facts in zip(catalog.sponsorables, entitlements, strict=True)
            if facts
        },
        preferences={
            name: sorted(_decode(member) for member in cast("set[bytes]", members))
            for name, members in zip(catalog.collections, sets, strict=True)
        },
        pending=_as_text(pending),
        versions=_as_text(meta),
    )


def _as_text(reply: object) -> dict[str, str]:
    fields = cast("dict[bytes, bytes]", reply)
    return {_decode(name): _decode(value) for name, value in sorted(fields.items())}


def _decode(value: bytes) -> str:
    return value.decode(errors="replace")
