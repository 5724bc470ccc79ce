"""What the scripts have to know of the settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class KnownNames:
    """The sponsorables and the collections that exist."""

    sponsorables: Sequence[str]
    collections: Sequence[str]

    @property
    def sponsorables_json(self) -> str:
        """For scripts that ask who is entitled."""
        return json.dumps(list(self.sponsorables))

    @property
    def all_json(self) -> str:
        """For scripts that ask which parts there may be."""
        return json.dumps(
            {"sponsorables": list(self.sponsorables), "collections": list(self.collections)}
        )
