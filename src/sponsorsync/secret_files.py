"""Files with secrets, readable only by their owner."""

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from pydantic import SecretStr

from sponsorsync.domain.errors import SettingsError

_SECRET_BYTES = 48
_SHORTEST = 32
_LOCK_PAUSE_S = 0.02
_IS_POSIX = os.name == "posix"  # Windows has neither POSIX modes and owners nor fcntl

_log = structlog.get_logger(__name__)


def load_or_create_secret(path: Path) -> SecretStr:
    """Returns the secret in a file; creates the file, readable only by its owner, if missing.

    Two processes that start at the same time get the same secret.

    Raises:
        SettingsError: The file cannot be read or created, or contains no secret.
    """
    try:
        if not path.exists():
            create_file(path, secrets.token_urlsafe(_SECRET_BYTES))
        warn_if_open_to_others(path)
        secret = read_file(path).decode("ascii").strip()
    except UnicodeDecodeError:
        secret = ""
    except OSError as error:
        raise SettingsError(
            f"SPONSORSYNC_DATA_DIR: {path} cannot be used ({error.strerror}); it should be a "
            "directory that SponsorSync may write to, or set SPONSORSYNC_SESSION_SECRET"
        ) from None
    if len(secret) < _SHORTEST:
        raise SettingsError(
            f"SPONSORSYNC_DATA_DIR: {path} contains no secret; remove the file, and the next start "
            "creates a new one (people who are signing in then have to start again)"
        )
    return SecretStr(secret)


def create_file(path: Path, text: str) -> None:
    """Creates a file atomically; keeps an existing file. Raises OSError if it cannot be created."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = _write_draft(path, text)
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def read_file(path: Path) -> bytes:
    """Returns a file's content; raises OSError if it is unreadable or all users may write to it."""
    with path.open("rb") as file:
        if _IS_POSIX and os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
            raise PermissionError(errno.EPERM, "all users may write to it: chmod o-w")
        return file.read()


def warn_if_open_to_others(path: Path) -> None:
    """Logs a warning if other users than the owner may read or write the file.

    It is no error, since some mounted volumes need it. Raises OSError if the file does not exist.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if _IS_POSIX and mode & (stat.S_IRWXG | stat.S_IRWXO):
        _log.warning("secret_file_is_open_to_others", path=str(path), mode=f"{mode:04o}")


def replace_file(path: Path, text: str) -> None:
    """Replaces the content of a file atomically; keeps its owner, group and mode.

    Raises OSError if the file cannot be replaced; then nothing has changed.
    """
    draft = _write_draft(path, text, like=path.stat() if _IS_POSIX else None)
    try:
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def lock_file(path: Path, *, wait_s: float) -> Iterator[None]:
    """Holds an exclusive lock on a file, even if the file is replaced during the wait for the lock.

    Raises OSError if the file does not exist, or if the lock is not free within `wait_s`.
    """
    ends_at = time.monotonic() + wait_s
    while _IS_POSIX:
        # Some network file systems lock only files that are open for writing.
        with path.open("r+b" if os.access(path, os.W_OK) else "rb") as file:
            _lock(file.fileno(), ends_at)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield
                return
            # Another process replaced the file during the wait.
    yield


def _lock(descriptor: int, ends_at: float) -> None:
    import fcntl  # noqa: PLC0415 - not on Windows

    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends_at:
                raise TimeoutError(
                    errno.ETIMEDOUT, "another process is changing it; try again"
                ) from None
            time.sleep(_LOCK_PAUSE_S)
        else:
            return


def _write_draft(path: Path, text: str, *, like: os.stat_result | None = None) -> Path:
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        draft.touch(mode=0o600)
        with draft.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            if like is not None:
                _copy_owner_and_mode(file.fileno(), like)
            os.fsync(file.fileno())
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return draft


def _copy_owner_and_mode(descriptor: int, like: os.stat_result) -> None:
    own = os.fstat(descriptor)
    try:
        os.fchown(descriptor, like.st_uid, like.st_gid)
    except PermissionError:
        is_for_group = like.st_mode & stat.S_IRWXG
        if own.st_uid != like.st_uid or (is_for_group and own.st_gid != like.st_gid):
            raise PermissionError(
                errno.EPERM,
                f"it belongs to user {like.st_uid} and group {like.st_gid}, who could no longer "
                "read it: run this command as that user",
            ) from None
    os.fchmod(descriptor, stat.S_IMODE(like.st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))
