"""Every setting, from the environment, `.env` and `.env.gears`.

`load_settings` is the only way in: it turns what is missing or malformed into one line that names
the variable and says what it should be. No instance is made at import.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sponsorsync.domain.errors import SettingsError
from sponsorsync.domain.preferences import EXCLUDED_NODES, is_collection_name
from sponsorsync.domain.sponsorship import normalize_login

_LOGIN_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_MAX_PORT = 65535


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _check_origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("should be an address such as https://sponsors.example.org")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username:
        raise ValueError("should have no path, query or user, as in https://sponsors.example.org")
    return f"{parts.scheme}://{parts.netloc}".lower()


def _check_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
        raise ValueError("should be an address such as https://github.com")
    return value.rstrip("/")


def _check_redis_url(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    try:
        good = parts.scheme == "unix" or (
            parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
        )
    except ValueError:  # the port is no number
        good = False
    if not good:
        raise ValueError("should be an address such as redis://user:password@host:6379/0")
    return value


def _check_login(value: str) -> str:
    login = normalize_login(value)
    if not login or not set(login) <= _LOGIN_CHARACTERS:
        raise ValueError(f"{value!r} is not a GitHub login")
    return login


def _check_collection(value: str) -> str:
    if not is_collection_name(value):
        raise ValueError(f"{value!r} should be lower-case letters, digits and underscores")
    return value


Origin = Annotated[str, AfterValidator(_check_origin)]
Url = Annotated[str, AfterValidator(_check_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_check_redis_url)]
Logins = Annotated[
    tuple[Annotated[str, AfterValidator(_check_login)], ...],
    NoDecode,
    BeforeValidator(_split_commas),
]
Origins = Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_split_commas)]
Collections = Annotated[
    tuple[Annotated[str, AfterValidator(_check_collection)], ...],
    NoDecode,
    BeforeValidator(_split_commas),
]


class Settings(BaseSettings):
    """All settings; a field `port` is read from `SPONSORSYNC_PORT` unless it says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="SPONSORSYNC_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=_MAX_PORT)
    public_url: Origin | None = None
    data_dir: Path = Path(".sponsorsync")
    log_format: Literal["auto", "json", "console"] = "auto"

    github_client_id: str | None = Field(
        default=None, validation_alias=AliasChoices("github_client_id", "GITHUB_CLIENT_ID")
    )
    github_secret: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("github_secret", "GITHUB_SECRET")
    )
    github_url: Url = "https://github.com"
    github_api_url: Url = "https://api.github.com"
    github_timeout_s: float = Field(default=10.0, gt=0, le=60)
    sponsorables: Logins = ()

    redis_url: RedisUrl | None = None
    durable_url: RedisUrl | None = None
    redisent_host: str | None = Field(
        default=None, validation_alias=AliasChoices("redisent_host", "REDISENT_HOST")
    )
    redisent_port: int = Field(
        default=6379,
        ge=1,
        le=_MAX_PORT,
        validation_alias=AliasChoices("redisent_port", "REDISENT_PORT"),
    )
    redisent_pwd: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("redisent_pwd", "REDISENT_PWD")
    )
    redis_pool_size: int = Field(default=32, ge=1, le=1000)

    session_secret: SecretStr | None = None
    session_days: int = Field(default=14, ge=1, le=365)
    allowed_origins: Origins = ()
    cookie_samesite: Literal["lax", "none"] = "lax"

    one_time_days: int = Field(default=31, ge=1, le=3660)
    stale_hours: int = Field(default=72, ge=0, le=24 * 90)

    collections: Collections = (EXCLUDED_NODES,)
    max_items: int = Field(default=10_000, ge=1, le=1_000_000)
    max_item_bytes: int = Field(default=256, ge=1, le=4096)
    max_batch: int = Field(default=1000, ge=1, le=10_000)

    @field_validator("session_secret")
    @classmethod
    def _check_session_secret(cls, value: SecretStr | None) -> SecretStr | None:
        shortest = 32
        if value is not None and len(value.get_secret_value()) < shortest:
            raise ValueError(f"should have {shortest} characters or more, random ones")
        return value

    @field_validator("cookie_samesite")
    @classmethod
    def _check_samesite(cls, value: str, info: Any) -> str:  # noqa: ANN401 - pydantic's own type
        if value == "none" and not (info.data.get("public_url") or "").startswith("https://"):
            raise ValueError("'none' needs an https address in SPONSORSYNC_PUBLIC_URL")
        return value

    @property
    def origin(self) -> str:
        """The scheme, host and port by which browsers reach the service."""
        return self.public_url or f"http://{self.host}:{self.port}"

    @property
    def durable_address(self) -> SecretStr | None:
        """The durable Redis as a URL: `DURABLE_URL`, else made of `REDISENT_*`, else None."""
        if self.durable_url is not None or self.redisent_host is None:
            return self.durable_url
        password = self.redisent_pwd.get_secret_value() if self.redisent_pwd else ""
        credentials = f":{quote(password, safe='')}@" if password else ""
        return SecretStr(f"redis://{credentials}{self.redisent_host}:{self.redisent_port}/0")

    def require_for_service(self) -> Self:
        """Raises SettingsError unless all is there that a service with real neighbours needs."""
        needed = {
            "SPONSORSYNC_REDIS_URL": (self.redis_url, "redis://localhost:6379/0"),
            "GITHUB_CLIENT_ID": (self.github_client_id, "the client id of your GitHub OAuth app"),
            "GITHUB_SECRET": (self.github_secret, "the client secret of your GitHub OAuth app"),
            "SPONSORSYNC_SPONSORABLES": (
                self.sponsorables,
                "the logins that can be sponsored, comma-separated",
            ),
        }
        for name, (value, example) in needed.items():
            if not value:
                raise SettingsError(
                    f"{name} is not set; it should be {example}. "
                    "(`sponsorsync dev` needs no settings.)"
                )
        return self


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    *,
    env_files: tuple[str, ...] = (".env", ".env.gears"),
) -> Settings:
    """Reads the settings; the environment wins over the files, `overrides` over both.

    Args:
        overrides: Values by field name.
        env_files: Files with `NAME=value` lines; missing ones are passed over.

    Raises:
        SettingsError: One is malformed; the message is one line that names the first of them.
    """
    try:
        return Settings(_env_file=env_files, **dict(overrides or {}))  # type: ignore[call-arg]
    except ValidationError as error:
        raise SettingsError(_first_line(error)) from None


def _first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    field = str(first["loc"][0])
    message = first["msg"].removeprefix("Value error, ")
    if field.lower() == "port":
        # Kubernetes sets SPONSORSYNC_PORT=tcp://… for a Service of that name.
        message += " (in Kubernetes a Service named sponsorsync sets it: enableServiceLinks: false)"
    return f"{_variable_of(field)}: {message[0].lower()}{message[1:]}"


def _variable_of(field: str) -> str:
    if field.isupper():  # an alias, as the first deployment has it
        return field
    info = Settings.model_fields.get(field)
    alias = info.validation_alias if info else None
    if isinstance(alias, AliasChoices):
        return str(alias.choices[-1])
    return f"SPONSORSYNC_{field.upper()}"
