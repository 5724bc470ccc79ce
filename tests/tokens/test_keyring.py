"""The keys that sign tokens: their file, and how one follows another."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from joserfc.jwk import ECKey
from structlog.testing import capture_logs

from sponsorsync.domain.errors import SettingsError
from sponsorsync.secret_files import replace_file
from sponsorsync.settings import Settings
from sponsorsync.tokens import keyring as keyring_module
from sponsorsync.tokens.keyring import (
    create_keyring,
    dump_keyring,
    load_keyring,
    load_or_create_keyring,
    parse_keyring,
    rotate_keys,
)

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ROTATIONS = 8

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def _settings(folder: Path, keys_file: Path | None = None) -> Settings:
    return Settings.model_construct(data_dir=folder / "data", token_keys_file=keys_file)


# --- how one key follows another ------------------------------------------------------------------


def test_the_first_key_signs_at_once() -> None:
    """Nobody could have kept older keys."""
    keyring = create_keyring(NOW)

    assert keyring.find_signing(NOW) is keyring.keys[0]


def test_a_new_key_is_shown_before_it_signs() -> None:
    """Others keep the keys for five minutes, so they know it by then."""
    keyring = create_keyring(NOW).rotate(NOW)
    old, new = keyring.keys

    assert [each.kid for each in keyring.list_accepted(NOW)] == [old.kid, new.kid]
    assert keyring.find_signing(NOW + 9 * MINUTE) is old
    assert keyring.find_signing(NOW + 10 * MINUTE) is new


def test_the_old_key_counts_until_its_last_token_is_over() -> None:
    """The last one is signed when the new key takes over, and lives for an hour at most."""
    keyring = create_keyring(NOW).rotate(NOW)
    old, new = keyring.keys

    assert keyring.find(old.kid, NOW + 70 * MINUTE) is old
    assert keyring.find(old.kid, NOW + 71 * MINUTE) is None
    assert keyring.find(new.kid, NOW + 71 * MINUTE) is new


def test_what_is_retired_is_left_out_at_the_next_rotation() -> None:
    """Its private part is then gone from the file."""
    first = create_keyring(NOW).rotate(NOW)
    again = first.rotate(NOW + 71 * MINUTE)

    assert [each.kid for each in again.keys[:1]] == [first.keys[1].kid]
    assert len(again.keys) == 2


def test_several_rotations_in_a_row_lengthen_no_life() -> None:
    """The end of a key is not moved by another rotation."""
    keyring = create_keyring(NOW).rotate(NOW).rotate(NOW + MINUTE)

    assert [each.ends_at for each in keyring.keys] == [
        NOW + 71 * MINUTE,
        NOW + 72 * MINUTE,
        None,
    ]


def test_a_key_that_leaked_ends_at_once() -> None:
    """The new one signs without being shown before."""
    keyring = create_keyring(NOW)
    rotated = keyring.rotate(NOW, retire_old=True)

    assert rotated.find(keyring.keys[0].kid, NOW) is None
    assert rotated.find_signing(NOW).kid != keyring.keys[0].kid


def test_a_clock_that_went_back_still_finds_a_key() -> None:
    """A token that was signed a little early is better than none."""
    keyring = create_keyring(NOW)

    assert keyring.find_signing(NOW - MINUTE) is keyring.keys[0]


def test_what_is_shown_of_a_key_is_its_public_part() -> None:
    """`d` is the private one."""
    shown = create_keyring(NOW).keys[0].to_public_jwk()

    assert set(shown) == {"kid", "kty", "crv", "x", "y", "use", "alg"}


# --- the file -------------------------------------------------------------------------------------


def test_a_file_keeps_what_there_is() -> None:
    """To the second."""
    keyring = create_keyring(NOW).rotate(NOW)

    again = parse_keyring(dump_keyring(keyring).encode())

    assert [(k.kid, k.signs_from, k.ends_at) for k in again.keys] == [
        (k.kid, k.signs_from, k.ends_at) for k in keyring.keys
    ]


def test_it_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """In the data directory, which is made as well."""
    settings = _settings(tmp_path)

    first = load_or_create_keyring(settings, now=NOW)
    again = load_or_create_keyring(settings, now=NOW + MINUTE)

    [path] = (tmp_path / "data").iterdir()
    assert first.keys[0].kid == again.keys[0].kid
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_rotation_replaces_the_file_for_its_owner_alone(tmp_path: Path) -> None:
    """Nothing else is left beside it."""
    settings = _settings(tmp_path)
    load_or_create_keyring(settings, now=NOW)

    rotated = rotate_keys(settings, now=NOW, retire_old=False)

    [path] = (tmp_path / "data").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(rotated.keys) == len(load_keyring(settings).keys) == 2


def test_rotations_at_once_lose_no_key(tmp_path: Path) -> None:
    """Each adds one to what the one before has written."""
    settings = _settings(tmp_path)
    load_or_create_keyring(settings, now=NOW)
    ready = Barrier(ROTATIONS)

    def rotate(_: int) -> None:
        ready.wait()
        rotate_keys(settings, now=NOW, retire_old=False)

    with ThreadPoolExecutor(ROTATIONS) as pool:
        list(pool.map(rotate, range(ROTATIONS)))

    [_] = (tmp_path / "data").iterdir()
    assert len(load_keyring(settings).keys) == 1 + ROTATIONS


def test_a_key_is_not_retired_while_another_rotation_would_put_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read the file before, and writes it afterwards."""
    settings, outcomes = _settings(tmp_path), list[str]()
    load_or_create_keyring(settings, now=NOW)

    def replace(path: Path, text: str) -> None:
        monkeypatch.undo()
        with pytest.raises(SettingsError) as caught:
            rotate_keys(settings, now=NOW, retire_old=True, lock_s=0)
        outcomes.append(str(caught.value))
        replace_file(path, text)

    monkeypatch.setattr(keyring_module, "replace_file", replace)
    rotate_keys(settings, now=NOW, retire_old=False)
    retired = rotate_keys(settings, now=NOW, retire_old=True, lock_s=0)

    [outcome] = outcomes
    assert "another process is changing it; try again" in outcome
    assert "\n" not in outcome
    assert len(retired.keys) == 1


