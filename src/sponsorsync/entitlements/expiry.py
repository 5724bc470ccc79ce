"""Ends entitlements on time if there is no durable Redis, so that no sync engine does it."""

from functools import partial

from sponsorsync.background import Supervisor
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.entitlements import end_entitlements

_SWEEP_EVERY_S = 2.0


def start_expiry(supervisor: Supervisor, local: RedisStore) -> None:
    """Starts the loop that removes ended entitlements from the index and audits their end."""
    supervisor.start("entitlement_ends", partial(end_entitlements, local), every_s=_SWEEP_EVERY_S)
