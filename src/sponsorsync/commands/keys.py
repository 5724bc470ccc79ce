"""`sponsorsync keys`: shows the keys that sign tokens, and makes new ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sponsorsync.tokens.keyring import find_keys_file, load_keyring, rotate_keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sponsorsync.settings import Settings
    from sponsorsync.tokens.keyring import Keyring, TokenKey


def list_keys(settings: Settings, *, now: datetime, as_json: bool) -> str:
    """Returns what to print of the keys: never their private parts."""
    return _describe(load_keyring(settings), settings, now=now, as_json=as_json)


def rotate(settings: Settings, *, now: datetime, retire_old: bool, as_json: bool) -> str:
    """Makes a new key, and returns what to print of all of them."""
    keyring = rotate_keys(settings, now=now, retire_old=retire_old)
    return _describe(keyring, settings, now=now, as_json=as_json)


def _describe(keyring: Keyring, settings: Settings, *, now: datetime, as_json: bool) -> str:
    signing = keyring.find_signing(now)
    describe: Callable[[TokenKey], dict[str, object]] = lambda key: {  # noqa: E731 - a row
        "kid": key.kid,
        "state": _state_of(key, signing, now),
        "signs_from": key.signs_from.isoformat(),
        "ends_at": key.ends_at.isoformat() if key.ends_at else None,
    }
    rows = [describe(key) for key in keyring.keys]
    if as_json:
        return json.dumps({"file": str(find_keys_file(settings)), "keys": rows}, indent=2)
    return "\n".join(
        [
            str(find_keys_file(settings)),
            *(
                f"  {row['kid']}  {row['state']:<8}  signs from {row['signs_from']}"
                + (f", its tokens end by {row['ends_at']}" if row["ends_at"] else "")
                for row in rows
            ),
        ]
    )


def _state_of(key: TokenKey, signing: TokenKey, now: datetime) -> str:
    if key is signing:
        return "signs"
    if not key.is_accepted(now):
        return "retired"
    return "shown" if now < key.signs_from else "checks"
