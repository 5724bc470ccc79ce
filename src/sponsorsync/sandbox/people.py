"""The accounts of the simulated GitHub and their sponsorships.

Everything is mutable on purpose: the next query sees what a test has changed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import ClassVar, Literal

ONE_TIME_VISIBLE = timedelta(days=30)
"""GitHub shows a one-time payment as active for one month, and sends no event when that ends."""

FIRST_FREE_ID = 160_000_000
"""The first id that `People.add_…` assigns; accounts of `people_by_role` have lower ids."""

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
    """The fields that a person and an organization share.

    Accounts are compared by identity: a renamed account stays the same, and another account can
    take its old login.
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
        """The GraphQL node id; derived from the number, so that it survives a rename."""
        return f"{self.typename[0]}_sim{self.database_id}"

    def avatar_url(self, base_url: str) -> str:
        """Returns the address of the simulation's picture of this account."""
        return f"{base_url}/avatars/{self.database_id}"

    def html_url(self, base_url: str) -> str:
        """Returns the address of the account's page, which the simulation does not serve."""
        return f"{base_url}/{self.login}"

    def as_json(self, base_url: str) -> dict[str, object]:
        """Returns the fields that REST answers and webhook events share."""
        return {
            "login": self.login,
            "id": self.database_id,
            "node_id": self.id,
            "avatar_url": self.avatar_url(base_url),
            "html_url": self.html_url(base_url),
            "type": self.typename,
            "site_admin": False,
        }


@dataclass(eq=False, kw_only=True)
class Person(Account):
    """A user account, which can log in."""

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
    """A tier of a sponsorship; the price identifies it, as the name is free text."""

    monthly_price_in_cents: int
    is_one_time: bool = False
    is_custom_amount: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        """Names the tier as GitHub does, unless it has a name."""
        once_or_monthly = "one time" if self.is_one_time else "a month"
        self.name = self.name or f"${self.monthly_price_in_dollars} {once_or_monthly}"

    @property
    def id(self) -> str:
        """The GraphQL node id; one for each price and kind."""
        return f"ST_sim{self.monthly_price_in_cents}{'o' if self.is_one_time else 'm'}"

    @property
    def description(self) -> str:
        """The maintainer's text about the tier; here it is the name."""
        return self.name

    @property
    def monthly_price_in_dollars(self) -> int:
        """The price without its cents."""
        return self.monthly_price_in_cents // 100


@dataclass(eq=False, kw_only=True)
class Sponsorship:
    """One account's sponsorship of another; if `is_null`, GitHub lists a null instead."""

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
        """Returns whether GitHub shows the sponsorship as active at `now`."""
        if self.is_ended:
            return False
        paid_at = self.tier_selected_at or self.created_at
        return not self.is_one_time_payment or now < paid_at + ONE_TIME_VISIBLE


class People:
    """All accounts and sponsorships of the simulated GitHub."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._accounts: dict[int, Account] = {}
        self._free_ids = count(FIRST_FREE_ID, 7)
        self._numbers = count(1)
        self.sponsorships: list[Sponsorship] = []

    def __iter__(self) -> Iterator[Person]:
        """Iterates over the persons in the order in which they were added."""
        return (account for account in self._accounts.values() if isinstance(account, Person))

    def __contains__(self, account: Account) -> bool:
        return self._accounts.get(account.database_id) is account

    def organizations_of(self, person: Person) -> list[Organization]:
        """Returns the organizations that `person` belongs to."""
        return [
            each
            for each in self._accounts.values()
            if isinstance(each, Organization) and person in each.members
        ]

    def find(self, login: str) -> Account | None:
        """Returns the account with this login, compared without case as GitHub does."""
        wanted = login.lower()
        return next(
            (each for each in self._accounts.values() if each.login.lower() == wanted), None
        )

    def find_person(self, login: str) -> Person | None:
        """Returns the person with this login; None also for an organization."""
        account = self.find(login)
        return account if isinstance(account, Person) else None

    def by_id(self, database_id: int) -> Account | None:
        """Returns the account with this number."""
        return self._accounts.get(database_id)

    def by_node_id(self, node_id: str) -> Account | None:
        """Returns the account with this GraphQL node id."""
        return next((each for each in self._accounts.values() if each.id == node_id), None)

    def get(self, login: str) -> Account:
        """Returns the account with this login; raises KeyError if there is none."""
        account = self.find(login)
        if account is None:
            raise KeyError(login)
        return account

    def get_person(self, login: str) -> Person:
        """Returns the person with this login; raises KeyError if there is none."""
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
        """Adds a person with one primary and verified address."""
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
        """Adds an organization; its owners are members too."""
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
        """Changes a login; number, sponsorships and tokens stay."""
        self._refuse_taken(new_login)
        self.get(login).login = new_login

    def remove(self, login: str) -> None:
        """Deletes an account with its sponsorships; its tokens stop working."""
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
        """Adds a sponsorship between two logins; a test may change the result at will."""
        began = self._now() - timedelta(days=days_ago)
        sponsorship = Sponsorship(
            number=next(self._numbers),
            sponsor=self.get(sponsor),
            sponsorable=self.get(sponsorable),
            created_at=began,
            # GitHub does not know the tier of a sponsorship through Patreon.
            tier=None if patreon else Tier(cents, is_one_time=one_time),
            tier_selected_at=None if patreon else began,
            payment_source="PATREON" if patreon else "GITHUB",
            is_private=private,
            is_ended=ended,
        )
        self.sponsorships.append(sponsorship)
        return sponsorship

    def sponsorships_of(self, sponsor: Account) -> list[Sponsorship]:
        """Returns the sponsorships that `sponsor` gives, ended ones too."""
        return [each for each in self.sponsorships if each.sponsor is sponsor]

    def sponsorships_for(self, sponsorable: Account) -> list[Sponsorship]:
        """Returns the sponsorships that `sponsorable` receives, ended ones too."""
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
