"""A secret that is made once: nobody else reads it, and everybody who starts has the same."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from sponsorsync.domain.errors import SettingsError
from sponsorsync.secret_files import load_or_create_secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STARTERS = 8

LOAD = """
import pathlib, sys
from sponsorsync.secret_files import load_or_create_secret

sys.stdin.read()
print(load_or_create_secret(pathlib.Path(sys.argv[1])).get_secret_value())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the secret will be; not even its directory is there."""
    return tmp_path / "data" / "inner" / "session_secret"


@pytest.fixture
def _generous_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def _load(path: Path) -> str:
    return load_or_create_secret(path).get_secret_value()


@pytest.mark.usefixtures("_generous_umask")
def test_only_its_owner_may_read_it(path: Path) -> None:
    """Whatever the umask is."""
    _load(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_it_is_the_same_at_the_next_start(path: Path) -> None:
    """Else every restart would end all logins that are under way."""
    assert _load(path) == _load(path)


def test_it_cannot_be_guessed(tmp_path: Path) -> None:
    """48 random bytes, and others in another installation."""
    first, second = _load(tmp_path / "first"), _load(tmp_path / "second")

    assert first != second
    assert len(first) == len(second) == 64


def test_nothing_else_is_left_in_the_directory(path: Path) -> None:
    """No draft with the same secret in it."""
    _load(path)

    assert list(path.parent.iterdir()) == [path]


def test_a_secret_that_somebody_brought_is_used(tmp_path: Path) -> None:
    """With the line end that editors add."""
    path = tmp_path / "session_secret"
    path.write_text("0123456789" * 4 + "\n")

    assert _load(path) == "0123456789" * 4


def test_threads_that_start_at_once_agree(path: Path) -> None:
    """The file appears whole, under its name, for the first of them."""
    ready = Barrier(STARTERS)

    def start(_: int) -> str:
        ready.wait()
        return _load(path)

    with ThreadPoolExecutor(STARTERS) as pool:
        secrets = set(pool.map(start, range(STARTERS)))

    assert secrets == {path.read_text()}
    assert list(path.parent.iterdir()) == [path]


async def test_processes_that_start_at_once_agree(path: Path) -> None:
    """Several workers share a data directory."""
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


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """With the variable that says where it should be."""
    (tmp_path / "data").write_text("a file stands here")
    path = tmp_path / "data" / "session_secret"

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_DATA_DIR: ") as caught:
        _load(path)

    assert str(path) in str(caught.value)
    assert "SPONSORSYNC_SESSION_SECRET" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_in_its_place_is_no_secret(path: Path) -> None:
    """A volume that is mounted there by mistake."""
    path.mkdir(parents=True)

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_DATA_DIR: "):
        _load(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"x" * 31, b"\xff" * 64],
    ids=["empty", "a line end", "short", "binary"],
)
def test_a_file_without_a_secret_in_it_is_not_used(tmp_path: Path, content: bytes) -> None:
    """A crash or a full disk leaves an empty one, and everybody knows the empty secret."""
    path = tmp_path / "session_secret"
    path.write_bytes(content)

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_DATA_DIR: ") as caught:
        _load(path)

    assert "remove the file" in str(caught.value)
    assert "x" * 31 not in str(caught.value)
    assert path.read_bytes() == content
