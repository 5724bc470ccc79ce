"""The list of sources at which people link an account: a new one is one more entry."""

from sponsorsync.linked_source import LinkedSource
from sponsorsync.patreon.source import PatreonSource

LINKED_SOURCES: tuple[type[LinkedSource], ...] = (PatreonSource,)
