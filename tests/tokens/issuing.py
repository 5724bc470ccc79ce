"""Helpers that issue tokens for the tests."""

from datetime import UTC, datetime, timedelta

from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy, evaluate
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.tokens.issuer import TokenIssuer
from sponsorsync.tokens.keyring import Keyring

ISSUER, AUDIENCE = "https://sponsors.example.org", "https://app.example.org"
MINUTE = timedelta(minutes=1)
NOW = datetime.now(UTC)
_POLICY = EntitlementPolicy(one_time=timedelta(days=31), stale=timedelta(hours=72))


def create_issuer(
    keyring: Keyring, *, audience: str = AUDIENCE, life: timedelta = 10 * MINUTE
) -> TokenIssuer:
    """Returns an issuer with the address ISSUER."""
    return TokenIssuer(keyring, issuer=ISSUER, audience=audience, life=life)


def issue(
    issuer: TokenIssuer, *, now: datetime, cents: int | None = 1000, sponsorable: str = "maintainer"
) -> str:
    """Returns a token of the person with id 7, who is no sponsor if `cents` is None."""
    source = EntitlementSource.NONE if cents is None else EntitlementSource.SPONSORSHIP
    facts = EntitlementFacts(sponsorable, checked_at=now, source=source, tier_cents=cents)
    return issuer.issue(7, evaluate(sponsorable, facts, policy=_POLICY, now=now), now=now).token
