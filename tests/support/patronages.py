"""The entitlement and the patronage that a person sees at /me."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.store import keys
from tests.conftest import SPONSORABLE

if TYPE_CHECKING:
    from tests.conftest import Browser


STRANGER, MONTHLY = 112_493_071, 48_210_377
LINKED_ACCOUNTS = keys.linked_accounts(EntitlementSource.PATREON, SPONSORABLE)
HTML = {"accept": "text/html"}


async def entitlement_of(browser: Browser) -> dict[str, Any]:
    """The one entitlement of the person who is signed in."""
    [entitlement] = (await browser.get("/me")).json()["entitlements"]
    return dict(entitlement)


async def patronage_of(browser: Browser) -> dict[str, Any] | None:
    """The part of it that comes from Patreon, if there is one."""
    entitlement = await entitlement_of(browser)
    found = [each for each in entitlement["considered"] if each["source"] == "patreon"]
    return found[0] if found else None
