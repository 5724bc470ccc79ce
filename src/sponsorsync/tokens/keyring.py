"""The keys that sign tokens, in one file; a new key is published for some time before it signs.

The file contains `{"keys": [{"jwk": …, "signs_from": seconds, "ends_at": seconds or null}, …]}`,
the oldest key first. Only the last key has no end. From a key's `ends_at` on, its tokens are
rejected.
"""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from sponsorsync.domain.errors import SettingsError
from sponsorsync.secret_files import (
    create_file,
    lock_file,
    read_file,
    replace_file,
    warn_if_open_to_others,
)
from sponsorsync.settings import Settings

ALGORITHM = "ES256"

JWKS_LIFE = timedelta(minutes=5)
"""Time that clients may cache the public keys."""

LONGEST_TOKEN_LIFE = timedelta(hours=1)
"""The maximum of SPONSORSYNC_TOKEN_MINUTES."""

# Time from the publication of a key to its first signature: clients fetch the keys again within
# JWKS_LIFE, and each replica reloads the file within seconds.
_LEAD = 2 * JWKS_LIFE
_SLACK = timedelta(minutes=1)

_FILE_NAME = "token_keys.json"
_LOCK_S = 10.0


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A signing key; before `signs_from` it is published, but signs nothing.

    From `ends_at` on, its tokens are rejected; None for the last key.
    """

    key: ECKey
    signs_from: datetime
    ends_at: datetime | None = None

    @property
    def kid(self) -> str:
        """The key id: a hash of the public part (RFC 7638)."""
        return self.key.thumbprint()

    def is_accepted(self, now: datetime) -> bool:
        """Returns whether tokens of this key are accepted."""
        return self.ends_at is None or now < self.ends_at

    def to_public_jwk(self) -> dict[str, str]:
        """Returns the public part as a JWK."""
        public = {name: str(value) for name, value in self.key.as_dict(private=False).items()}
        return public | {"kid": self.kid, "use": "sig", "alg": ALGORITHM}


@dataclass(frozen=True, slots=True)
class Keyring:
    """All keys, the oldest first; only the last key has no end."""

    keys: tuple[TokenKey, ...]

    def list_accepted(self, now: datetime) -> list[TokenKey]:
        """Returns the keys whose tokens are accepted."""
        return [each for each in self.keys if each.is_accepted(now)]

    def find(self, kid: object, now: datetime) -> TokenKey | None:
        """Returns the key with this id; None if it is unknown or its tokens are rejected."""
        return next((each for each in self.list_accepted(now) if each.kid == kid), None)

    def find_signing(self, now: datetime) -> TokenKey:
        """Returns the key that signs: the latest one whose `signs_from` has come."""
        accepted = self.list_accepted(now)
        signing = [each for each in accepted if each.signs_from <= now]
        return signing[-1] if signing else accepted[0]

    def rotate(self, now: datetime, *, retire_old: bool = False) -> Self:
        """Returns a keyring with a new key; old keys get an end, and ended ones are removed.

        `retire_old` removes all old keys, so that their tokens are rejected at once: for a key that
        has leaked.
        """
        if retire_old:
            return type(self)((_create_key(now),))
        signs_from = now + _LEAD
        over = signs_from + LONGEST_TOKEN_LIFE + _SLACK
        old = [replace(each, ends_at=each.ends_at or over) for each in self.list_accepted(now)]
        return type(self)((*old, _create_key(signs_from)))


def create_keyring(now: datetime) -> Keyring:
    """Returns a keyring with one new key that signs at once."""
    return Keyring((_create_key(now),))


def find_keys_file(settings: Settings) -> Path:
    """Returns the path of the key file."""
    return settings.token_keys_file or settings.data_dir / _FILE_NAME


def load_or_create_keyring(settings: Settings, *, now: datetime) -> Keyring:
    """Returns the keys in the file; creates a missing file, but only in SPONSORSYNC_DATA_DIR.

    A file that SPONSORSYNC_TOKEN_KEYS_FILE names has to exist: if each replica created its own,
    the others would reject its tokens.

    Raises:
        SettingsError: The file cannot be read or created, or contains no keys.
    """
    path = find_keys_file(settings)
    try:
        if settings.token_keys_file is None and not path.exists():
            create_file(path, dump_keyring(create_keyring(now)))
        warn_if_open_to_others(path)
    except OSError as error:
        raise _unusable(settings, error) from None
    return load_keyring(settings)


def load_keyring(settings: Settings) -> Keyring:
    """Returns the keys in the file; raises SettingsError if it is unreadable or has none."""
    path = find_keys_file(settings)
    try:
        return parse_keyring(read_file(path))
    except OSError as error:
        raise _unusable(settings, error) from None
    except ValueError:
        raise SettingsError(
            f"{_variable(settings)}: {path} contains no keys for tokens; remove the file, then "
            "`sponsorsync keys rotate` creates it"
        ) from None


def rotate_keys(
    settings: Settings, *, now: datetime, retire_old: bool, lock_s: float = _LOCK_S
) -> Keyring:
    """Adds a new key to the file, or creates the file; returns all keys.

    A lock lets one process rotate at a time; else one could restore keys that another has retired.
    Waiting for it blocks, so do not call this on an event loop.

    Raises:
        SettingsError: The file cannot be read or written, or contains no keys.
    """
    path = find_keys_file(settings)
    try:
        if not path.exists():
            create_file(path, dump_keyring(create_keyring(now)))
        else:
            with lock_file(path, wait_s=lock_s):
                rotated = load_keyring(settings).rotate(now, retire_old=retire_old)
                replace_file(path, dump_keyring(rotated))
    except OSError as error:
        raise _unusable(settings, error) from None
    return load_keyring(settings)


def dump_keyring(keyring: Keyring) -> str:
    """Returns a keyring as the text of a key file."""
    return json.dumps(
        {
            "keys": [
                {
                    "jwk": each.key.as_dict(private=True),
                    "signs_from": int(each.signs_from.timestamp()),
                    "ends_at": None if each.ends_at is None else int(each.ends_at.timestamp()),
                }
                for each in keyring.keys
            ]
        },
        indent=1,
    )


def parse_keyring(text: bytes) -> Keyring:
    """Returns the keys in the content of a key file.

    Raises ValueError if the content is not a keyring; the message repeats nothing of the content.
    """
    try:
        keys = tuple(_parse_key(each) for each in json.loads(text)["keys"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError, JoseError):
        raise ValueError("no keys") from None
    if not keys or keys[-1].ends_at is not None:
        raise ValueError("no keys")
    if not all(each.key.is_private and each.key.curve_name == "P-256" for each in keys):
        raise ValueError("no keys")
    return Keyring(keys)


def _parse_key(entry: dict[str, Any]) -> TokenKey:
    ends_at = entry["ends_at"]
    return TokenKey(
        key=ECKey.import_key(entry["jwk"]),
        signs_from=datetime.fromtimestamp(entry["signs_from"], UTC),
        ends_at=None if ends_at is None else datetime.fromtimestamp(ends_at, UTC),
    )


def _create_key(signs_from: datetime) -> TokenKey:
    return TokenKey(key=ECKey.generate_key("P-256"), signs_from=signs_from)


def _unusable(settings: Settings, error: OSError) -> SettingsError:
    path = find_keys_file(settings)
    return SettingsError(
        f"{_variable(settings)}: {path} cannot be used ({error.strerror}); it should be a file "
        "with the keys for tokens, which `sponsorsync keys rotate` creates"
    )


def _variable(settings: Settings) -> str:
    in_data_dir = settings.token_keys_file is None
    return "SPONSORSYNC_DATA_DIR" if in_data_dir else "SPONSORSYNC_TOKEN_KEYS_FILE"
