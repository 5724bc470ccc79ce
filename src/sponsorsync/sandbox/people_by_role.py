"""The people of the simulated GitHub, as data: one for each relation to the maintainer.

Logins are roles and not human names, so that a page shows at once what should happen. The ids are
far apart and the same at each start.
"""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from sponsorsync.sandbox.people import People


class _Role(NamedTuple):
    login: str
    database_id: int
    name: str | None
    about: str
    email_is_private: bool = False
    denies: bool = False


_ROLES = [
    _Role("monthly", 48_210_377, "Monthly sponsor", "sponsors with $10 a month, publicly"),
    _Role("one-time", 61_904_882, "One-time sponsor", "paid $25 once, five days ago"),
    _Role(
        "private",
        73_355_190,
        "Private sponsor",
        about="sponsors with $5 a month, privately: only this person and the maintainer may know",
    ),
    _Role(
        "patreon",
        55_618_204,
        "Patreon sponsor",
        about="sponsors through Patreon: GitHub does not know the tier",
    ),
    _Role(
        "former", 29_871_456, "Former sponsor", about="sponsored with $10 a month, and has stopped"
    ),
    _Role(
        "org-member",
        90_126_733,
        "Organization member",
        about="sponsors nobody; belongs to sponsoring-org, which gives $100 a month",
    ),
    _Role(
        "stranger",
        112_493_071,
        None,
        about="sponsors nobody; has no name and hides the e-mail address",
        email_is_private=True,
    ),
    _Role(
        "denier",
        84_730_619,
        "Denier",
        about="refuses: GitHub sends the browser back with error=access_denied",
        denies=True,
    ),
]


def people_by_role(maintainer: str, now: Callable[[], datetime]) -> People:
    """Returns the accounts and sponsorships that a simulation starts with."""
    people = People(now)
    people.add_person(
        maintainer,
        database_id=36_107_525,
        name="Maintainer",
        about="the maintainer: receives the sponsorships and may see the private ones",
        has_sponsors_listing=True,
    )
    for role in _ROLES:
        people.add_person(**role._asdict())
    people.add_organization(
        "sponsoring-org", database_id=17_562_948, members=[people.get_person("org-member")]
    )
    people.sponsor("monthly", maintainer, cents=1000, days_ago=400)
    people.sponsor("one-time", maintainer, cents=2500, days_ago=5, one_time=True)
    people.sponsor("private", maintainer, cents=500, days_ago=90, private=True)
    people.sponsor("patreon", maintainer, days_ago=60, patreon=True)
    people.sponsor("former", maintainer, cents=1000, days_ago=300, ended=True)
    people.sponsor("sponsoring-org", maintainer, cents=10_000, days_ago=200)
    return people
