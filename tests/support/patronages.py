"""Access to a person's grant by Patreon in their entitlement."""

from typing import Any

from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.store import keys
from tests.conftest import SPONSORABLE, Browser

STRANGER, MONTHLY = 112_493_071, 48_210_377
LINKED_ACCOUNTS = keys.linked_accounts(EntitlementSource.PATREON, SPONSORABLE)
HTML = {"accept": "text/html"}


async def patronage_of(browser: Browser) -> dict[str, Any] | None:
    """Returns what the entitlement says about Patreon, or None."""
    entitlement = await browser.load_entitlement()
    found = [each for each in entitlement["considered"] if each["source"] == "patreon"]
    return found[0] if found else None
