"""Entitlements that end by their time, where there is no sync engine that would see to it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sponsorsync.store.entitlements import end_entitlements

if TYPE_CHECKING:
    from sponsorsync.background import Supervisor
    from sponsorsync.store.connect import RedisStore

_LOOK_S = 2.0


def keep_ending_entitlements(supervisor: Supervisor, local: RedisStore) -> None:
    """Starts the loop that takes ended entitlements out of the index, and into the audit trail."""
    supervisor.start("entitlement_ends", partial(end_entitlements, local), every_s=_LOOK_S)
