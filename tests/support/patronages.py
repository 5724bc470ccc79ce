"""The entitlement and the patronage at /me, and the wait for durable."""

from typing import Any

from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.store import keys
from tests.conftest import SPONSORABLE, Browser

STRANGER, MONTHLY = 112_493_071, 48_210_377
LINKED_ACCOUNTS = keys.linked_accounts(EntitlementSource.PATREON, SPONSORABLE)
HTML = {"accept": "text/html"}


async def patronage_of(browser: Browser) -> dict[str, Any] | None:
    """The part of the entitlement by Patreon, or None."""
    entitlement = await browser.load_entitlement()
    found = [each for each in entitlement["considered"] if each["source"] == "patreon"]
    return found[0] if found else None