@only_root
def test_a_rotation_by_root_leaves_the_file_to_its_owner(tmp_path: Path) -> None:
    """Else the service could not read it, and would go on with the keys it has."""
    settings = _settings(tmp_path)
    load_or_create_keyring(settings, now=NOW)
    [path] = (tmp_path / "data").iterdir()
    os.chown(path, 12345, 23456)
    path.chmod(0o640)

    rotate_keys(settings, now=NOW, retire_old=True)

    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 23456, 0o640)


@only_root
@pytest.mark.parametrize(
    ("owner", "mode"), [((12345, 0), 0o600), ((0, 23456), 0o640)], ids=["owner", "group"]
)
def test_who_cannot_leave_it_to_its_owner_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: tuple[int, int], mode: int
) -> None:
    """Not even a draft stays, and the sentence says what to do."""
    settings = _settings(tmp_path)
    load_or_create_keyring(settings, now=NOW)
    [path] = (tmp_path / "data").iterdir()
    os.chown(path, *owner)
    path.chmod(mode)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fchown", _forbid)

    with pytest.raises(SettingsError, match=r"belongs to user \d+ and group \d+.*as that user"):
        rotate_keys(settings, now=NOW, retire_old=True)

    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


def test_a_group_that_may_do_nothing_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a file system that knows no owners."""
    settings = _settings(tmp_path)
    load_or_create_keyring(settings, now=NOW)
    monkeypatch.setattr(os, "fchown", _forbid)

    assert len(rotate_keys(settings, now=NOW, retire_old=False).keys) == 2


def test_a_file_that_cannot_be_replaced_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is mounted by itself is busy; a draft has every private key in it."""
    settings = _settings(tmp_path)
    load_or_create_keyring(settings, now=NOW)
    [path] = (tmp_path / "data").iterdir()
    before = path.read_bytes()
    monkeypatch.setattr(type(path), "replace", _be_busy)

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_DATA_DIR: .*busy"):
        rotate_keys(settings, now=NOW, retire_old=False)

    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


