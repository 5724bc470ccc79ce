"""The list of sources at which people link an account: a new one is one more entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sponsorsync.patreon.source import PatreonSource

if TYPE_CHECKING:
    from sponsorsync.linked_source import LinkedSource

LINKED_SOURCES: tuple[type[LinkedSource], ...] = (PatreonSource,)
