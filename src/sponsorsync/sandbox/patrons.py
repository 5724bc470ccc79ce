"""The people of the simulated Patreon, and their memberships of campaigns.

Everything is mutable on purpose: the next request sees what a test changes.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

OTHER_CAMPAIGN_ID = "7650021"
"""The campaign of another creator; supporting it must not entitle."""

PatronStatus = Literal["active_patron", "declined_patron", "former_patron"]

_LINKS = {"id", "campaign_id", "tiers"}
"""Fields of a membership that the API does not list as attributes, but as id and relationships."""


@dataclass(eq=False, kw_only=True)
class Tier:
    """A tier of a campaign, with a price a month in the campaign's currency."""

    id: str
    amount_cents: int


FREE_TIER = Tier(id="25226000", amount_cents=0)
TEN_DOLLARS = Tier(id="25226010", amount_cents=1000)


@dataclass(eq=False, kw_only=True)
class Membership:
    """One person's membership of one campaign; the fields have the API's names."""

    campaign_id: str
    patron_status: PatronStatus | None
    tiers: list[Tier]
    currently_entitled_amount_cents: int | None = 0
    pledge_cadence: int | None = None
    pledge_relationship_start: datetime | None = None
    next_charge_date: datetime | None = None
    last_charge_date: datetime | None = None
    last_charge_status: str | None = None
    is_gifted: bool = False
    is_free_trial: bool = False
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def attributes(self) -> dict[str, object]:
        """Returns the attributes as the API writes them."""
        return {name: _write(value) for name, value in vars(self).items() if name not in _LINKS}


@dataclass(eq=False)
class Patron:
    """A person with a Patreon account; the pages show `role` as the name."""

    role: str
    id: str
    about: str
    memberships: list[Membership] = field(default_factory=list)
    denies: bool = False


def patrons_by_role(campaign_id: str, now: Callable[[], datetime]) -> dict[str, Patron]:
    """Returns the patrons, one for each kind of membership."""
    today = now()
    began = today - timedelta(days=300)
    member = partial(Membership, campaign_id=campaign_id)
    ten_dollars_a_month = partial(
        member,
        patron_status="active_patron",
        tiers=[TEN_DOLLARS],
        currently_entitled_amount_cents=1000,
        pledge_cadence=1,
    )
    active = ten_dollars_a_month(
        pledge_relationship_start=began,
        next_charge_date=today + timedelta(days=20),
        last_charge_date=today - timedelta(days=10),
        last_charge_status="Paid",
    )
    of_another_creator = Membership(
        campaign_id=OTHER_CAMPAIGN_ID,
        patron_status="active_patron",
        tiers=[Tier(id="31990050", amount_cents=5000)],
        currently_entitled_amount_cents=5000,
        pledge_cadence=1,
        pledge_relationship_start=began,
        next_charge_date=today + timedelta(days=20),
    )
    annual = member(
        patron_status="active_patron",
        tiers=[TEN_DOLLARS],
        currently_entitled_amount_cents=10_080,
        pledge_cadence=12,
        pledge_relationship_start=began,
        next_charge_date=began + timedelta(days=365),
        last_charge_date=began,
        last_charge_status="Paid",
    )
    trial = ten_dollars_a_month(
        pledge_relationship_start=today - timedelta(days=2),
        next_charge_date=today + timedelta(days=5),
        last_charge_status="Free Trial",
        is_free_trial=True,
    )
    declined = member(
        patron_status="declined_patron",
        tiers=[],
        pledge_cadence=1,
        pledge_relationship_start=began,
        next_charge_date=today + timedelta(days=1),
        last_charge_date=today - timedelta(days=2),
        last_charge_status="Declined",
    )
    former = member(
        patron_status="former_patron",
        tiers=[],
        last_charge_date=today - timedelta(days=90),
        last_charge_status="Paid",
    )
    free = member(patron_status=None, tiers=[FREE_TIER])
    gifted = member(patron_status=None, tiers=[TEN_DOLLARS], is_gifted=True)
    patrons = [
        Patron(
            "active",
            "90210010",
            "gives $10 a month; supports another creator with more",
            [active, of_another_creator],
        ),
        Patron(
            "annual", "90210024", "paid $100.80 for a year at the tier of $10 a month", [annual]
        ),
        Patron(
            "trial",
            "90210038",
            "tries the tier of $10 for a week, and has paid nothing yet",
            [trial],
        ),
        Patron(
            "declined",
            "90210042",
            "gave $10 a month until the last charge was declined",
            [declined],
        ),
        Patron("former", "90210056", "gave $10 a month, and has stopped", [former]),
        Patron("free", "90210060", "is a member for free, and never pledged", [free]),
        Patron("gifted", "90210074", "was given the tier of $10, and never pledged", [gifted]),
        Patron("stranger", "90210088", "is no member of any campaign"),
        Patron(
            "denier",
            "90210092",
            "refuses: the browser goes back with error=access_denied",
            denies=True,
        ),
    ]
    return {patron.role: patron for patron in patrons}


def _write(value: object) -> object:
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else value
