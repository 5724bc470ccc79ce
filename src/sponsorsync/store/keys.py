"""Every key that SponsorSync touches, and every time to live: the one home of their names.

Person ids are GitHub's numeric ids. Moments are stored as whole seconds since 1970 (UTC), versions
as microseconds.
"""

from __future__ import annotations

import hashlib

DIRTY = "sponsorsync:dirty"
"""Set of the ids of people with changes that the durable side has not confirmed."""

OUTBOX = "sponsorsync:outbox"
"""Stream of `u <id>`: wakes whoever drains. What is true stands in DIRTY."""

COVER_ENDS = "sponsorsync:cover_ends"
"""Sorted set of `{login}:{id}` by the second in which that cover ends."""

LOGIN_ATTEMPT_TTL_S = 600
"""GitHub's codes live ten minutes, so no attempt to log in lives longer."""


def user_details(person_id: int) -> str:
    """Hash: the profile (id, user_login, email, name, avatar_url, first_seen, last_login)."""
    return f"user_details:{person_id}"


def preferences(person_id: int, collection: str) -> str:
    """Set of node ids, and nothing else: the application reads it directly."""
    return f"user:{person_id}:{collection}"


def visitor(person_id: int) -> str:
    """Hash of the application's own: an anonymous visitor who happens to have this number."""
    return f"user:{person_id}"


def sponsorship(sponsorable: str, person_id: int) -> str:
    """Hash: the facts of one person's cover by one sponsorable."""
    return f"sponsorship:{sponsorable}:{person_id}"


def sponsors(sponsorable: str) -> str:
    """Set of the ids that are covered now: an index, kept by the scripts, never copied."""
    return f"sponsors:{sponsorable}"


def meta(person_id: int) -> str:
    """Hash without a TTL: version `v:{part}` and presence `p:{part}` of each part."""
    return f"sponsorsync:meta:{person_id}"


def session(token: str) -> str:
    """String: the person's id. Only a hash of the token is stored: a dump opens no session."""
    return f"sponsorsync:session:{hashlib.sha256(token.encode()).hexdigest()}"


def sessions(person_id: int) -> str:
    """Sorted set of a person's session keys by the second in which each ends."""
    return f"sponsorsync:sessions:{person_id}"


def cover_end_member(sponsorable: str, person_id: int) -> str:
    """A member of COVER_ENDS; logins have no colon."""
    return f"{sponsorable}:{person_id}"
