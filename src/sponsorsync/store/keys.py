"""Every key that SponsorSync touches, and every time to live: the one home of their names.

The Lua scripts get the same names: `scripts.py` writes them in front of each. Person ids are
GitHub's numeric ids. Moments are stored as whole seconds since 1970 (UTC), versions as
microseconds.
"""

from __future__ import annotations

import hashlib

NAMES = {
    # --- both sides: a person's parts ---
    "USER_DETAILS": "user_details:{id}",
    "PREFERENCES": "user:{id}:{collection}",
    "SPONSORSHIP": "sponsorship:{sponsorable}:{id}",
    # Hash: version `v:{part}` and presence `p:{part}` of each part; `x`, the version of the last
    # deletion of the account. On local also `d:{collection}` once durable holds a copy, and `m`,
    # how often the person was marked dirty. No TTL.
    "META": "sponsorsync:meta:{id}",
    # JSON: a copy of the profile and all entitlements, where the server has RedisJSON; never read
    # by us.
    "USER_DETAILS_JSON": "user_details_json:{id}",
    # Within a script only: a part that came as a dump, while its members are read.
    "UNPACKED": "sponsorsync:unpacked",
    # --- both sides: indexes, kept by each side's scripts and never copied ---
    "SPONSORS": "sponsors:{sponsorable}",
    # Sorted set: everybody; on local by the latest version of any of their parts, on durable by its
    # APPLIED when something of theirs was taken last.
    "PEOPLE": "sponsorsync:people",
    # --- local: the application's own ---
    "VISITOR": "user:{id}",
    # --- local: what travels ---
    "DIRTY": "sponsorsync:dirty",
    "OUTBOX": "sponsorsync:outbox",
    "DEAD_LETTERS": "sponsorsync:dead_letters",
    # Sorted set: everybody by durable's APPLIED when it last confirmed them.
    "CONFIRMED": "sponsorsync:confirmed",
    # --- local: what comes back ---
    "LEASE": "sponsorsync:lease:{id}",
    "NEGATIVE": "sponsorsync:negative:{id}",
    "PENDING": "sponsorsync:pending:{id}",
    # Hash: the incarnations of both servers that were last compared; `dumps:{side}`, whether that
    # one reads the other one's dumps; `checked`, durable's APPLIED up to which local is known to
    # have all that durable took (unconfirmed.py).
    "INCARNATIONS": "sponsorsync:incarnation",
    # String while a script of ours writes sets: the capture of foreign writes then looks away.
    "CAPTURE_SUPPRESSED": "sponsorsync:quiet",
    # --- local: time ---
    "ENTITLEMENT_ENDS": "sponsorsync:entitlement_ends",
    # --- local: what GitHub tells by itself ---
    # String: an event of this number was applied.
    "DELIVERY": "sponsorsync:delivery:{delivery}",
    # Stream: each grant, change and loss of an entitlement, capped.
    "AUDIT": "sponsorsync:audit",
    # String: which replica compares with GitHub.
    "RECONCILING": "sponsorsync:reconciling",
    # Hash: by sponsorable, the second in which the last complete comparison began.
    "RECONCILED": "sponsorsync:reconciled",
    # Hash: by sponsorable, JSON with when and why a comparison has failed since the last complete.
    "RECONCILE_FAILED": "sponsorsync:reconcile_failed",
    # Hash: sponsorables at whom GitHub is to be looked again, to what names the latest who asked.
    "RECONCILE_REQUESTS": "sponsorsync:looks",
    # --- local: organizations whose members are entitled ---
    # Sorted set: members by the second until which their membership holds; each has one seat.
    "MEMBERS": "sponsorsync:members:{sponsorable}:{id}",
    # Hash: `{sponsorable}:{id}` of an organization whose entitlement changed since its members were
    # last judged, and `{sponsorable}:{id}:{member}` of who is new there, to a version that no other
    # note has.
    "ORGANIZATIONS": "sponsorsync:organizations",
    # String: which replica judges members again.
    "RECOMPUTING": "sponsorsync:following",
    # Hash: by the id of an account at a source, the person that linked it.
    "LINKED_ACCOUNTS": "sponsorsync:linked_accounts:{source}:{sponsorable}",
    # String: a person is linking this account at the moment.
    "LINKING": "sponsorsync:linking:{source}:{id}",
    # --- local: who had GitHub asked with the maintainer's token ---
    "REFRESHED": "sponsorsync:refreshed:{id}",
    "REFRESHES": "sponsorsync:refreshes",
    # Set: whom a complete comparison has to tell something, be it that they are no sponsor.
    "AWAITING_RECONCILE": "sponsorsync:asked:{sponsorable}",
    # --- local: who uploads the scripts for RedisGears ---
    "DEPLOYING": "sponsorsync:deploying",
    # --- local: who is signed in ---
    "SESSION": "sponsorsync:session:{hash}",
    "SESSIONS": "sponsorsync:sessions:{id}",
    # --- durable ---
    "APPLIED": "sponsorsync:applied",
    # Sorted set: who has preferences here without being entitled, by the second of the lapse.
    "LAPSED": "sponsorsync:lapsed",
}
"""Names of keys by the name of a constant (or function) of the Lua scripts."""

