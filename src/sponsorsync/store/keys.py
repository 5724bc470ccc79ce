"""The name of every key that SponsorSync touches, and every time to live.

Lua scripts use the same names; `scripts.py` defines them at the top of each script. A person id is
GitHub's numeric id. Times are whole seconds since 1970 (UTC), versions are microseconds. A comment
says what a key holds; where a function below fills in the name, its docstring does.
"""

import hashlib

# --- both servers: a person's parts ---
USER_DETAILS = "user_details:{id}"
PREFERENCES = "user:{id}:{collection}"
SPONSORSHIP = "sponsorship:{sponsorable}:{id}"
META = "sponsorsync:meta:{id}"
# JSON: a copy of the profile and all entitlements for others to query (RedisJSON only).
USER_DETAILS_JSON = "user_details_json:{id}"
# Exists only while a script runs: a part that came as a dump and whose contents the script reads.
UNPACKED = "sponsorsync:unpacked"
# --- both servers: indexes, which each server's scripts maintain and which are never copied ---
SPONSORS = "sponsors:{sponsorable}"
# Sorted set of all person ids; on local by the latest version of any of their parts, on durable by
# the value of APPLIED when durable last took a part of theirs.
PEOPLE = "sponsorsync:people"
# --- local: the application's own key ---
VISITOR = "user:{id}"
# --- local: changes on their way to durable ---
# Set of the ids of people with changes that durable has not confirmed.
DIRTY = "sponsorsync:dirty"
# Stream of `u <id>`: wakes a relay. DIRTY says what has to travel.
OUTBOX = "sponsorsync:outbox"
# Hash by person id: JSON with the reason why durable refuses their data, and the next attempt.
DEAD_LETTERS = "sponsorsync:dead_letters"
# Sorted set of person ids by the value of durable's APPLIED when it last confirmed them.
CONFIRMED = "sponsorsync:confirmed"
# --- local: fetches from durable ---
LEASE = "sponsorsync:lease:{id}"
# Set: the parts of this person that durable recently said it does not have.
NEGATIVE = "sponsorsync:negative:{id}"
PENDING = "sponsorsync:pending:{id}"
# Hash: the incarnations of both servers that were last compared; `dumps:{side}`, whether that
# server reads the other one's dumps; `checked`, the value of durable's APPLIED up to which local is
# known to have everything that durable took (unconfirmed.py).
INCARNATIONS = "sponsorsync:incarnations"
# String that exists while one of our scripts writes sets: the capture of foreign writes ignores
# changes meanwhile.
CAPTURE_SUPPRESSED = "sponsorsync:capture_suppressed"
# --- local: entitlements that end, webhooks, reconciles ---
# Sorted set of `{login}:{id}` by the second in which the person's next grant ends.
ENTITLEMENT_ENDS = "sponsorsync:entitlement_ends"
DELIVERY = "sponsorsync:delivery:{delivery}"
# Stream: each grant, change and loss of an entitlement, with the cause and the facts before and
# after it; capped at AUDIT_LENGTH.
AUDIT = "sponsorsync:audit"
# String: the lock of the replica that compares with GitHub.
RECONCILING = "sponsorsync:reconciling"
# Hash by sponsorable: the second in which the last full reconcile began.
RECONCILED = "sponsorsync:reconciled"
# Hash by sponsorable: JSON with the time and the reason of a reconcile that failed after the last
# full one.
RECONCILE_FAILED = "sponsorsync:reconcile_failed"
# Hash by sponsorable: a random token of the latest request for a reconcile.
RECONCILE_REQUESTS = "sponsorsync:reconcile_requests"
# --- local: organizations whose members are entitled ---
MEMBERS = "sponsorsync:members:{sponsorable}:{id}"
# Hash to a version that is never used twice. `{sponsorable}:{id}`: an organization whose
# entitlement changed since its members were last evaluated. `{sponsorable}:{id}:{member}`: a new
# member who has not been evaluated.
ORGANIZATIONS = "sponsorsync:organizations"
# String: the lock of the replica that evaluates members again.
RECOMPUTING = "sponsorsync:recomputing"
# --- local: accounts at other services ---
LINKED_ACCOUNTS = "sponsorsync:linked_accounts:{source}:{sponsorable}"
LINKING = "sponsorsync:linking:{source}:{id}"
# --- local: POST /me/refresh ---
# String that exists until this person may refresh again.
REFRESHED = "sponsorsync:refreshed:{id}"
# String: the number of refreshes in the current minute.
REFRESHES = "sponsorsync:refreshes"
AWAITING_RECONCILE = "sponsorsync:awaiting_reconcile:{sponsorable}"
# --- local: uploads of the scripts for RedisGears ---
# String: the lock of the replica that uploads.
DEPLOYING = "sponsorsync:deploying"
# --- local: sessions ---
SESSION = "sponsorsync:session:{hash}"
SESSIONS = "sponsorsync:sessions:{id}"
# --- durable ---
# String: the number of scripts that changed durable.
APPLIED = "sponsorsync:applied"
# Sorted set of people who have preferences on durable and are not entitled, by the second in which
# their entitlement lapsed.
LAPSED = "sponsorsync:lapsed"

