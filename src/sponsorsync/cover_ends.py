"""Covers that end by their time, where there is no sync engine that would see to it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sponsorsync.background import keep_doing
from sponsorsync.store.entitlements import end_covers

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from sponsorsync.store.connect import RedisStore

_LOOK_S = 2.0


def keep_ending_covers(local: RedisStore) -> AbstractAsyncContextManager[None]:
    """Has the index of the covered, and the audit trail, learn of each end while it is open."""
    return keep_doing(partial(end_covers, local), name="end covers", rest_s=_LOOK_S)
