"""Every setting, from the environment, `.env` and `.env.gears`.

Create settings with `load_settings`: its error for a malformed setting is one line that names the
variable and says what its value should be. Importing this module reads no settings.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlencode

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.entitlement import EntitlementPolicy
from sponsorsync.domain.errors import SettingsError
from sponsorsync.domain.preferences import EXCLUDED_NODES
from sponsorsync.setting_values import (
    Audience,
    Campaign,
    Collections,
    Host,
    Logins,
    Networks,
    Origin,
    Origins,
    RedisUrl,
    Secret16,
    Secret32,
    Url,
    bracket_host,
)

_WILDCARD_HOSTS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
# Kubernetes sets these for a Service named sponsorsync.
_KUBERNETES_LINK = re.compile(r"SPONSORSYNC_(SERVICE_|PORT_\d)")
_FOR_TESTS = frozenset(
    {
        "SPONSORSYNC_GITHUB_EXAMPLES",
        "SPONSORSYNC_GITHUB_SCHEMA",
        "SPONSORSYNC_MODEL_SEED",
        "SPONSORSYNC_MODEL_SOURCE",
        "SPONSORSYNC_TEST_DURABLE_URL",
        "SPONSORSYNC_TEST_GEARS_COMMAND",
        "SPONSORSYNC_TEST_GEARS_URL",
        "SPONSORSYNC_TEST_REJSON",
        "SPONSORSYNC_TEST_SCALE",
    }
)


_Port = Annotated[int, Field(ge=1, le=65535)]


def _unprefixed(variable: str, default: object = None) -> Any:  # noqa: ANN401 - as pydantic's Field
    """Returns a field that is read from `variable`, without the prefix SPONSORSYNC_.

    The first deployment had these names already.
    """
    return Field(default=default, validation_alias=AliasChoices(variable.lower(), variable))


class Settings(BaseSettings):
    """All settings. The field `port` is read from `SPONSORSYNC_PORT`, and so are the others.

    The exceptions are fields with `_unprefixed`.
    """

    model_config = SettingsConfigDict(
        env_prefix="SPONSORSYNC_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    host: str = "127.0.0.1"
    port: _Port = 8000
    public_url: Origin | None = None
    data_dir: Path = Path(".sponsorsync")
    log_format: Literal["auto", "json", "console"] = "auto"

    github_client_id: str | None = _unprefixed("GITHUB_CLIENT_ID")
    github_secret: SecretStr | None = _unprefixed("GITHUB_SECRET")
    github_url: Url = "https://github.com"
    github_api_url: Url = "https://api.github.com"
    github_timeout_s: float = Field(default=10.0, gt=0, le=60)
    sponsorables: Logins = ()

    redis_url: RedisUrl | None = None
    durable_url: RedisUrl | None = None
    redisent_host: Host | None = _unprefixed("REDISENT_HOST")
    redisent_port: _Port = _unprefixed("REDISENT_PORT", 6379)
    redisent_pwd: SecretStr | None = _unprefixed("REDISENT_PWD")
    redisent_user: str | None = _unprefixed("REDISENT_USER")
    redisent_tls: bool = _unprefixed("REDISENT_TLS", default=False)
    redisent_ca: Path | None = _unprefixed("REDISENT_CA")
    redis_pool_size: int = Field(default=32, ge=1, le=1000)

    engine: Literal["auto", "plain", "gears"] = "auto"
    gears_hook_collections: bool | None = None
    gears_hook_profiles: bool = False
    gears_allow_other_databases: bool = False
    gears_timeout_s: float = Field(default=120.0, ge=1, le=3600)

    session_secret: Secret32 | None = None
    session_days: int = Field(default=14, ge=1, le=365)
    allowed_origins: Origins = ()
    trusted_proxies: Networks = ()
    cookie_samesite: Literal["lax", "none"] = "lax"

    token_audience: Audience | None = None
    token_minutes: int = Field(default=10, ge=1, le=60)
    token_keys_file: Path | None = None

    retention_days: int = Field(default=90, ge=0, le=36_500)
    manage_notifications: bool = False
    allow_shared_server: bool = False
    admin_token: Secret16 | None = None
    webhook_secret: Secret16 | None = None
    maintainer_token: SecretStr | None = None
    reconcile_hours: int = Field(default=24, ge=0, le=24 * 30)

    one_time_days: int = Field(default=31, ge=1, le=3660)
    grace_days: int = Field(default=0, ge=0, le=365)
    stale_hours: int = Field(default=72, ge=0, le=24 * 90)
    patreon_cents: int | None = Field(default=None, ge=0, le=100_000_000)
    patreon_client_id: str | None = None
    patreon_secret: SecretStr | None = None
    patreon_campaign: Campaign | None = None
    patreon_url: Url = "https://www.patreon.com"
    org_entitlement: Literal["off", "members"] = "off"
    org_tier: Literal["inherit", "unknown"] = "inherit"
    org_seats: int | None = Field(default=None, ge=1, le=1_000_000)
    org_member_days: int = Field(default=30, ge=1, le=365)

    collections: Collections = (EXCLUDED_NODES,)
    max_items: int = Field(default=10_000, ge=1, le=1_000_000)
    max_item_bytes: int = Field(default=256, ge=1, le=4096)
    max_batch: int = Field(default=1000, ge=1, le=10_000)

    @field_validator("collections")
    @classmethod
    def _check_collections(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if EXCLUDED_NODES not in value:
            raise ValueError(f"should contain {EXCLUDED_NODES}, which POST /exclude fills")
        return value

    @field_validator("cookie_samesite")
    @classmethod
    def _check_samesite(cls, value: str, info: Any) -> str:  # noqa: ANN401 - pydantic's own type
        if value == "none" and not (info.data.get("public_url") or "").startswith("https://"):
            raise ValueError("'none' needs an https address in SPONSORSYNC_PUBLIC_URL")
        return value

    @property
    def catalog(self) -> Catalog:
        """The sponsorables and the collections."""
        return Catalog(self.sponsorables, self.collections)

    @property
    def entitlement_policy(self) -> EntitlementPolicy:
        """The maintainer's rules for entitlements, from the settings."""
        return EntitlementPolicy(
            one_time=timedelta(days=self.one_time_days),
            stale=timedelta(hours=self.stale_hours),
            grace=timedelta(days=self.grace_days),
            hidden_tier_cents=self.patreon_cents,
            entitles_members=self.org_entitlement == "members",
            members_inherit_tier=self.org_tier == "inherit",
            seats=self.org_seats,
            membership=timedelta(days=self.org_member_days),
        )

    @property
    def origin(self) -> str:
        """The scheme, host and port at which browsers reach the service."""
        return self.public_url or f"http://{bracket_host(self.host)}:{self.port}"

    @property
    def durable_address(self) -> SecretStr | None:
        """The URL of the durable Redis, from SPONSORSYNC_DURABLE_URL or `REDISENT_*`; else None."""
        if self.durable_url is not None or self.redisent_host is None:
            return self.durable_url
        password = self.redisent_pwd.get_secret_value() if self.redisent_pwd else ""
        user = self.redisent_user or ""
        credentials = f"{quote(user, safe='')}:{quote(password, safe='')}@"
        address = f"{bracket_host(self.redisent_host)}:{self.redisent_port}/0"
        query = f"?{urlencode({'ssl_ca_certs': self.redisent_ca})}" if self.redisent_ca else ""
        scheme = "rediss" if self.redisent_tls or self.redisent_ca else "redis"
        return SecretStr(f"{scheme}://{credentials if user or password else ''}{address}{query}")

    def require_for_sync(self) -> Self:
        """Raises SettingsError if a setting is missing that copying or comparing data needs."""
        if not self.sponsorables:
            raise SettingsError(
                "SPONSORSYNC_SPONSORABLES is not set; it should be the GitHub logins that can be "
                "sponsored, comma-separated"
            )
        return self

    def _require_patreon(self) -> None:
        """Raises SettingsError if only some of Patreon's settings are set."""
        of_patreon = {
            "SPONSORSYNC_PATREON_CLIENT_ID": self.patreon_client_id,
            "SPONSORSYNC_PATREON_SECRET": self.patreon_secret,
            "SPONSORSYNC_PATREON_CAMPAIGN": self.patreon_campaign,
        }
        missing = [name for name, value in of_patreon.items() if not value]
        if missing and len(missing) < len(of_patreon):
            raise SettingsError(
                f"{missing[0]} is not set, but other settings of Patreon are: set all of them or "
                "none (docs/patreon.md)"
            )

    def require_for_service(self) -> Self:
        """Raises SettingsError if a setting is missing that `sponsorsync serve` needs."""
        needed = {
            "SPONSORSYNC_REDIS_URL": (self.redis_url, "redis://localhost:6379/0"),
            "GITHUB_CLIENT_ID": (self.github_client_id, "the client id of your GitHub OAuth app"),
            "GITHUB_SECRET": (self.github_secret, "the client secret of your GitHub OAuth app"),
            "SPONSORSYNC_SPONSORABLES": (
                self.sponsorables,
                "the GitHub logins that can be sponsored, comma-separated",
            ),
        }
        for name, (value, example) in needed.items():
            if not value:
                raise SettingsError(
                    f"{name} is not set; it should be {example}. "
                    "(`sponsorsync dev` needs no settings.)"
                )
        self._require_patreon()
        if self.public_url is None and self.host in _WILDCARD_HOSTS:
            raise SettingsError(
                f"SPONSORSYNC_PUBLIC_URL is not set; with SPONSORSYNC_HOST={self.host} it should "
                "be the address by which browsers reach the service"
            )
        return self


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    *,
    env_files: tuple[str, ...] = (".env", ".env.gears"),
) -> Settings:
    """Reads the settings; the environment has priority over the files, `overrides` over both.

    `overrides` are by field name. A missing file is ignored.

    Raises:
        SettingsError: A setting is malformed; the message is one line about the first such setting.
    """
    try:
        return Settings(_env_file=env_files, **dict(overrides or {}))  # type: ignore[call-arg]
    except ValidationError as error:
        raise SettingsError(_first_line(error)) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{' or '.join(env_files)}: should be a text file in UTF-8") from None


def _first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    field = str(first["loc"][0])
    message = first["msg"].removeprefix("Value error, ")
    if field.lower() == "port":
        # Kubernetes sets SPONSORSYNC_PORT=tcp://… for a Service of that name.
        message += " (in Kubernetes a Service named sponsorsync sets it: enableServiceLinks: false)"
    return f"{variable_of(field)}: {message[0].lower()}{message[1:]}"


def find_unknown_names(environment: Mapping[str, str]) -> list[str]:
    """Returns variables that begin with SPONSORSYNC_ but are no setting; they may be misspelt."""
    settings = {variable_of(field) for field in Settings.model_fields} | _FOR_TESTS
    return sorted(
        name
        for name in environment
        if name.startswith("SPONSORSYNC_")
        and name not in settings
        and not _KUBERNETES_LINK.match(name)
    )


def variable_of(field: str) -> str:
    """Returns the environment variable from which a field is read."""
    if field.isupper():  # already the variable: pydantic's errors name a field by its alias
        return field
    info = Settings.model_fields.get(field)
    alias = info.validation_alias if info else None
    if isinstance(alias, AliasChoices):
        return str(alias.choices[-1])
    return f"SPONSORSYNC_{field.upper()}"