NAMES = {
    name: value
    for name, value in list(globals().items())
    if name.isupper() and isinstance(value, str)
}
"""All keys above by the names of their constants, which are those of the Lua scripts, too."""

OUTBOX_GROUP = "relay"
"""The relays' consumer group: each entry wakes one of them."""

PROBE = "sponsorsync:probe"
"""String that a check writes to learn whether a server takes writes."""

DUMP_PROBE = "sponsorsync:probe:dump"
"""Key that one server dumps and the other restores, to learn whether that works."""

PROBE_TTL_MS = 1

SHARED_DATABASE_PROBE_TTL_MS = 10_000
"""Longer than the two commands that look for the probe."""

RECONCILING_TTL_MS = 60_000
"""Each page, which takes seconds, renews it. Expires if the holder dies."""

RECOMPUTING_TTL_MS = 20_000
"""Each hundred members renew it. Expires if the holder dies."""

SEAT_TTL_S = 600
"""Longer than a sign-in takes. A seat becomes free again if the sign-in fails."""

AUDIT_LENGTH = 100_000
"""Entries that the audit trail has at least; Redis drops older ones by whole nodes."""

DELIVERY_TTL_S = 7 * 24 * 3600
"""GitHub can deliver an event again for three days."""

LINKING_TTL_MS = 10_000
"""Two people are changed meanwhile. Expires if the holder dies."""

REFRESHED_TTL_MS = 60_000
"""Between two refreshes of one person; webhooks report what happens in between."""

REFRESHES_A_MINUTE = 30
"""Of all people together; each costs two of the maintainer's 5,000 points an hour at GitHub."""

LEASE_TTL_MS = 10_000
"""A fetch from durable takes milliseconds. Expires if the holder dies."""

CAPTURE_SUPPRESSED_TTL_MS = 1000
"""A script takes milliseconds. Expires if the script fails, so that foreign writes are captured."""

NEGATIVE_TTL_S = 30
"""How long 'durable has nothing of this person' is trusted without asking again."""

DEPLOYING_TTL_MS = 10_000
"""The holder renews it during an upload. Expires if the holder dies."""


def user_details(person_id: int) -> str:
    """Hash: the profile (id, user_login, email, name, avatar_url, first_seen, last_login)."""
    return USER_DETAILS.format(id=person_id)


def preferences(person_id: int, collection: str) -> str:
    """Set of node ids, and nothing else: the application reads it directly."""
    return PREFERENCES.format(id=person_id, collection=collection)


def sponsorship(sponsorable: str, person_id: int) -> str:
    """Hash: the facts of one person's entitlement by one sponsorable."""
    return SPONSORSHIP.format(sponsorable=sponsorable, id=person_id)


def sponsors(sponsorable: str) -> str:
    """Set of the ids of people who are entitled now."""
    return SPONSORS.format(sponsorable=sponsorable)


def visitor(number: int) -> str:
    """Hash of the application: one of its anonymous visitors."""
    return VISITOR.format(id=number)


def meta(person_id: int) -> str:
    """Hash without a TTL: what is known of the person's parts.

    For each part the version `v:{part}`, the presence `p:{part}` and, of a set, the size
    `n:{part}`; `x`, the version of the last deletion of the account. On local also
    `d:{collection}` if durable may hold a copy, and `m`, how often the person was marked dirty.
    """
    return META.format(id=person_id)


def shared_database_probe(token: str) -> str:
    """String that is written to local and looked for on durable."""
    return f"{PROBE}:{token}"


def lease(person_id: int) -> str:
    """String: the random token of the process that fetches this person's parts from durable."""
    return LEASE.format(id=person_id)


def pending(person_id: int) -> str:
    r"""Hash `{collection}\n{item}` to + or -: changes of unknown parts while durable is down."""
    return PENDING.format(id=person_id)


def members(sponsorable: str, organization_id: int) -> str:
    """Sorted set: people with a seat of an organization, by the second their membership ends."""
    return MEMBERS.format(sponsorable=sponsorable, id=organization_id)


def linked_accounts(source: str, sponsorable: str) -> str:
    """Hash: by account id, the person that linked it; an account counts for one person."""
    return LINKED_ACCOUNTS.format(source=source, sponsorable=sponsorable)


def linking(source: str, account_id: str) -> str:
    """String: the random token of the request that is linking this account."""
    return LINKING.format(source=source, id=account_id)


def awaiting_reconcile(sponsorable: str) -> str:
    """Set: people whose refresh the next full reconcile answers."""
    return AWAITING_RECONCILE.format(sponsorable=sponsorable)


def delivery(number: str) -> str:
    """String that exists if the event with this X-GitHub-Delivery was applied."""
    return DELIVERY.format(delivery=number)


def session(token: str) -> str:
    """String: the person's id. Only a hash of the token is stored: a dump opens no session."""
    return SESSION.format(hash=hashlib.sha256(token.encode()).hexdigest())


def sessions(person_id: int) -> str:
    """Sorted set of a person's session keys by the second in which each ends."""
    return SESSIONS.format(id=person_id)
