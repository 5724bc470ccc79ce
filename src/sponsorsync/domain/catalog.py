"""The accounts that can be sponsored and the preference collections of one installation."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Catalog:
    """The sponsorables and the collections that exist.

    Attributes:
        sponsorables: Lower-case logins; the first one is the default.
        collections: Names of preference sets, `mnodes` among them.
    """

    sponsorables: tuple[str, ...]
    collections: tuple[str, ...]

    @property
    def sponsorables_json(self) -> str:
        """The sponsorables as a JSON list, an argument of Lua scripts."""
        return json.dumps(self.sponsorables)

    @property
    def json(self) -> str:
        """Both lists as one JSON object, an argument of Lua scripts."""
        return json.dumps({"sponsorables": self.sponsorables, "collections": self.collections})
