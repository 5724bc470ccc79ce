"""The accounts that can be sponsored and the preference collections of one installation."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Catalog:
    """The sponsorables (lower-case logins, the first is the default) and the collections."""

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
