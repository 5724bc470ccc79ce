"""Errors of settings: one line that names the variable and contains no secret."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from sponsorsync.domain.errors import SettingsError
from sponsorsync.settings import Settings, find_unknown_names, load_settings, variable_of

PASSWORD = "correct-horse-battery-staple"

BAD_URLS = ["github.com", "ftp://github.com", "https://", "https://x:port", "https://[", "//x"]
BAD_ORIGINS = [*BAD_URLS, "https://x/path", "https://x?q=1", "https://x#f", "https://me@x"]
BAD_REDIS_URLS = [
    "localhost",
    "localhost:6379",
    "http://localhost",
    "redis://",
    "redis://localhost:port",
    "redis://localhost:0",
    "redis://localhost:65536",
    "redis://[",
    "redis://localhost/name",
    "redis://localhost?decode_responses=1",
    "rediss://localhost?ssl_cert_reqs=nonsense",
]
MALFORMED: dict[str, list[str]] = {
    "SPONSORSYNC_PORT": ["http", "0", "-1", "65536", "80.5", "tcp://10.0.0.1:8000"],
    "SPONSORSYNC_PUBLIC_URL": BAD_ORIGINS,
    "SPONSORSYNC_LOG_FORMAT": ["xml", "JSON"],
    "SPONSORSYNC_GITHUB_URL": [*BAD_URLS, "https://x?q=1"],
    "SPONSORSYNC_GITHUB_API_URL": [*BAD_URLS, "https://x?q=1"],
    "SPONSORSYNC_GITHUB_TIMEOUT_S": ["soon", "0", "-1", "60.1", "nan", "inf"],
    "SPONSORSYNC_SPONSORABLES": ["a b", "a/b", "good,@bad", "https://github.com/good", "a;b"],
    "SPONSORSYNC_REDIS_URL": BAD_REDIS_URLS,
    "SPONSORSYNC_DURABLE_URL": BAD_REDIS_URLS,
    "REDISENT_HOST": ["redis://host", "host:6379", "ho st", "user@host", "host/0", "[::1]"],
    "REDISENT_PORT": ["redis", "0", "65536"],
    "REDISENT_TLS": ["maybe"],
    "SPONSORSYNC_REDIS_POOL_SIZE": ["many", "0", "1001"],
    "SPONSORSYNC_ENGINE": ["both", "Gears"],
    "SPONSORSYNC_GEARS_HOOK_COLLECTIONS": ["maybe"],
    "SPONSORSYNC_GEARS_HOOK_PROFILES": ["maybe"],
    "SPONSORSYNC_GEARS_ALLOW_OTHER_DATABASES": ["maybe"],
    "SPONSORSYNC_GEARS_TIMEOUT_S": ["long", "0.9", "3601", "nan"],
    "SPONSORSYNC_ADMIN_TOKEN": ["x" * 15],
    "SPONSORSYNC_WEBHOOK_SECRET": ["x" * 15],
    "SPONSORSYNC_RECONCILE_HOURS": ["daily", "-1", "721"],
    "SPONSORSYNC_RETENTION_DAYS": ["long", "-1", "36501"],
    "SPONSORSYNC_MANAGE_NOTIFICATIONS": ["maybe"],
    "SPONSORSYNC_ALLOW_SHARED_SERVER": ["maybe"],
    "SPONSORSYNC_SESSION_SECRET": ["x" * 31],
    "SPONSORSYNC_SESSION_DAYS": ["long", "0", "366"],
    "SPONSORSYNC_ALLOWED_ORIGINS": [*BAD_ORIGINS, "https://a.example,b.example"],
    "SPONSORSYNC_TRUSTED_PROXIES": [
        "localhost",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "127.0.0.1:80",
        "::g",
    ],
    "SPONSORSYNC_TOKEN_AUDIENCE": ["two words", "ümlaut", "a\tb"],
    "SPONSORSYNC_TOKEN_MINUTES": ["long", "0", "61"],
    "SPONSORSYNC_COOKIE_SAMESITE": ["strict", "none"],
    "SPONSORSYNC_ONE_TIME_DAYS": ["long", "0", "3661"],
    "SPONSORSYNC_GRACE_DAYS": ["long", "-1", "366"],
    "SPONSORSYNC_STALE_HOURS": ["long", "-1", "2161"],
    "SPONSORSYNC_PATREON_CENTS": ["much", "-1", "100000001"],
    "SPONSORSYNC_PATREON_CAMPAIGN": ["mine", "-1", "1.5", "1" * 21, "\u0661", "12 34"],
    "SPONSORSYNC_PATREON_URL": [*BAD_URLS, "https://x?q=1"],
    "SPONSORSYNC_ORG_ENTITLEMENT": ["on", "MEMBERS"],
    "SPONSORSYNC_ORG_TIER": ["500", "Inherit"],
    "SPONSORSYNC_ORG_SEATS": ["all", "0", "1000001"],
    "SPONSORSYNC_ORG_MEMBER_DAYS": ["long", "0", "366"],
    "SPONSORSYNC_COLLECTIONS": ["a b", "Upper", "mnodes,profile", "mnodes,a:b", "favourites"],
    "SPONSORSYNC_MAX_ITEMS": ["many", "0", "1000001"],
    "SPONSORSYNC_MAX_ITEM_BYTES": ["many", "0", "4097"],
    "SPONSORSYNC_MAX_BATCH": ["many", "0", "10001"],
}
ANYTHING_GOES = {
    "SPONSORSYNC_MAINTAINER_TOKEN",
    "SPONSORSYNC_PATREON_CLIENT_ID",
    "SPONSORSYNC_PATREON_SECRET",
    "SPONSORSYNC_HOST",
    "SPONSORSYNC_DATA_DIR",
    "SPONSORSYNC_TOKEN_KEYS_FILE",
    "GITHUB_CLIENT_ID",
    "GITHUB_SECRET",
    "REDISENT_USER",
    "REDISENT_PWD",
    "REDISENT_CA",
}


@pytest.mark.parametrize(
    ("variable", "value"),
    [(variable, value) for variable, values in MALFORMED.items() for value in values],
)
def test_a_malformed_value_is_one_line_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """The operator has to know which variable to correct."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    message = str(caught.value)
    assert message.startswith(f"{variable}: ")
    assert "\n" not in message


