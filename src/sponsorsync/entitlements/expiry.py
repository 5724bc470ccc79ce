"""Entitlements that end at their time, where no sync engine ends them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sponsorsync.store.entitlements import end_entitlements

if TYPE_CHECKING:
    from sponsorsync.background import Supervisor
    from sponsorsync.store.connect import RedisStore

_SWEEP_EVERY_S = 2.0


def start_expiry(supervisor: Supervisor, local: RedisStore) -> None:
    """Starts the loop that removes ended entitlements from the index and audits their end."""
    supervisor.start("entitlement_ends", partial(end_entitlements, local), every_s=_SWEEP_EVERY_S)
