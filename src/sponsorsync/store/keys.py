"""The name of every key that SponsorSync touches, and every time to live.

Lua scripts use the same names; `scripts.py` defines them at the top of each script. A person id is
GitHub's numeric id. Times are whole seconds since 1970 (UTC), versions are microseconds. What a key
holds is said in the comment above it, or in the docstring of its function below.
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
# Sorted set of all person ids. The score on local is the latest version of any of their parts; on
# durable, the value of APPLIED when durable last applied a record of the person.
PEOPLE = "sponsorsync:people"
# --- local: the application's own key ---
VISITOR = "user:{id}"
# --- local: changes on their way to durable ---
# Set of the ids of people with changes that durable has not confirmed.
DIRTY = "sponsorsync:dirty"
# Stream of `u <id>`: wakes a relay. Only DIRTY says which people have to be pushed to durable.
OUTBOX = "sponsorsync:outbox"
# Hash by person id: JSON with the reason why durable refuses their data, and the next attempt.
DEAD_LETTERS = "sponsorsync:dead_letters"
# Sorted set of person ids; the score is the value of durable's APPLIED for the last record of the
# person that durable has confirmed.
CONFIRMED = "sponsorsync:confirmed"
# --- local: fetches from durable ---
LEASE = "sponsorsync:lease:{id}"
# Set: the parts of this person that durable did not have when it was asked recently.
NEGATIVE = "sponsorsync:negative:{id}"
PENDING = "sponsorsync:pending:{id}"
# Hash: the incarnations of both servers that were last compared; `dumps:{side}`, whether that
# server reads the other server's DUMPs; `checked`, the value of durable's APPLIED up to which local
# is known to have everything that durable has applied (unconfirmed.py).
INCARNATIONS = "sponsorsync:incarnations"
# String that exists while one of our scripts writes sets: write_behind.py, which captures the
# application's writes, ignores changes meanwhile.
CAPTURE_SUPPRESSED = "sponsorsync:capture_suppressed"
# --- local: entitlements that end, webhooks, reconciles ---
# Sorted set of `{sponsorable}:{id}`; the score is the second in which the person's next grant ends.
ENTITLEMENT_ENDS = "sponsorsync:entitlement_ends"
DELIVERY = "sponsorsync:delivery:{delivery}"
# Stream: each grant, change and loss of an entitlement, with the cause and the facts before and
# after it; capped at AUDIT_LENGTH.
AUDIT = "sponsorsync:audit"
# String: the lock of the replica that runs a reconcile with GitHub.
RECONCILING = "sponsorsync:reconciling"
# Hash by sponsorable: the second in which the last full reconcile began.
RECONCILED = "sponsorsync:reconciled"
# Hash by sponsorable: JSON with the time and the reason of a reconcile that failed after the last
# full one.
RECONCILE_FAILED = "sponsorsync:reconcile_failed"
# Hash by sponsorable: a token of the latest request for a reconcile.
RECONCILE_REQUESTS = "sponsorsync:reconcile_requests"
# --- local: organizations whose members are entitled ---
MEMBERS = "sponsorsync:members:{sponsorable}:{id}"
# Hash of requests to evaluate members; each value is a version that is never used twice. Field
# `{sponsorable}:{id}`: the organization's entitlement has changed since its members were last
# evaluated. Field `{sponsorable}:{id}:{member}`: a new member has not been evaluated yet.
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
# Sorted set of people who have preferences on durable and are not entitled; the score is the second
# in which their entitlement lapsed.
LAPSED = "sponsorsync:lapsed"

NAMES = {
    name: value
    for name, value in list(globals().items())
    if name.isupper() and isinstance(value, str)
}
"""All keys above by the names of their constants; Lua scripts use the same names."""

OUTBOX_GROUP = "relay"
"""The consumer group of all relays: each entry of the outbox wakes one relay."""

PROBE = "sponsorsync:probe"
"""String that a check writes to learn whether a server takes writes."""

DUMP_PROBE = "sponsorsync:probe:dump"
"""Key that one server dumps and the other restores, to learn whether that works."""

PROBE_TTL_MS = 1

SHARED_DATABASE_PROBE_TTL_MS = 10_000
"""Longer than the two commands that look for the probe."""

RECONCILING_TTL_MS = 60_000
"""The lock expires if its holder dies. The holder renews it after each page of GitHub's answer."""