def test_every_variable_is_in_the_tables_of_this_file() -> None:
    """A new variable needs malformed values in MALFORMED, or an entry in ANYTHING_GOES."""
    variables = {variable_of(name) for name in Settings.model_fields}

    assert variables == MALFORMED.keys() | ANYTHING_GOES


@pytest.mark.parametrize(
    ("name", "is_unknown"),
    [
        ("SPONSORSYNC_SPONSORABLE", True),
        ("SPONSORSYNC_ADMINTOKEN", True),
        ("SPONSORSYNC_SPONSORABLES", False),
        ("GITHUB_SECRETS", False),
        ("PORT", False),
        ("SPONSORSYNC_SERVICE_HOST", False),
        ("SPONSORSYNC_PORT_8000_TCP_ADDR", False),
    ],
)
def test_a_misspelt_variable_is_noticed(name: str, is_unknown: bool) -> None:
    """A misspelt variable has no effect. Those of other programs and Kubernetes are allowed."""
    assert find_unknown_names({name: "x"}) == [name] * is_unknown


def test_a_wrong_line_in_a_file_is_named_too(tmp_path: Path) -> None:
    """There are two files, so the error names the variable."""
    (tmp_path / ".env.gears").write_text("REDISENT_PORT=redis\n")

    with pytest.raises(SettingsError, match=r"^REDISENT_PORT: "):
        load_settings()


def test_a_wrong_override_is_named_by_its_variable() -> None:
    """Operators know the names of variables, not those of fields."""
    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_PORT: "):
        load_settings({"port": 0})


