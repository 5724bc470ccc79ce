"""Puts the bundled scripts for RedisGears into the wheel."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GearsScriptsHook(BuildHookInterface[Any]):
    """Bundles the scripts of `gears_scripts/` before the wheel is packed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the bundles to the files of the wheel."""
        if version == "editable":
            return  # an editable installation bundles in memory, from its checkout
        sys.path.insert(0, str(Path(self.root) / "src"))
        from sponsorsync.gears.scripts import write_bundles  # noqa: PLC0415 - not on the path before

        self._folder = tempfile.TemporaryDirectory()
        write_bundles(Path(self._folder.name))
        build_data["force_include"][self._folder.name] = "sponsorsync/gears/scripts"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatchling's signature
        """Removes the folder that the bundles were packed from."""
        if version != "editable":
            self._folder.cleanup()