RECOMPUTING_TTL_MS = 20_000
"""The lock expires if its holder dies. The holder renews it after each hundred members."""

SEAT_TTL_S = 600
"""Longer than a sign-in takes. A seat becomes free again if the sign-in fails."""

AUDIT_LENGTH = 100_000
"""The audit trail keeps at least this many entries; Redis drops older ones in whole nodes."""

DELIVERY_TTL_S = 7 * 24 * 3600
"""Longer than the three days during which GitHub can deliver an event again."""

LINKING_TTL_MS = 10_000
"""The lock expires if its holder dies. The holder needs it while it changes two people."""

REFRESHED_TTL_MS = 60_000
"""The time between two refreshes of one person; webhooks report changes in between."""

REFRESHES_A_MINUTE = 30
"""The limit for all people together: a refresh costs two of 5,000 points an hour at GitHub."""

LEASE_TTL_MS = 10_000
"""The lease expires if its holder dies. A fetch from durable takes milliseconds."""

CAPTURE_SUPPRESSED_TTL_MS = 1000
"""Longer than a script runs. If a script fails, the capture of foreign writes goes on after it."""

NEGATIVE_TTL_S = 30
"""How long parts that durable did not have are taken as missing there, without another request."""

DEPLOYING_TTL_MS = 10_000
"""The lock expires if its holder dies. The holder renews it during an upload."""


def user_details(person_id: int) -> str:
    """Hash: the profile (id, user_login, email, name, avatar_url, first_seen, last_login)."""
    return USER_DETAILS.format(id=person_id)


def preferences(person_id: int, collection: str) -> str:
    """Set of node ids and no other members, because the application reads it directly."""
    return PREFERENCES.format(id=person_id, collection=collection)


def sponsorship(sponsorable: str, person_id: int) -> str:
    """Hash: the facts of one person's entitlement by one sponsorable."""
    return SPONSORSHIP.format(sponsorable=sponsorable, id=person_id)


def sponsors(sponsorable: str) -> str:
    """Set: the index of entitled people, by person id."""
    return SPONSORS.format(sponsorable=sponsorable)


def visitor(number: int) -> str:
    """Hash that the application writes for each of its anonymous visitors."""
    return VISITOR.format(id=number)


def meta(person_id: int) -> str:
    """Hash without a TTL: metadata on the person's parts.

    It has for each part the version `v:{part}`, the presence `p:{part}` and, of a set, the size
    `n:{part}`; and `x`, the version of the account's last deletion. On local it also has
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
    r"""Hash of changes that wait for durable: '+' or '-' in the field `{collection}\n{item}`."""
    return PENDING.format(id=person_id)


def members(sponsorable: str, organization_id: int) -> str:
    """Sorted set of an organization's members with a seat; the score is their membership's end."""
    return MEMBERS.format(sponsorable=sponsorable, id=organization_id)


def linked_accounts(source: str, sponsorable: str) -> str:
    """Hash from account id to the person that linked the account; it entitles no other person."""
    return LINKED_ACCOUNTS.format(source=source, sponsorable=sponsorable)


def linking(source: str, account_id: str) -> str:
    """String: the random token of the request that is linking this account."""
    return LINKING.format(source=source, id=account_id)


def awaiting_reconcile(sponsorable: str) -> str:
    """Set: people whose refresh the next full reconcile answers."""
    return AWAITING_RECONCILE.format(sponsorable=sponsorable)


def delivery(number: str) -> str:
    """String that exists if the webhook event with this X-GitHub-Delivery was applied."""
    return DELIVERY.format(delivery=number)


def session(token: str) -> str:
    """String: the person's id. The key has a hash of the token: a leaked dump opens no session."""
    return SESSION.format(hash=hashlib.sha256(token.encode()).hexdigest())


def sessions(person_id: int) -> str:
    """Sorted set of a person's session keys; the score is the second in which the session ends."""
    return SESSIONS.format(id=person_id)
