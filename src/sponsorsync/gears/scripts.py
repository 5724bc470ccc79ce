"""The scripts of this release, and their texts for one configuration."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sponsorsync import __version__
from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.errors import GearsError
from sponsorsync.gears.bundle import SOURCES, build_bundle

REGISTERING = ("fetch_on_keymiss", "write_behind")
"""Scripts that register callbacks and so stay live."""

BATCH = ("sync_profiles", "sync_sponsors", "sync_preferences")
"""Scripts that run once; in this order, so that durable has entitlements before preferences."""

SESSION_PREFIX = "sponsorsync-"
"""Prefix of our sessions' names; we may remove every session that has it."""

# Bundles that hatch_build.py put into the wheel. A checkout has no such folder, only the sources.
_INSTALLED = Path(__file__).with_name("scripts")
_REQUIREMENTS = "requirements.txt"
_CONFIG = re.compile(r"^CONFIG = \{\}$", re.MULTILINE)
_HASH_DIGITS = 16


@dataclass(frozen=True, slots=True)
class GearsConfig:
    """The configuration in an uploaded script; never a secret, since it can be read in Redis.

    Attributes:
        catalog: The sponsorables and collections.
        hook_collections: Whether scripts answer commands that read a missing collection; such a
            command must not be part of a MULTI (docs/gears.md).
        hook_profiles: Whether scripts also answer commands that read a missing profile.
    """

    catalog: Catalog
    hook_profiles: bool
    hook_collections: bool = True

    def to_literal(self) -> str:
        """Returns the configuration as a Python literal."""
        return repr(
            {
                "sponsorables": list(self.catalog.sponsorables),
                "collections": list(self.catalog.collections),
                "hook_profiles": self.hook_profiles,
                "hook_collections": self.hook_collections,
            }
        )


@dataclass(frozen=True, slots=True)
class GearsScript:
    """A script, ready to be uploaded.

    Attributes:
        name: Its file's name without the extension.
        text: The bundle with the configuration.
        requirements: Pinned Python packages that the server has to install.
    """

    name: str
    text: str
    requirements: tuple[str, ...]

    @property
    def session(self) -> str:
        """The name of its session in RedisGears."""
        return SESSION_PREFIX + self.name.replace("_", "-")

    @property
    def hash(self) -> str:
        """A hash of the text and the packages."""
        content = "\n".join((self.text, *self.requirements))
        return hashlib.sha256(content.encode()).hexdigest()[:_HASH_DIGITS]

    @property
    def description(self) -> str:
        """The session's description: the release that uploads the script, and the hash."""
        return f"{__version__} {self.hash}"


def load_scripts(
    names: Sequence[str], config: GearsConfig, *, folder: Path | None = None
) -> tuple[GearsScript, ...]:
    """Returns scripts by name, configured.

    Args:
        names: REGISTERING or BATCH.
        config: The configuration to write into their texts.
        folder: A folder with bundles; None means the bundles of this release.

    Raises:
        GearsError: A script is missing, or has no line for its configuration.
    """
    texts = _load_files(names, folder)
    requirements = tuple(texts[_REQUIREMENTS].split())
    return tuple(
        GearsScript(
            name=name, text=_configure(name, texts[f"{name}.py"], config), requirements=requirements
        )
        for name in names
    )


def write_bundles(folder: Path) -> list[Path]:
    """Writes the bundle of every script, and requirements.txt, into a folder; returns the files.

    Raises:
        GearsError: A script cannot be read, or a file cannot be written.
    """
    texts = _load_files((*REGISTERING, *BATCH), None)
    paths = [folder / name for name in texts]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text, encoding="utf-8")
    except FileExistsError:
        raise GearsError(f"{folder} is not a directory.") from None
    except OSError as error:
        raise GearsError(f"{error.filename} cannot be written: {error.strerror}.") from None
    return paths


def _load_files(names: Sequence[str], folder: Path | None) -> dict[str, str]:
    """Returns the texts of scripts and of their requirements.txt by file name."""
    if folder is None and _INSTALLED.is_dir():
        folder = _INSTALLED
    try:
        requirements = (folder or SOURCES) / _REQUIREMENTS
        texts = {
            f"{name}.py": build_bundle(name)
            if folder is None
            else (folder / f"{name}.py").read_text(encoding="utf-8")
            for name in names
        }
        return texts | {_REQUIREMENTS: requirements.read_text(encoding="utf-8")}
    except OSError as error:
        raise GearsError(f"{error.filename} cannot be read: {error.strerror}.") from None


def _configure(name: str, text: str, config: GearsConfig) -> str:
    line = f"CONFIG = {config.to_literal()}"
    configured, count = _CONFIG.subn(lambda _: line, text)
    if count != 1:
        raise GearsError(f"{name}.py should have one line `CONFIG = {{}}`; it has {count}.")
    return configured
