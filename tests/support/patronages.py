"""The entitlement and the patronage at /me."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.conftest import Browser


STRANGER, MONTHLY = 112_493_071, 48_210_377
HTML = {"accept": "text/html"}


async def entitlement_of(browser: Browser) -> dict[str, Any]:
    """Returns the only entitlement of the signed-in person."""
    [entitlement] = (await browser.get("/me")).json()["entitlements"]
    return dict(entitlement)


async def patronage_of(browser: Browser) -> dict[str, Any] | None:
    """Returns the part of the entitlement that comes from Patreon."""
    entitlement = await entitlement_of(browser)
    found = [each for each in entitlement["considered"] if each["source"] == "patreon"]
    return found[0] if found else None
