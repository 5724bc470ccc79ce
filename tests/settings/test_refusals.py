"""The one line that a wrong or missing setting is worth, and the secrets it leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from sponsorsync.domain.errors import SettingsError
from sponsorsync.settings import Settings, find_unknown_names, load_settings, variable_of

if TYPE_CHECKING:
    from pathlib import Path


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
    "SPONSORSYNC_GEARS_TIMEOUT_S": ["long", "0.9", "3601", "nan"],
    "SPONSORSYNC_ADMIN_TOKEN": ["x" * 15],
    "SPONSORSYNC_WEBHOOK_SECRET": ["x" * 15],
    "SPONSORSYNC_RECONCILE_HOURS": ["daily", "-1", "721"],
    "SPONSORSYNC_RETENTION_DAYS": ["long", "-1", "36501"],
    "SPONSORSYNC_MANAGE_NOTIFICATIONS": ["maybe"],
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


# --- what is wrong with them ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value"),
    [(variable, value) for variable, values in MALFORMED.items() for value in values],
)
def test_a_malformed_value_is_one_line_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """It is the last line on a screen, and somebody has to know what to change."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    message = str(caught.value)
    assert message.startswith(f"{variable}: ")
    assert "\n" not in message


def test_every_variable_is_in_the_tables_of_this_file() -> None:
    """A new one comes with what is wrong with it, or with the statement that nothing is."""
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
    """It would be passed over; others' variables and those of Kubernetes are none of ours."""
    assert find_unknown_names({name: "x"}) == [name] * is_unknown


def test_a_wrong_line_in_a_file_is_named_too(tmp_path: Path) -> None:
    """By its variable; the file is one of two."""
    (tmp_path / ".env.gears").write_text("REDISENT_PORT=redis\n")

    with pytest.raises(SettingsError, match=r"^REDISENT_PORT: "):
        load_settings()


def test_a_wrong_override_is_named_by_its_variable() -> None:
    """One name for one thing."""
    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_PORT: "):
        load_settings({"port": 0})


def test_the_port_that_kubernetes_sets_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service named sponsorsync sets SPONSORSYNC_PORT for every pod beside it."""
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
def test_a_service_says_what_it_misses(
    monkeypatch: pytest.MonkeyPatch, missing: str, named: str
) -> None:
    """In one line, with what it should be."""
    monkeypatch.delenv(missing)

    with pytest.raises(SettingsError, match=f"^{missing} is not set; .*{named}") as caught:
        load_settings().require_for_service()

    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("_needed")
def test_a_service_with_all_it_needs_starts() -> None:
    """The durable Redis may come later."""
    settings = load_settings()

    assert settings.require_for_service() is settings


PATREON = {
    "SPONSORSYNC_PATREON_CLIENT_ID": "an-id",
    "SPONSORSYNC_PATREON_SECRET": "a-secret",
    "SPONSORSYNC_PATREON_CAMPAIGN": "1234567",
}


@pytest.mark.parametrize(
    ("given", "missing"),
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
def test_of_patreons_settings_there_are_all_or_none(
    monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], missing: str
) -> None:
    """The first that is missing is named; else people would be sent there for nothing."""
    for each in given:
        name = f"SPONSORSYNC_PATREON_{each}"
        monkeypatch.setenv(name, PATREON[name])

    with pytest.raises(SettingsError) as caught:
        load_settings().require_for_service()

    assert str(caught.value) == (
        f"SPONSORSYNC_PATREON_{missing} is not set, but other settings of Patreon are: set all of "
        "them or none (docs/patreon.md)"
    )


@pytest.mark.usefixtures("_needed")
def test_a_service_with_all_of_patreons_settings_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As does a service without any of them."""
    for name, value in PATREON.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()

    assert settings.require_for_service() is settings


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - what is tested
@pytest.mark.usefixtures("_needed")
def test_a_service_on_every_address_has_to_be_told_its_own(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """No browser reaches it by `http://0.0.0.0`."""
    monkeypatch.setenv("SPONSORSYNC_HOST", host)

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_PUBLIC_URL is not set"):
        load_settings().require_for_service()


@pytest.mark.usefixtures("_needed")
def test_a_list_of_commas_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service for no sponsorable would tell everybody no."""
    monkeypatch.setenv("SPONSORSYNC_SPONSORABLES", " , ")

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_SPONSORABLES is not set"):
        load_settings().require_for_service()


# --- secrets --------------------------------------------------------------------------------------


def test_settings_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody will, and a traceback does."""
    monkeypatch.setenv("SPONSORSYNC_REDIS_URL", f"redis://:{PASSWORD}@localhost")
    monkeypatch.setenv("SPONSORSYNC_DURABLE_URL", f"rediss://user:{PASSWORD}@durable")
    monkeypatch.setenv("SPONSORSYNC_SESSION_SECRET", f"{PASSWORD}-{PASSWORD}")
    monkeypatch.setenv("SPONSORSYNC_ADMIN_TOKEN", PASSWORD)
    monkeypatch.setenv("SPONSORSYNC_WEBHOOK_SECRET", PASSWORD)
    monkeypatch.setenv("SPONSORSYNC_MAINTAINER_TOKEN", PASSWORD)
    monkeypatch.setenv("SPONSORSYNC_PATREON_SECRET", PASSWORD)
    monkeypatch.setenv("GITHUB_SECRET", PASSWORD)
    monkeypatch.setenv("REDISENT_PWD", PASSWORD)
    monkeypatch.setenv("REDISENT_HOST", "durable")
    settings = load_settings()

    printed = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"

    assert PASSWORD not in printed
    assert PASSWORD not in repr(settings.durable_address)


@pytest.mark.parametrize("variable", ["SPONSORSYNC_REDIS_URL", "SPONSORSYNC_DURABLE_URL"])
@pytest.mark.parametrize(
    "address",
    [
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
    ],
)
def test_a_malformed_address_does_not_tell_its_password(
    monkeypatch: pytest.MonkeyPatch, variable: str, address: str
) -> None:
    """The line stands in the log of whoever starts the service."""
    monkeypatch.setenv(variable, address)

    with pytest.raises(SettingsError, match=f"^{variable}: ") as caught:
        load_settings()

    assert PASSWORD not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_error_of_the_library_below_tells_no_value_either() -> None:
    """Who makes settings without `load_settings` sees it."""
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"redis_url": PASSWORD, "session_secret": PASSWORD})

    assert PASSWORD not in str(caught.value)


def test_a_session_secret_that_is_too_short_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be part of the right one."""
    monkeypatch.setenv("SPONSORSYNC_SESSION_SECRET", PASSWORD)

    with pytest.raises(SettingsError, match=r"^SPONSORSYNC_SESSION_SECRET: ") as caught:
        load_settings()

    assert PASSWORD not in str(caught.value)
