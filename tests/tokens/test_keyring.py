"""The keys that sign tokens: their rotation, their file and their command."""

import asyncio
import errno
import json
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from joserfc.jwk import ECKey

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

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ROTATIONS = 8

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def _settings(folder: Path, keys_file: Path | None = None) -> Settings:
    return Settings.model_construct(data_dir=folder / "data", token_keys_file=keys_file)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose data directory has a key file."""
    settings = _settings(tmp_path)
    load_or_create_keyring(settings, now=NOW)
    return settings


@pytest.fixture
def path(settings: Settings) -> Path:
    """The key file, which is the only file in its directory."""
    [path] = settings.data_dir.iterdir()
    return path


# --- rotation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("now", [NOW, NOW - MINUTE], ids=["at once", "clock went back"])
def test_the_first_key_signs_at_once(now: datetime) -> None:
    """No client has cached other keys. A clock that went back must not prevent signing."""
    keyring = create_keyring(NOW)

    assert keyring.find_signing(now) is keyring.keys[0]


def test_a_new_key_is_published_before_it_signs() -> None:
    """Clients cache the public keys for five minutes."""
    keyring = create_keyring(NOW).rotate(NOW)
    old, new = keyring.keys

    assert [each.kid for each in keyring.list_accepted(NOW)] == [old.kid, new.kid]
    assert keyring.find_signing(NOW + 9 * MINUTE) is old
    assert keyring.find_signing(NOW + 10 * MINUTE) is new


def test_the_old_key_is_accepted_until_its_last_token_ends() -> None:
    """The last token is signed just before the new key takes over, and lasts an hour at most."""
    keyring = create_keyring(NOW).rotate(NOW)
    old, new = keyring.keys

    assert keyring.find(old.kid, NOW + 70 * MINUTE) is old
    assert keyring.find(old.kid, NOW + 71 * MINUTE) is None
    assert keyring.find(new.kid, NOW + 71 * MINUTE) is new


def test_a_rotation_removes_retired_keys() -> None:
    """The private parts of retired keys are removed from the file."""
    first = create_keyring(NOW).rotate(NOW)
    again = first.rotate(NOW + 71 * MINUTE)

    assert [each.kid for each in again.keys[:1]] == [first.keys[1].kid]
    assert len(again.keys) == 2


def test_repeated_rotations_do_not_extend_a_key() -> None:
    """The end of an old key stays as the first rotation has set it."""
    keyring = create_keyring(NOW).rotate(NOW).rotate(NOW + MINUTE)

    assert [each.ends_at for each in keyring.keys] == [NOW + 71 * MINUTE, NOW + 72 * MINUTE, None]


def test_retire_old_ends_a_key_at_once() -> None:
    """The new key signs at once, although clients have not fetched it yet."""
    keyring = create_keyring(NOW)
    rotated = keyring.rotate(NOW, retire_old=True)

    assert rotated.find(keyring.keys[0].kid, NOW) is None
    assert rotated.find_signing(NOW).kid != keyring.keys[0].kid


def test_the_public_jwk_has_no_private_part() -> None:
    """The private part of a JWK is `d`."""
    shown = create_keyring(NOW).keys[0].to_public_jwk()

    assert set(shown) == {"kid", "kty", "crv", "x", "y", "use", "alg"}


# --- the file -------------------------------------------------------------------------------------


def test_a_dumped_keyring_is_parsed_again() -> None:
    """The file has times in whole seconds."""
    keyring = create_keyring(NOW).rotate(NOW)

    again = parse_keyring(dump_keyring(keyring).encode())

    assert [(k.kid, k.signs_from, k.ends_at) for k in again.keys] == [
        (k.kid, k.signs_from, k.ends_at) for k in keyring.keys
    ]


def test_the_key_file_is_created_once_for_its_owner(settings: Settings, path: Path) -> None:
    """The second call loads the file of the first; other users cannot read it."""
    first = load_keyring(settings)

    again = load_or_create_keyring(settings, now=NOW + MINUTE)

    assert first.keys[0].kid == again.keys[0].kid
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_rotation_keeps_the_file_private(settings: Settings) -> None:
    """The temporary file with the new keys is not left in the directory."""
    rotated = rotate_keys(settings, now=NOW, retire_old=False)

    [path] = settings.data_dir.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(rotated.keys) == len(load_keyring(settings).keys) == 2


def test_concurrent_rotations_lose_no_key(settings: Settings) -> None:
    """Each rotation adds its key to the file of the previous one."""
    ready = Barrier(ROTATIONS)

    def rotate(_: int) -> None:
        ready.wait()
        rotate_keys(settings, now=NOW, retire_old=False)

    with ThreadPoolExecutor(ROTATIONS) as pool:
        list(pool.map(rotate, range(ROTATIONS)))

    [_] = settings.data_dir.iterdir()
    assert len(load_keyring(settings).keys) == 1 + ROTATIONS


def test_a_rotation_waits_for_another_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the first rotation would write the key back that the second one retires."""
    outcomes = list[str]()

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
def test_a_rotation_by_root_keeps_the_owner(settings: Settings, path: Path) -> None:
    """Otherwise the service could not read its keys any more."""
    os.chown(path, 12345, 23456)
    path.chmod(0o640)

    rotate_keys(settings, now=NOW, retire_old=True)

    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 23456, 0o640)