def _forbid(*_: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _be_busy(*_: object) -> None:
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


@pytest.mark.parametrize("mode", [0o640, 0o660, 0o444])
def test_a_file_that_others_may_use_is_told_of(tmp_path: Path, mode: int) -> None:
    """Not refused: a secret that Kubernetes mounts is often like that."""
    path = tmp_path / "keys.json"
    path.write_text(dump_keyring(create_keyring(NOW)))
    path.chmod(mode)

    with capture_logs() as logs:
        load_or_create_keyring(_settings(tmp_path, path), now=NOW)

    [entry] = logs
    assert (entry["log_level"], entry["path"]) == ("warning", str(path))
    assert entry["mode"] == f"0{mode:o}"


def test_a_file_for_its_owner_alone_is_not_told_of(tmp_path: Path) -> None:
    """As it is made."""
    with capture_logs() as logs:
        load_or_create_keyring(_settings(tmp_path), now=NOW)

    assert logs == []


def test_a_file_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    """Whoever has an account there could sign for us."""
    path = tmp_path / "keys.json"
    path.write_text(dump_keyring(create_keyring(NOW)))
    path.chmod(0o602)

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_TOKEN_KEYS_FILE: .*chmod o-w"):
        load_keyring(_settings(tmp_path, path))


def test_a_file_that_a_setting_names_has_to_be_there(tmp_path: Path) -> None:
    """A replica with keys of its own would sign what the others refuse."""
    settings = _settings(tmp_path, tmp_path / "shared.json")

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_TOKEN_KEYS_FILE: .*keys rotate"):
        load_or_create_keyring(settings, now=NOW)
    made = rotate_keys(settings, now=NOW, retire_old=False)

    assert made.keys[0].kid == load_or_create_keyring(settings, now=NOW).keys[0].kid


def test_a_keyring_names_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """With the variable that says where it should be."""
    (tmp_path / "data").write_text("a file stands here")

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_DATA_DIR: "):
        load_or_create_keyring(_settings(tmp_path), now=NOW)


def _without_private_part(content: dict[str, Any]) -> None:
    del content["keys"][0]["jwk"]["d"]


def _with_an_end(content: dict[str, Any]) -> None:
    content["keys"][0]["ends_at"] = 1


def _without_keys(content: dict[str, Any]) -> None:
    content["keys"] = []


def _with_another_curve(content: dict[str, Any]) -> None:
    content["keys"][0]["jwk"] = ECKey.generate_key("P-384").as_dict(private=True)


def _with_no_time(content: dict[str, Any]) -> None:
    content["keys"][0]["signs_from"] = "soon"


@pytest.mark.parametrize(
    "spoil",
    [
        _without_private_part,
        _with_an_end,
        _without_keys,
        _with_another_curve,
        _with_no_time,
    ],
)
def test_a_file_without_usable_keys_stops_the_start(tmp_path: Path, spoil: Any) -> None:  # noqa: ANN401
    """One line that names the file and shows nothing of it."""
    path = tmp_path / "keys.json"
    content = json.loads(dump_keyring(create_keyring(NOW)))
    secret = content["keys"][0]["jwk"]["d"]
    spoil(content)
    path.write_text(json.dumps(content))

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_TOKEN_KEYS_FILE: ") as caught:
        load_keyring(_settings(tmp_path, path))

    assert str(path) in str(caught.value)
    assert secret not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b'{"keys": [1]}',
        b'{"keys": ' + b"[" * 100_000,
    ],
    ids=len,
)
def test_a_file_of_something_else_is_none(tmp_path: Path, content: bytes) -> None:
    """A crash or a full disk leaves an empty one."""
    path = tmp_path / "keys.json"
    path.write_bytes(content)

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_TOKEN_KEYS_FILE: "):
        load_keyring(_settings(tmp_path, path))


# --- the command ----------------------------------------------------------------------------------


async def test_the_command_rotates_and_lists_without_private_parts(tmp_path: Path) -> None:
    """It is run beside the service, which need not run."""
    secret = json.loads(dump_keyring(load_or_create_keyring(_settings(tmp_path), now=NOW)))
    private = secret["keys"][0]["jwk"]["d"]

    rotated = await _run(tmp_path, "rotate", "--json")
    listed = await _run(tmp_path, "list")
    leaked = await _run(tmp_path, "rotate", "--retire-old", "--json")

    states = [each["state"] for each in json.loads(rotated)["keys"]]
    assert states == ["signs", "shown"]
    assert [line.split()[1] for line in listed.splitlines()[1:]] == states
    assert [each["state"] for each in json.loads(leaked)["keys"]] == ["signs"]
    assert private not in rotated + listed + leaked


async def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    """There is no file yet."""
    assert await _run(tmp_path, "list", status=1) == ""


async def _run(folder: Path, *arguments: str, status: int = 0) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sponsorsync", "keys", *arguments),
        cwd=folder,
        env={"SPONSORSYNC_DATA_DIR": str(folder / "data"), "SPONSORSYNC_LOG_FORMAT": "json"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == status, errors
    assert len(errors.splitlines()) == bool(status)
    return output.decode()
