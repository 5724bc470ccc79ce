"""Secrets that are made once and kept in the data directory."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from pydantic import SecretStr

from sponsorsync.domain.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

_SECRET_BYTES = 48


def load_or_create_secret(path: Path) -> SecretStr:
    """Returns the secret in a file, which only its owner may read; makes both where there are none.

    Two processes that start at once end up with the same secret: the file appears whole, under its
    name, for the first of them.

    Raises:
        SettingsError: The file cannot be read or made.
    """
    try:
        if not path.exists():
            _create(path)
        return SecretStr(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise SettingsError(
            f"SPONSORSYNC_DATA_DIR: {path} cannot be used ({error.strerror}); it should be a "
            "directory that SponsorSync may write to, or set SPONSORSYNC_SESSION_SECRET"
        ) from None


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    draft.touch(mode=0o600)
    try:
        draft.write_text(secrets.token_urlsafe(_SECRET_BYTES), encoding="ascii")
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return  # another process was first: its secret counts
    finally:
        draft.unlink()
