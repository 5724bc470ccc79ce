"""The entitlement and the patronage at /me, and the wait for durable."""

from typing import Any

from redis.asyncio import Redis

from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.store import keys
from tests.conftest import SPONSORABLE, Browser
from tests.support.waiting import until

STRANGER, MONTHLY = 112_493_071, 48_210_377
LINKED_ACCOUNTS = keys.linked_accounts(EntitlementSource.PATREON, SPONSORABLE)
HTML = {"accept": "text/html"}


async def until_relayed(local: Redis) -> None:
    """Waits until durable has confirmed all changes."""

    async def is_clean() -> bool:
        return not await local.scard(keys.DIRTY)

    await until(is_clean)


async def entitlement_of(browser: Browser) -> dict[str, Any]:
    """The one entitlement of the signed-in person."""
    [entitlement] = (await browser.get("/me")).json()["entitlements"]
    return dict(entitlement)


async def patronage_of(browser: Browser) -> dict[str, Any] | None:
    """The part of the entitlement by Patreon, or None."""
    entitlement = await entitlement_of(browser)
    found = [each for each in entitlement["considered"] if each["source"] == "patreon"]
    return found[0] if found else None
