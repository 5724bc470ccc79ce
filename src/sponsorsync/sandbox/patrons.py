"""The people of the simulated Patreon, and their memberships of campaigns.

Everything is mutable on purpose: the next request sees what a test changes.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

OTHER_CAMPAIGN_ID = "7650021"
"""The campaign of another creator; support of it must not count."""

PatronStatus = Literal["active_patron", "declined_patron", "former_patron"]


@dataclass(eq=False, kw_only=True)
class Tier:
    """A tier of a campaign, with a price a month in the campaign's currency."""

    id: str
    amount_cents: int

    def attributes(self) -> dict[str, object]:
        """Returns the attributes under the API's names."""
        return {"amount_cents": self.amount_cents}


FREE_TIER = Tier(id="25226000", amount_cents=0)
TEN_DOLLARS = Tier(id="25226010", amount_cents=1000)


@dataclass(eq=False, kw_only=True)
class Membership:
    """One person's membership of one campaign, under the API's names."""

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
        return {
            "patron_status": self.patron_status,
            "currently_entitled_amount_cents": self.currently_entitled_amount_cents,
            "pledge_cadence": self.pledge_cadence,
            "pledge_relationship_start": _write(self.pledge_relationship_start),
            "next_charge_date": _write(self.next_charge_date),
            "last_charge_date": _write(self.last_charge_date),
            "last_charge_status": self.last_charge_status,
            "is_gifted": self.is_gifted,
            "is_free_trial": self.is_free_trial,
        }


@dataclass(eq=False, kw_only=True)
class Patron:
    """A person with a Patreon account; the pages show `role` as the name."""

    role: str
    id: str
    about: str
    memberships: list[Membership] = field(default_factory=list)
    denies: bool = False


def patrons_by_role(campaign_id: str, now: Callable[[], datetime]) -> dict[str, Patron]:
    """Returns the patrons, one for each kind of membership."""
    began = now() - timedelta(days=300)
    patrons = [
        Patron(
            role="active",
            id="90210010",
            about="gives $10 a month; supports another creator with more",
            memberships=[
                Membership(
                    campaign_id=campaign_id,
                    patron_status="active_patron",
                    tiers=[TEN_DOLLARS],
                    currently_entitled_amount_cents=1000,
                    pledge_cadence=1,
                    pledge_relationship_start=began,
                    next_charge_date=now() + timedelta(days=20),
                    last_charge_date=now() - timedelta(days=10),
                    last_charge_status="Paid",
                ),
                Membership(
                    campaign_id=OTHER_CAMPAIGN_ID,
                    patron_status="active_patron",
                    tiers=[Tier(id="31990050", amount_cents=5000)],
                    currently_entitled_amount_cents=5000,
                    pledge_cadence=1,
                    pledge_relationship_start=began,
                    next_charge_date=now() + timedelta(days=20),
                ),
            ],
        ),
        Patron(
            role="annual",
            id="90210024",
            about="paid $100.80 for a year at the tier of $10 a month",
            memberships=[
                Membership(
                    campaign_id=campaign_id,
                    patron_status="active_patron",
                    tiers=[TEN_DOLLARS],
                    currently_entitled_amount_cents=10_080,
                    pledge_cadence=12,
                    pledge_relationship_start=began,
                    next_charge_date=began + timedelta(days=365),
                    last_charge_date=began,
                    last_charge_status="Paid",
                )
            ],
        ),
        Patron(
            role="trial",
            id="90210038",
            about="tries the tier of $10 for a week, and has paid nothing yet",
            memberships=[
                Membership(
                    campaign_id=campaign_id,
                    patron_status="active_patron",
                    tiers=[TEN_DOLLARS],
                    currently_entitled_amount_cents=1000,
                    pledge_cadence=1,
                    pledge_relationship_start=now() - timedelta(days=2),
                    next_charge_date=now() + timedelta(days=5),
                    last_charge_status="Free Trial",
                    is_free_trial=True,
                )
            ],
        ),
        Patron(
            role="declined",
            id="90210042",
            about="gave $10 a month until the last charge was declined",
            memberships=[
                Membership(
                    campaign_id=campaign_id,
                    patron_status="declined_patron",
                    tiers=[],
                    pledge_cadence=1,
                    pledge_relationship_start=began,
                    next_charge_date=now() + timedelta(days=1),
                    last_charge_date=now() - timedelta(days=2),
                    last_charge_status="Declined",
                )
            ],
        ),
        Patron(
            role="former",
            id="90210056",
            about="gave $10 a month, and has stopped",
            memberships=[
                Membership(
                    campaign_id=campaign_id,
                    patron_status="former_patron",
                    tiers=[],
                    last_charge_date=now() - timedelta(days=90),
                    last_charge_status="Paid",
                )
            ],
        ),
        Patron(
            role="free",
            id="90210060",
            about="is a member for free, and never pledged",
            memberships=[
                Membership(campaign_id=campaign_id, patron_status=None, tiers=[FREE_TIER])
            ],
        ),
        Patron(
            role="gifted",
            id="90210074",
            about="was given the tier of $10, and never pledged",
            memberships=[
                Membership(
                    campaign_id=campaign_id,
                    patron_status=None,
                    tiers=[TEN_DOLLARS],
                    is_gifted=True,
                )
            ],
        ),
        Patron(role="stranger", id="90210088", about="is no member of any campaign"),
        Patron(
            role="denier",
            id="90210092",
            about="refuses: the browser goes back with error=access_denied",
            denies=True,
        ),
    ]
    return {patron.role: patron for patron in patrons}


def _write(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
