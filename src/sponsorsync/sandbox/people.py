"""The accounts of the simulated GitHub and who of them sponsors whom.

Everything is mutable on purpose: what a test changes, the next query sees.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import ClassVar, Literal

ONE_TIME_VISIBLE = timedelta(days=30)
"""GitHub shows a one-time payment as active for one month, and tells nobody when that ends."""

FIRST_FREE_ID = 160_000_000
"""Ids given out by `add_…` start here, above those of the people with a role."""

PaymentSource = Literal["GITHUB", "PATREON"]


@dataclass
class Email:
    """One address as `GET /user/emails` lists it."""

    email: str
    primary: bool = True
    verified: bool = True
    visibility: Literal["public", "private"] | None = "public"


@dataclass(eq=False, kw_only=True)
class Account:
    """What a person and an organization have in common.

    Compared by identity: a rename keeps the account, and a freed login can be taken by another one.
    """

    typename: ClassVar[str]

    database_id: int
    login: str
    name: str | None
    created_at: datetime
    email: str | None = None
    has_sponsors_listing: bool = False

    @property
    def id(self) -> str:
        """The GraphQL node id; made of the number, so that it too survives a rename."""
        return f"{self.typename[0]}_sim{self.database_id}"

    def avatar_url(self, base_url: str) -> str:
        """Where the simulation shows a picture of this account."""
        return f"{base_url}/avatars/{self.database_id}"

    def html_url(self, base_url: str) -> str:
        """The account's page (which the simulation does not have)."""
        return f"{base_url}/{self.login}"


@dataclass(eq=False, kw_only=True)
class Person(Account):
    """Somebody who can log in."""

    typename = "User"

    about: str
    emails: list[Email] = field(default_factory=list)
    denies: bool = False


@dataclass(eq=False, kw_only=True)
class Organization(Account):
    """An account that sponsors or is sponsored, but never logs in."""

    typename = "Organization"

    members: list[Person] = field(default_factory=list)
    owners: list[Person] = field(default_factory=list)


@dataclass
class Tier:
    """What is paid; compare its price, as its name is free text."""

    monthly_price_in_cents: int
    is_one_time: bool = False
    is_custom_amount: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        """Name the tier as GitHub does, unless it was given a name."""
        once_or_monthly = "one time" if self.is_one_time else "a month"
        self.name = self.name or f"${self.monthly_price_in_dollars} {once_or_monthly}"

    @property
    def id(self) -> str:
        """The GraphQL node id; one for each price and kind."""
        return f"ST_sim{self.monthly_price_in_cents}{'o' if self.is_one_time else 'm'}"

    @property
    def description(self) -> str:
        """What the maintainer promises; here only the name again."""
        return self.name

    @property
    def monthly_price_in_dollars(self) -> int:
        """The price without its cents."""
        return self.monthly_price_in_cents // 100


@dataclass(eq=False, kw_only=True)
class Sponsorship:
    """One account's sponsorship of another; `is_null` makes GitHub list a null in its place."""

    number: int
    sponsor: Account
    sponsorable: Account
    created_at: datetime
    tier: Tier | None
    tier_selected_at: datetime | None
    payment_source: PaymentSource | None = "GITHUB"
    is_private: bool = False
    is_ended: bool = False
    is_null: bool = False
    is_sponsor_opted_into_email: bool | None = None

    @property
    def id(self) -> str:
        """The GraphQL node id."""
        return f"S_sim{self.number}"

    @property
    def is_one_time_payment(self) -> bool:
        """Whether this was a single payment."""
        return self.tier is not None and self.tier.is_one_time

    def is_active_at(self, now: datetime) -> bool:
        """Whether GitHub calls this active at `now`."""
        if self.is_ended:
            return False
        paid_at = self.tier_selected_at or self.created_at
        return not self.is_one_time_payment or now < paid_at + ONE_TIME_VISIBLE


