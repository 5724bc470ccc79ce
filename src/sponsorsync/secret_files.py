"""Files with secrets, which only their owner may read; most are made once, in DATA_DIR."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from pydantic import SecretStr

from sponsorsync.domain.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

_SECRET_BYTES = 48
_SHORTEST = 32


def load_or_create_secret(path: Path) -> SecretStr:
    """Returns the secret in a file, which only its owner may read; makes both where there are none.

    Two processes that start at once end up with the same secret: the file appears whole, under its
    name, for the first of them.

    Raises:
        SettingsError: The file cannot be read or made.
    """
    try:
        if not path.exists():
            create_file(path, secrets.token_urlsafe(_SECRET_BYTES))
        secret = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        secret = ""
    except OSError as error:
        raise SettingsError(
            f"SPONSORSYNC_DATA_DIR: {path} cannot be used ({error.strerror}); it should be a "
            "directory that SponsorSync may write to, or set SPONSORSYNC_SESSION_SECRET"
        ) from None
    if len(secret) < _SHORTEST:
        raise SettingsError(
            f"SPONSORSYNC_DATA_DIR: {path} holds no secret; remove the file, and a new one is made "
            "(sign-ins under way then begin anew)"
        )
    return SecretStr(secret)


def create_file(path: Path, text: str) -> None:
    """Makes a file that appears whole; where another process was first, its file stays.

    Raises:
        OSError: It cannot be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = _write_draft(path, text)
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def replace_file(path: Path, text: str) -> None:
    """Puts a text in the place of a file's; who reads it meanwhile gets one of both, whole.

    Raises:
        OSError: It cannot be done.
    """
    _write_draft(path, text).replace(path)


def _write_draft(path: Path, text: str) -> Path:
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        draft.touch(mode=0o600)
        with draft.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return draft
