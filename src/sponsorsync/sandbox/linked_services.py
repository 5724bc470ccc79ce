"""The simulated services at which people link accounts, as `sponsorsync dev` starts them."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from starlette.applications import Starlette

from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.sandbox.patreon import SimulatedPatreon
from sponsorsync.settings import Settings


@dataclass(frozen=True, slots=True)
class LinkedService:
    """A service that can be simulated.

    `is_configured` returns whether the settings are those of the real service. `simulate` takes the
    address of the simulation and SponsorSync's callback address; it returns the simulation's app,
    and by name the settings that make SponsorSync use the simulation.
    """

    source: EntitlementSource
    name: str
    is_configured: Callable[[Settings], bool]
    simulate: Callable[[str, str], tuple[Starlette, dict[str, Any]]]


def _simulate_patreon(url: str, redirect_uri: str) -> tuple[Starlette, dict[str, Any]]:
    client_id, client_secret = "sponsorsync-dev", secrets.token_urlsafe(24)
    simulated = SimulatedPatreon(
        client_id=client_id, client_secret=client_secret, redirect_uri=redirect_uri, url=url
    )
    return simulated.app, {
        "patreon_url": url,
        "patreon_client_id": client_id,
        "patreon_secret": SecretStr(client_secret),
        "patreon_campaign": simulated.campaign_id,
    }


LINKED_SERVICES = (
    LinkedService(
        EntitlementSource.PATREON,
        "Patreon",
        is_configured=lambda settings: settings.patreon_client_id is not None,
        simulate=_simulate_patreon,
    ),
)