class People:
    """The directory of accounts and sponsorships."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._accounts: dict[int, Account] = {}
        self._free_ids = count(FIRST_FREE_ID, 7)
        self._numbers = count(1)
        self.sponsorships: list[Sponsorship] = []

    def __iter__(self) -> Iterator[Person]:
        """Go over the persons, in the order in which they were added."""
        return (account for account in self._accounts.values() if isinstance(account, Person))

    def __contains__(self, account: Account) -> bool:
        return self._accounts.get(account.database_id) is account

    @property
    def organizations(self) -> list[Organization]:
        """All organizations."""
        return [each for each in self._accounts.values() if isinstance(each, Organization)]

    def organizations_of(self, person: Person) -> list[Organization]:
        """The organizations `person` belongs to."""
        return [each for each in self.organizations if person in each.members]

    def find(self, login: str) -> Account | None:
        """The account with this login, compared as GitHub does: without case."""
        wanted = login.lower()
        return next(
            (each for each in self._accounts.values() if each.login.lower() == wanted), None
        )

    def find_person(self, login: str) -> Person | None:
        """The person with this login; None for an organization too."""
        account = self.find(login)
        return account if isinstance(account, Person) else None

    def by_id(self, database_id: int) -> Account | None:
        """The account with this number."""
        return self._accounts.get(database_id)

    def by_node_id(self, node_id: str) -> Account | None:
        """The account with this GraphQL node id."""
        return next((each for each in self._accounts.values() if each.id == node_id), None)

    def get(self, login: str) -> Account:
        """The account with this login.

        Raises:
            KeyError: There is none.
        """
        account = self.find(login)
        if account is None:
            raise KeyError(login)
        return account

    def get_person(self, login: str) -> Person:
        """The person with this login.

        Raises:
            KeyError: There is none.
        """
        person = self.find_person(login)
        if person is None:
            raise KeyError(login)
        return person

    def add_person(
        self,
        login: str,
        *,
        database_id: int | None = None,
        name: str | None = None,
        email_is_private: bool = False,
        about: str = "added by hand",
        denies: bool = False,
        has_sponsors_listing: bool = False,
    ) -> Person:
        """Add somebody with one primary and verified address."""
        address = f"{login}@example.com"
        person = Person(
            database_id=self._new_id(login, database_id),
            login=login,
            name=name,
            created_at=self._now() - timedelta(days=3000),
            email=None if email_is_private else address,
            has_sponsors_listing=has_sponsors_listing,
            about=about,
            emails=[Email(address, visibility="private" if email_is_private else "public")],
            denies=denies,
        )
        self._accounts[person.database_id] = person
        return person

    def add_organization(
        self,
        login: str,
        *,
        database_id: int | None = None,
        members: Iterable[Person] = (),
        owners: Iterable[Person] = (),
        has_sponsors_listing: bool = False,
    ) -> Organization:
        """Add an organization; its owners are members too."""
        owners = list(owners)
        organization = Organization(
            database_id=self._new_id(login, database_id),
            login=login,
            name=None,
            created_at=self._now() - timedelta(days=3000),
            has_sponsors_listing=has_sponsors_listing,
            members=[*owners, *members],
            owners=owners,
        )
        self._accounts[organization.database_id] = organization
        return organization

    def rename(self, login: str, new_login: str) -> None:
        """Give an account another login; its number, sponsorships and tokens stay."""
        self._refuse_taken(new_login)
        self.get(login).login = new_login

    def remove(self, login: str) -> None:
        """Delete an account with its sponsorships; its tokens stop working."""
        account = self.get(login)
        del self._accounts[account.database_id]
        self.sponsorships = [
            each for each in self.sponsorships if account not in (each.sponsor, each.sponsorable)
        ]

    def sponsor(
        self,
        sponsor: str,
        sponsorable: str,
        *,
        cents: int = 1000,
        days_ago: float = 100,
        one_time: bool = False,
        private: bool = False,
        patreon: bool = False,
        ended: bool = False,
    ) -> Sponsorship:
        """Let one account sponsor another, both given by login; change the result at will."""
        began = self._now() - timedelta(days=days_ago)
        sponsorship = Sponsorship(
            number=next(self._numbers),
            sponsor=self.get(sponsor),
            sponsorable=self.get(sponsorable),
            created_at=began,
            # GitHub does not know the tier of what is paid through Patreon.
            tier=None if patreon else Tier(cents, is_one_time=one_time),
            tier_selected_at=None if patreon else began,
            payment_source="PATREON" if patreon else "GITHUB",
            is_private=private,
            is_ended=ended,
        )
        self.sponsorships.append(sponsorship)
        return sponsorship

    def sponsorships_of(self, sponsor: Account) -> list[Sponsorship]:
        """What `sponsor` gives, ended ones too."""
        return [each for each in self.sponsorships if each.sponsor is sponsor]

    def sponsorships_for(self, sponsorable: Account) -> list[Sponsorship]:
        """What `sponsorable` receives, ended ones too."""
        return [each for each in self.sponsorships if each.sponsorable is sponsorable]

    def _new_id(self, login: str, database_id: int | None) -> int:
        self._refuse_taken(login)
        number = next(self._free_ids) if database_id is None else database_id
        if number in self._accounts:
            raise ValueError(f"the id {number} is taken")
        return number

    def _refuse_taken(self, login: str) -> None:
        if self.find(login) is not None:
            raise ValueError(f"the login {login!r} is taken")


def people_by_role(maintainer: str, now: Callable[[], datetime]) -> People:
    """The people a developer meets: one for each way to stand to `maintainer`.

    Logins are roles and not human names, so that a page shows at once what should happen. The
    numbers are far apart and the same at each start.
    """
    people = People(now)
    people.add_person(
        maintainer,
        database_id=36_107_525,
        name="Maintainer",
        about="the maintainer: receives the sponsorships and may see the private ones",
        has_sponsors_listing=True,
    )
    _add_sponsors(people, maintainer)
    _add_others(people, maintainer)
    return people


def _add_sponsors(people: People, maintainer: str) -> None:
    people.add_person(
        "monthly",
        database_id=48_210_377,
        name="Monthly sponsor",
        about="sponsors with $10 a month, publicly",
    )
    people.sponsor("monthly", maintainer, cents=1000, days_ago=400)
    people.add_person(
        "one-time",
        database_id=61_904_882,
        name="One-time sponsor",
        about="paid $25 once, five days ago",
    )
    people.sponsor("one-time", maintainer, cents=2500, days_ago=5, one_time=True)
    people.add_person(
        "private",
        database_id=73_355_190,
        name="Private sponsor",
        about="sponsors with $5 a month, privately: only the two of them may know",
    )
    people.sponsor("private", maintainer, cents=500, days_ago=90, private=True)
    people.add_person(
        "patreon",
        database_id=55_618_204,
        name="Patreon sponsor",
        about="sponsors through Patreon: GitHub does not know the tier",
    )
    people.sponsor("patreon", maintainer, days_ago=60, patreon=True)


def _add_others(people: People, maintainer: str) -> None:
    people.add_person(
        "former",
        database_id=29_871_456,
        name="Former sponsor",
        about="sponsored with $10 a month, and has stopped",
    )
    people.sponsor("former", maintainer, cents=1000, days_ago=300, ended=True)
    member = people.add_person(
        "org-member",
        database_id=90_126_733,
        name="Organization member",
        about="sponsors nobody; belongs to sponsoring-org, which gives $100 a month",
    )
    people.add_organization("sponsoring-org", database_id=17_562_948, members=[member])
    people.sponsor("sponsoring-org", maintainer, cents=10_000, days_ago=200)
    people.add_person(
        "stranger",
        database_id=112_493_071,
        email_is_private=True,
        about="sponsors nobody; has no name and hides the e-mail address",
    )
    people.add_person(
        "denier",
        database_id=84_730_619,
        name="Denier",
        about="refuses: GitHub sends the browser back with error=access_denied",
        denies=True,
    )