@only_root
@pytest.mark.parametrize(
    ("owner", "mode"), [((12345, 0), 0o600), ((0, 23456), 0o640)], ids=["owner", "group"]
)
def test_a_rotation_that_cannot_keep_the_owner_changes_nothing(
    settings: Settings,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: tuple[int, int],
    mode: int,
) -> None:
    """No temporary file remains, and the error says which user to use."""
    os.chown(path, *owner)
    path.chmod(mode)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fchown", _forbid)

    with pytest.raises(SettingsError, match=r"belongs to user \d+ and group \d+.*as that user"):
        rotate_keys(settings, now=NOW, retire_old=True)

    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


def test_a_group_without_rights_does_not_prevent_a_rotation(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changing the owner fails, but only the own user has rights on the file."""
    monkeypatch.setattr(os, "fchown", _forbid)

    assert len(rotate_keys(settings, now=NOW, retire_old=False).keys) == 2


def test_a_failed_replacement_leaves_no_draft(
    settings: Settings, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is itself a mount point is busy; the temporary file has all private keys."""
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


def test_a_configured_key_file_has_to_exist(tmp_path: Path) -> None:
    """Replicas share the file: if one created keys, the others would refuse its tokens."""
    settings = _settings(tmp_path, tmp_path / "shared.json")

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_TOKEN_KEYS_FILE: .*keys rotate"):
        load_or_create_keyring(settings, now=NOW)
    made = rotate_keys(settings, now=NOW, retire_old=False)

    assert made.keys[0].kid == load_or_create_keyring(settings, now=NOW).keys[0].kid


def test_a_data_directory_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    """The error begins with the name of the setting."""
    (tmp_path / "data").write_text("a file stands here")

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_DATA_DIR: "):
        load_or_create_keyring(_settings(tmp_path), now=NOW)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda keys: keys[0]["jwk"].pop("d"),
        lambda keys: keys[0].update(ends_at=1),
        lambda keys: keys.clear(),
        lambda keys: keys[0].update(jwk=ECKey.generate_key("P-384").as_dict(private=True)),
        lambda keys: keys[0].update(signs_from="soon"),
    ],
    ids=["no private part", "an end", "no keys", "another curve", "no time"],
)
def test_a_file_without_usable_keys_stops_the_start(tmp_path: Path, spoil: Any) -> None:  # noqa: ANN401
    """The error is one line that names the file and contains no key."""
    path = tmp_path / "keys.json"
    content = json.loads(dump_keyring(create_keyring(NOW)))
    secret = content["keys"][0]["jwk"]["d"]
    spoil(content["keys"])
    path.write_text(json.dumps(content))

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_TOKEN_KEYS_FILE: ") as caught:
        load_keyring(_settings(tmp_path, path))

    assert str(path) in str(caught.value)
    assert secret not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"null", b"\xff", b'{"keys": [1]}', b'{"keys": ' + b"[" * 100_000],
    ids=len,
)
def test_a_file_that_is_not_a_keyring_is_refused(tmp_path: Path, content: bytes) -> None:
    """For example, a crash or a full disk leaves an empty file."""
    path = tmp_path / "keys.json"
    path.write_bytes(content)

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_TOKEN_KEYS_FILE: "):
        load_keyring(_settings(tmp_path, path))


# --- the command ----------------------------------------------------------------------------------


async def test_the_command_rotates_and_lists_without_private_parts(tmp_path: Path) -> None:
    """`sponsorsync keys` works with or without a running service."""
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


async def test_the_keys_command_fails_with_one_line(tmp_path: Path) -> None:
    """`keys list` finds no key file."""
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
