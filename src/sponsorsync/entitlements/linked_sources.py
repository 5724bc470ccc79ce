"""The list of all sources at which people can link an account; a new source is added here."""

from sponsorsync.linked_source import LinkedSource
from sponsorsync.patreon.source import PatreonSource

LINKED_SOURCES: tuple[type[LinkedSource], ...] = (PatreonSource,)
