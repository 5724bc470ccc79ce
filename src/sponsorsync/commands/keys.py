"""`sponsorsync keys`: lists and rotates the keys that sign tokens."""

import json
from datetime import datetime

from sponsorsync.settings import Settings
from sponsorsync.tokens.keyring import Keyring, TokenKey, find_keys_file, load_keyring, rotate_keys


def list_keys(settings: Settings, *, now: datetime, as_json: bool) -> str:
    """Returns a list of the keys without their private parts."""
    return _format(load_keyring(settings), settings, now=now, as_json=as_json)


def rotate(settings: Settings, *, now: datetime, retire_old: bool, as_json: bool) -> str:
    """Creates a new signing key, and returns a list of all keys."""
    keyring = rotate_keys(settings, now=now, retire_old=retire_old)
    return _format(keyring, settings, now=now, as_json=as_json)


def _format(keyring: Keyring, settings: Settings, *, now: datetime, as_json: bool) -> str:
    signing = keyring.find_signing(now)
    rows = [
        {
            "kid": key.kid,
            "state": _state_of(key, signing, now),
            "signs_from": key.signs_from.isoformat(),
            "ends_at": key.ends_at.isoformat() if key.ends_at else None,
        }
        for key in keyring.keys
    ]
    file = str(find_keys_file(settings))
    if as_json:
        return json.dumps({"file": file, "keys": rows}, indent=2)
    lines = [file]
    for row in rows:
        end = f", its tokens end by {row['ends_at']}" if row["ends_at"] else ""
        lines.append(f"  {row['kid']}  {row['state']:<8}  signs from {row['signs_from']}{end}")
    return "\n".join(lines)


def _state_of(key: TokenKey, signing: TokenKey, now: datetime) -> str:
    if key is signing:
        return "signs"
    if not key.is_accepted(now):
        return "retired"
    return "shown" if now < key.signs_from else "checks"
