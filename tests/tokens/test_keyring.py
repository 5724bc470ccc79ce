"""The keys that sign tokens: their file, and how one follows another."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from joserfc.jwk import ECKey

from sponsorsync.domain.errors import SettingsError
from sponsorsync.settings import Settings
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

    assert [each.kid for each in keyring.counting(NOW)] == [old.kid, new.kid]
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
    shown = create_keyring(NOW).keys[0].show()

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


def test_a_file_that_a_setting_names_has_to_be_there(tmp_path: Path) -> None:
    """A replica with keys of its own would sign what the others refuse."""
    settings = _settings(tmp_path, tmp_path / "shared.json")

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_TOKEN_KEYS_FILE: .*keys rotate"):
        load_or_create_keyring(settings, now=NOW)
    made = rotate_keys(settings, now=NOW, retire_old=False)

    assert made.keys[0].kid == load_or_create_keyring(settings, now=NOW).keys[0].kid


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b"\xff", b'{"keys": [1]}'])
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