def test_the_port_that_kubernetes_sets_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service named sponsorsync sets SPONSORSYNC_PORT in every pod."""
    monkeypatch.setenv("SPONSORSYNC_PORT", "tcp://10.0.0.1:8000")

    with pytest.raises(SettingsError, match="enableServiceLinks: false"):
        load_settings()


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("SPONSORSYNC_REDIS_URL", "redis://localhost:6379/0"),
        ("GITHUB_CLIENT_ID", "client id"),
        ("GITHUB_SECRET", "client secret"),
        ("SPONSORSYNC_SPONSORABLES", "comma-separated"),
    ],
)
@pytest.mark.usefixtures("_needed")
def test_a_missing_setting_is_named_with_an_example(
    monkeypatch: pytest.MonkeyPatch, missing: str, named: str
) -> None:
    """The error is one line, with an example of the value."""
    monkeypatch.delenv(missing)

    with pytest.raises(SettingsError, match=f"^{missing} is not set; .*{named}") as caught:
        load_settings().require_for_service()

    assert "\n" not in str(caught.value)


PATREON = {
    "SPONSORSYNC_PATREON_CLIENT_ID": "an-id",
    "SPONSORSYNC_PATREON_SECRET": "a-secret",
    "SPONSORSYNC_PATREON_CAMPAIGN": "1234567",
}


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        (("CLIENT_ID",), "SECRET"),
        (("SECRET",), "CLIENT_ID"),
        (("CAMPAIGN",), "CLIENT_ID"),
        (("CLIENT_ID", "SECRET"), "CAMPAIGN"),
        (("CLIENT_ID", "CAMPAIGN"), "SECRET"),
        (("SECRET", "CAMPAIGN"), "CLIENT_ID"),
    ],
)
@pytest.mark.usefixtures("_needed")
def test_some_but_not_all_settings_of_patreon_are_refused(
    monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...], missing: str
) -> None:
    """Linking would fail later, at Patreon; the error names the first missing setting."""
    for each in present:
        name = f"SPONSORSYNC_PATREON_{each}"
        monkeypatch.setenv(name, PATREON[name])

    with pytest.raises(SettingsError) as caught:
        load_settings().require_for_service()

    assert str(caught.value) == (
        f"SPONSORSYNC_PATREON_{missing} is not set, but other settings of Patreon are: set all of "
        "them or none (docs/patreon.md)"
    )


@pytest.mark.parametrize("patreon", [{}, PATREON], ids=["without Patreon", "with Patreon"])
@pytest.mark.usefixtures("_needed")
def test_a_service_with_the_required_settings_starts(
    monkeypatch: pytest.MonkeyPatch, patreon: dict[str, str]
) -> None:
    """Patreon and the durable Redis are optional."""
    for name, value in patreon.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()

    assert settings.require_for_service() is settings


@pytest.mark.parametrize(
    ("variable", "value", "missing"),
    [
        ("SPONSORSYNC_HOST", "0.0.0.0", "SPONSORSYNC_PUBLIC_URL"),  # noqa: S104 - what is tested
        ("SPONSORSYNC_HOST", "::", "SPONSORSYNC_PUBLIC_URL"),
        ("SPONSORSYNC_SPONSORABLES", " , ", "SPONSORSYNC_SPONSORABLES"),
    ],
)
@pytest.mark.usefixtures("_needed")
def test_a_setting_that_is_needed_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, missing: str
) -> None:
    """A service on 0.0.0.0 needs a public URL, and every service needs a sponsorable."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError, match=f"^{missing} is not set"):
        load_settings().require_for_service()


def test_printed_settings_contain_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracebacks and logs may contain printed settings."""
    monkeypatch.setenv("SPONSORSYNC_REDIS_URL", f"redis://:{PASSWORD}@localhost")
    monkeypatch.setenv("SPONSORSYNC_DURABLE_URL", f"rediss://user:{PASSWORD}@durable")
    monkeypatch.setenv("SPONSORSYNC_SESSION_SECRET", f"{PASSWORD}-{PASSWORD}")
    secrets = ("ADMIN_TOKEN", "WEBHOOK_SECRET", "MAINTAINER_TOKEN", "PATREON_SECRET")
    for name in (*(f"SPONSORSYNC_{each}" for each in secrets), "GITHUB_SECRET", "REDISENT_PWD"):
        monkeypatch.setenv(name, PASSWORD)
    monkeypatch.setenv("REDISENT_HOST", "durable")
    settings = load_settings()

    printed = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"

    assert PASSWORD not in printed
    assert PASSWORD not in repr(settings.durable_address)


LEAKING = [
    f"redis://:{PASSWORD}/{PASSWORD}@localhost:6379",
    f"redis://:{PASSWORD}@localhost:port",
    f"redis://:{PASSWORD}@",
    f"redis://:{PASSWORD}\u2100@localhost",
    f"redis://:{PASSWORD}@[localhost",
    f"redis://:{PASSWORD}[@localhost",
    f"redis://user:1/{PASSWORD}@localhost",
    f"redis://user:1?{PASSWORD}=1@localhost",
    f"redis://user:1#{PASSWORD}@localhost",
    f":{PASSWORD}@localhost:6379",
    f"http://:{PASSWORD}@localhost",
    PASSWORD,
]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("SPONSORSYNC_REDIS_URL", address) for address in LEAKING),
        *(("SPONSORSYNC_DURABLE_URL", address) for address in LEAKING),
        ("SPONSORSYNC_SESSION_SECRET", PASSWORD),  # too short, but part of the right one
    ],
)
def test_a_malformed_value_is_refused_without_its_secret(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """The error is written to the log."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError, match=f"^{variable}: ") as caught:
        load_settings()

    assert PASSWORD not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_error_of_pydantic_contains_no_value() -> None:
    """Code may create Settings without `load_settings`, which hides values."""
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"redis_url": PASSWORD, "session_secret": PASSWORD})

    assert PASSWORD not in str(caught.value)