DIRTY = NAMES["DIRTY"]
"""Set of the ids of people with changes that the durable side has not confirmed."""

OUTBOX = NAMES["OUTBOX"]
"""Stream of `u <id>`: wakes whoever drains. What is true stands in DIRTY."""

OUTBOX_GROUP = "relay"
"""The relays' consumer group: each entry wakes one of them."""

DEAD_LETTERS = NAMES["DEAD_LETTERS"]
"""Hash by id: JSON with the reason for which durable refuses a person's data, and the next try."""

ENTITLEMENT_ENDS = NAMES["ENTITLEMENT_ENDS"]
"""Sorted set of `{login}:{id}` by the second in which something that entitles them ends next."""

DEPLOYING = NAMES["DEPLOYING"]
"""String: the random token of the replica that uploads scripts; the others wait for it."""

PEOPLE = NAMES["PEOPLE"]
CONFIRMED = NAMES["CONFIRMED"]
INCARNATIONS = NAMES["INCARNATIONS"]
APPLIED = NAMES["APPLIED"]
LAPSED = NAMES["LAPSED"]

AUDIT = NAMES["AUDIT"]
"""Stream: who gained, changed or lost an entitlement, by what, before and after; on local only."""

RECONCILING = NAMES["RECONCILING"]
"""String: the random token of the replica that compares with GitHub."""

RECONCILING_TTL_MS = 60_000
"""A page takes seconds, and each renews this; who dies blocks the others for no longer."""

RECONCILED = NAMES["RECONCILED"]
RECONCILE_FAILED = NAMES["RECONCILE_FAILED"]

ORGANIZATIONS = NAMES["ORGANIZATIONS"]

RECOMPUTING = NAMES["RECOMPUTING"]
"""String: the random token of the replica that judges members again."""

RECOMPUTING_TTL_MS = 20_000
"""Each hundred members renew it; who dies keeps the others from going on for no longer."""

SEAT_TTL_S = 600
"""A sign-in takes seconds; one that fails keeps the seat that it took from others for no longer."""

RECONCILE_REQUESTS = NAMES["RECONCILE_REQUESTS"]

AUDIT_LENGTH = 100_000
"""Entries that the audit trail keeps at least; Redis drops older ones by whole nodes."""

DELIVERY_TTL_S = 7 * 24 * 3600
"""GitHub lets an event be delivered again for three days; until then it has to be known."""

LINKING_TTL_MS = 10_000
"""Two people are changed meanwhile; who dies blocks the next one for no longer."""

REFRESHED_TTL_MS = 60_000
"""Each person may have GitHub asked so often; webhooks tell what happens in between."""

REFRESHES_A_MINUTE = 30
"""Of all people together, two calls each: GitHub gives the maintainer 5,000 points an hour."""

