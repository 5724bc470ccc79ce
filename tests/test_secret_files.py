"""Secret files: created once, private, and shared by all processes."""

import asyncio
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier, Event

import pytest
from structlog.testing import capture_logs

from sponsorsync.domain.errors import SettingsError
from sponsorsync.secret_files import create_file, load_or_create_secret, lock_file, replace_file
from sponsorsync.settings import Settings
from sponsorsync.tokens.keyring import create_keyring, dump_keyring, load_or_create_keyring

STARTERS = 8
LIMIT_S = 30

LOAD = """
import pathlib, sys
from sponsorsync.secret_files import load_or_create_secret

sys.stdin.read()
print(load_or_create_secret(pathlib.Path(sys.argv[1])).get_secret_value())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a secret whose directory does not exist yet."""
    return tmp_path / "data" / "inner" / "session_secret"


@pytest.fixture
def _generous_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def _load(path: Path) -> str:
    return load_or_create_secret(path).get_secret_value()


@pytest.mark.usefixtures("_generous_umask")
def test_only_the_owner_may_read_the_secret(path: Path) -> None:
    """The umask has no effect, and no temporary file with the secret remains."""
    with capture_logs() as logs:
        _load(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert logs == []


def test_the_secret_stays_the_same_at_the_next_start(path: Path) -> None:
    """Otherwise a restart would end all sign-ins in progress."""
    assert _load(path) == _load(path)


def test_the_secret_is_random(tmp_path: Path) -> None:
    """The secret has 48 random bytes, and differs between installations."""
    first, second = _load(tmp_path / "first"), _load(tmp_path / "second")

    assert first != second
    assert len(first) == len(second) == 64


def test_an_existing_secret_is_used(tmp_path: Path) -> None:
    """The line end that editors add is not part of the secret."""
    path = tmp_path / "session_secret"
    path.write_text("0123456789" * 4 + "\n")
    path.chmod(0o600)

    assert _load(path) == "0123456789" * 4


def _load_secret_file(path: Path) -> object:
    return load_or_create_secret(path)


def _load_key_file(path: Path) -> object:
    settings = Settings.model_construct(token_keys_file=path)
    return load_or_create_keyring(settings, now=datetime.now(UTC))


FILES = pytest.mark.parametrize(
    ("load", "text", "setting"),
    [
        (_load_secret_file, "0123456789" * 4, "SPONSORSYNC_DATA_DIR"),
        (
            _load_key_file,
            dump_keyring(create_keyring(datetime.now(UTC))),
            "SPONSORSYNC_TOKEN_KEYS_FILE",
        ),
    ],
    ids=["secret", "keys"],
)


@FILES
@pytest.mark.parametrize("mode", [0o600, 0o440, 0o444, 0o640, 0o644, 0o660])
def test_a_file_open_to_others_is_logged(
    tmp_path: Path, load: Callable[[Path], object], text: str, setting: str, mode: int
) -> None:
    """The file is not refused, since Kubernetes mounts secrets with such modes."""
    path = tmp_path / setting
    path.write_text(text)
    path.chmod(mode)

    with capture_logs() as logs:
        load(path)

    assert [(each["log_level"], each["path"], each["mode"]) for each in logs] == (
        [] if mode == 0o600 else [("warning", str(path), f"0{mode:o}")]
    )


@FILES
@pytest.mark.parametrize("mode", [0o602, 0o606])
def test_a_file_that_all_users_may_write_is_refused(
    tmp_path: Path, load: Callable[[Path], object], text: str, setting: str, mode: int
) -> None:
    """Any local user could choose the secret or sign tokens."""
    path = tmp_path / "file"
    path.write_text(text)
    path.chmod(mode)

    with pytest.raises(SettingsError, match=rf"^{setting}: .*chmod o-w"):
        load(path)


def test_a_file_is_synced_before_naming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a loss of power could leave an empty file under the final name."""
    path, synced = tmp_path / "secret", dict[int, tuple[int, int | None]]()

    def record(descriptor: int) -> None:
        found = os.fstat(descriptor)
        names = {each.name: each.stat().st_ino for each in tmp_path.iterdir()}
        synced[found.st_ino] = (found.st_size, names.get(path.name))

    monkeypatch.setattr(os, "fsync", record)
    create_file(path, "0123456789")
    first = path.stat().st_ino
    replace_file(path, "0123456789" * 2)
    second = path.stat().st_ino

    assert synced == {first: (10, None), second: (20, first)}


def test_a_waiting_lock_is_on_a_replaced_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder of the lock replaces the file; a lock on the old one would exclude nobody."""
    waits, holds, done = Event(), Event(), Event()

    def hold() -> None:
        with lock_file(path, wait_s=LIMIT_S):
            holds.set()
            done.wait(LIMIT_S)

    create_file(path, "old")
    monkeypatch.setattr(time, "sleep", lambda _: waits.set())
    with ThreadPoolExecutor(1) as pool:
        with lock_file(path, wait_s=0):
            holder = pool.submit(hold)
            assert waits.wait(LIMIT_S)
            replace_file(path, "new")
        assert holds.wait(LIMIT_S)
        with pytest.raises(TimeoutError), lock_file(path, wait_s=0):
            pass
        done.set()
        holder.result()


def test_concurrent_threads_get_the_same_secret(path: Path) -> None:
    """The first thread creates the file; it appears with its whole content."""
    ready = Barrier(STARTERS)

    def start(_: int) -> str:
        ready.wait()
        return _load(path)

    with ThreadPoolExecutor(STARTERS) as pool:
        secrets = set(pool.map(start, range(STARTERS)))

    assert secrets == {path.read_text()}
    assert list(path.parent.iterdir()) == [path]


async def test_concurrent_processes_get_the_same_secret(path: Path) -> None:
    """Several worker processes share one data directory."""
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", LOAD, str(path)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(4)
    ]

    outputs = await asyncio.gather(*(process.communicate(b"") for process in processes))

    assert {output.decode().strip() for output, _ in outputs} == {_load(path)}


def test_a_secret_directory_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    """The error begins with the name of the setting."""
    (tmp_path / "data").write_text("a file stands here")
    path = tmp_path / "data" / "session_secret"

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_DATA_DIR: ") as caught:
        _load(path)

    assert str(path) in str(caught.value)
    assert "SPONSORSYNC_SESSION_SECRET" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_in_place_of_the_secret_is_refused(path: Path) -> None:
    """A volume may be mounted at this path by mistake."""
    path.mkdir(parents=True)

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_DATA_DIR: "):
        _load(path)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"x" * 31, b"\xff" * 64], ids=["empty", "a line end", "short", "binary"]
)
def test_a_file_without_a_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    """For example, a crash or a full disk leaves an empty file; the file is not changed."""
    path = tmp_path / "session_secret"
    path.write_bytes(content)

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_DATA_DIR: ") as caught:
        _load(path)

    assert "remove the file" in str(caught.value)
    assert "x" * 31 not in str(caught.value)
    assert path.read_bytes() == content