LEASE_TTL_MS = 10_000
"""A fetch from durable takes milliseconds; whoever dies in the middle blocks nobody for longer."""

CAPTURE_SUPPRESSED_TTL_MS = 1000
"""A script takes milliseconds; should one fail, foreign writes are not missed for longer."""

NEGATIVE_TTL_S = 30
"""How long 'durable has nothing of this person' is believed without asking again."""

DEPLOYING_TTL_MS = 10_000
"""An upload takes longer now and then, so its owner renews this; who dies blocks for no longer."""

PROBE = "sponsorsync:probe"
"""String that tells whether a server takes writes; it is gone at once."""

PROBE_TTL_MS = 1

DUMP_PROBE = "sponsorsync:probe:dump"
"""A key that is made, dumped, restored on the other side, and gone at once."""


def user_details(person_id: int) -> str:
    """Hash: the profile (id, user_login, email, name, avatar_url, first_seen, last_login)."""
    return NAMES["USER_DETAILS"].format(id=person_id)


def user_details_json(person_id: int) -> str:
    """JSON: what the profile and all entitlements say, for those who query it (RedisJSON)."""
    return NAMES["USER_DETAILS_JSON"].format(id=person_id)


def preferences(person_id: int, collection: str) -> str:
    """Set of node ids, and nothing else: the application reads it directly."""
    return NAMES["PREFERENCES"].format(id=person_id, collection=collection)


def sponsorship(sponsorable: str, person_id: int) -> str:
    """Hash: the facts of one person's entitlement by one sponsorable."""
    return NAMES["SPONSORSHIP"].format(sponsorable=sponsorable, id=person_id)


def sponsors(sponsorable: str) -> str:
    """Set of the ids that are entitled now: an index."""
    return NAMES["SPONSORS"].format(sponsorable=sponsorable)


def visitor(number: int) -> str:
    """Hash of the application: one of its anonymous visitors."""
    return NAMES["VISITOR"].format(id=number)


def meta(person_id: int) -> str:
    """Hash without a TTL: versions and presence of each part."""
    return NAMES["META"].format(id=person_id)


def lease(person_id: int) -> str:
    """String: the random token of who is fetching this person's parts from durable."""
    return NAMES["LEASE"].format(id=person_id)


def negative(person_id: int) -> str:
    """Set: the parts of this person of which durable has just said that it has nothing."""
    return NAMES["NEGATIVE"].format(id=person_id)


def pending(person_id: int) -> str:
    r"""Hash `{collection}\n{item}` to + or -: changes of parts that were unknown, durable down."""
    return NAMES["PENDING"].format(id=person_id)


def members(sponsorable: str, organization_id: int) -> str:
    """Sorted set: who is entitled through an organization, by the end of their membership."""
    return NAMES["MEMBERS"].format(sponsorable=sponsorable, id=organization_id)


def linked_accounts(source: str, sponsorable: str) -> str:
    """Hash: by account id, the person that linked it; an account counts for one person."""
    return NAMES["LINKED_ACCOUNTS"].format(source=source, sponsorable=sponsorable)


def linking(source: str, account_id: str) -> str:
    """String: the random token of the request that is linking this account."""
    return NAMES["LINKING"].format(source=source, id=account_id)


def asked(sponsorable: str) -> str:
    """Set: who has asked what GitHub tells of them, and waits for a complete comparison."""
    return NAMES["AWAITING_RECONCILE"].format(sponsorable=sponsorable)


def delivery(number: str) -> str:
    """String: an event with this X-GitHub-Delivery was applied."""
    return NAMES["DELIVERY"].format(delivery=number)


def session(token: str) -> str:
    """String: the person's id. Only a hash of the token is stored: a dump opens no session."""
    return NAMES["SESSION"].format(hash=hashlib.sha256(token.encode()).hexdigest())


def sessions(person_id: int) -> str:
    """Sorted set of a person's session keys by the second in which each ends."""
    return NAMES["SESSIONS"].format(id=person_id)
