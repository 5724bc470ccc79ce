"""The sources of settings (defaults, files, environment, overrides), and parsed values."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from sponsorsync.domain.errors import SettingsError
from sponsorsync.settings import load_settings


def test_without_any_setting_there_are_defaults() -> None:
    """The defaults suit a developer's machine."""
    settings = load_settings()

    assert settings.origin == "http://127.0.0.1:8000"
    assert settings.github_api_url == "https://api.github.com"
    assert settings.collections == ("mnodes",)
    assert settings.durable_address is None


def test_both_files_are_read(tmp_path: Path) -> None:
    """`.env` and `.env.gears` are read; the second one has the address of durable."""
    (tmp_path / ".env").write_text("GITHUB_CLIENT_ID=abc\nSPONSORSYNC_PORT='9000'\n# a comment\n")
    (tmp_path / ".env.gears").write_text("REDISENT_HOST=durable.example\nREDISENT_PORT=12000\n")

    settings = load_settings()

    assert settings.github_client_id == "abc"
    assert settings.port == 9000
    assert settings.durable_address == SecretStr("redis://durable.example:12000/0")


def test_the_environment_wins_over_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of one run overrides the files."""
    (tmp_path / ".env").write_text("SPONSORSYNC_PORT=9000\nGITHUB_SECRET=of-the-file\n")
    monkeypatch.setenv("SPONSORSYNC_PORT", "9001")
    monkeypatch.setenv("GITHUB_SECRET", "of-the-environment")

    settings = load_settings()

    assert settings.port == 9001
    assert settings.github_secret == SecretStr("of-the-environment")


def test_overrides_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options of the command line are overrides."""
    monkeypatch.setenv("SPONSORSYNC_PORT", "9001")

    assert load_settings({"port": 9002}).port == 9002


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """`PORT=${PORT}` in a compose file sets empty variables."""
    monkeypatch.setenv("SPONSORSYNC_PORT", "")
    monkeypatch.setenv("SPONSORSYNC_REDIS_URL", "")

    settings = load_settings()

    assert (settings.port, settings.redis_url) == (8000, None)


def test_other_variables_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application may use the same `.env` for its own variables."""
    (tmp_path / ".env").write_text("SOMETHING_ELSE=1\nSPONSORSYNC_UNKNOWN=1\n")
    monkeypatch.setenv("PORT", "9001")

    assert load_settings().port == 8000


def test_a_file_that_is_not_utf_8_is_refused_in_one_line(tmp_path: Path) -> None:
    """An editor on Windows may save another encoding."""
    (tmp_path / ".env").write_bytes("GITHUB_SECRET=geheim\n# für uns\n".encode("latin-1"))

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert str(caught.value).startswith(".env")
    assert "UTF-8" in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_settings_are_immutable() -> None:
    """All parts of the service share one Settings object."""
    settings = load_settings()

    with pytest.raises(ValidationError):
        settings.port = 9000


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces, a comma at the end and the letter case of logins do not matter."""
    monkeypatch.setenv("SPONSORSYNC_SPONSORABLES", " Maintainer, The-Project ,")
    monkeypatch.setenv("SPONSORSYNC_ALLOWED_ORIGINS", "https://A.example/,http://localhost:3000")
    monkeypatch.setenv("SPONSORSYNC_COLLECTIONS", "mnodes,favourites")
    monkeypatch.setenv("SPONSORSYNC_TRUSTED_PROXIES", "127.0.0.1, ::1, 10.0.0.0/8,")

    settings = load_settings()

    assert settings.sponsorables == ("maintainer", "the-project")
    assert settings.allowed_origins == ("https://a.example", "http://localhost:3000")
    assert settings.collections == ("mnodes", "favourites")
    assert [str(each) for each in settings.trusted_proxies] == [
        "127.0.0.1/32",
        "::1/128",
        "10.0.0.0/8",
    ]


# The parsed values by variable and field. The public address is compared with the header
# Origin; by default host and port make it. API addresses may have a path. redis-py parses its own.
PARSED: dict[tuple[str, str], dict[str, object]] = {
    ("SPONSORSYNC_PUBLIC_URL", "origin"): {
        "https://Sponsors.Example.org": "https://sponsors.example.org",
        "https://sponsors.example.org/": "https://sponsors.example.org",
        "http://localhost:8000": "http://localhost:8000",
        "http://[::1]:8000": "http://[::1]:8000",
        "https://sponsors.example.org:443": "https://sponsors.example.org",
        "http://sponsors.example.org:80": "http://sponsors.example.org",
        "https://sponsors.example.org:80": "https://sponsors.example.org:80",
        "https://sponsors.example.org:": "https://sponsors.example.org",
    },
    ("SPONSORSYNC_HOST", "origin"): {
        "localhost": "http://localhost:8000",
        "::1": "http://[::1]:8000",
    },
    ("SPONSORSYNC_GITHUB_API_URL", "github_api_url"): {
        "https://github.example.org/api/v3/": "https://github.example.org/api/v3",
        "http://127.0.0.1:8001/api": "http://127.0.0.1:8001/api",
    },
    ("SPONSORSYNC_REDIS_URL", "redis_url"): {
        url: SecretStr(url)
        for url in (
            "redis://localhost",
            "redis://localhost:6379/0",
            "rediss://user:pass%2Fword@redis.example:12000/1",
            "redis://[::1]:6379",
            "rediss://localhost/0?ssl_ca_certs=%2Fetc%2Fca.pem&ssl_check_hostname=0",
            "unix:///run/redis.sock",
        )
    },
    # Without REDISENT_HOST there is no durable Redis.
    ("REDISENT_PWD", "durable_address"): {"correct-horse-battery-staple": None},
}


@pytest.mark.parametrize(
    ("variable", "field", "value", "parsed"),
    [(*names, *each) for names, values in PARSED.items() for each in values.items()],
)
def test_an_address_is_normalized_or_left_alone(
    monkeypatch: pytest.MonkeyPatch, variable: str, field: str, value: str, parsed: object
) -> None:
    """The comment at PARSED gives the reason for each variable."""
    monkeypatch.setenv(variable, value)

    assert getattr(load_settings(), field) == parsed


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"REDISENT_HOST": "h"}, "redis://h:6379/0"),
        ({"REDISENT_HOST": "h", "REDISENT_PWD": ""}, "redis://h:6379/0"),
        ({"REDISENT_HOST": "h", "REDISENT_PWD": "p"}, "redis://:p@h:6379/0"),
        (
            {"REDISENT_HOST": "h", "REDISENT_PORT": "12000", "REDISENT_PWD": "a/b:c@d%e?#é "},
            "redis://:a%2Fb%3Ac%40d%25e%3F%23%C3%A9%20@h:12000/0",
        ),
        ({"REDISENT_HOST": "::1", "REDISENT_PWD": "p"}, "redis://:p@[::1]:6379/0"),
        (
            {"REDISENT_HOST": "h", "REDISENT_USER": "a b", "REDISENT_PWD": "p"},
            "redis://a%20b:p@h:6379/0",
        ),
        ({"REDISENT_HOST": "h", "REDISENT_TLS": "1"}, "rediss://h:6379/0"),
        ({"REDISENT_HOST": "h", "REDISENT_TLS": "0"}, "redis://h:6379/0"),
        (
            {"REDISENT_HOST": "h", "REDISENT_CA": "/etc/ca & co.pem"},
            "rediss://h:6379/0?ssl_ca_certs=%2Fetc%2Fca+%26+co.pem",
        ),
        ({"REDISENT_HOST": "h", "SPONSORSYNC_DURABLE_URL": "redis://other"}, "redis://other"),
        ({"SPONSORSYNC_DURABLE_URL": "redis://other"}, "redis://other"),
    ],
)
def test_the_durable_redis_is_one_address_or_several_variables(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], address: str
) -> None:
    """A password may contain any character; SPONSORSYNC_DURABLE_URL wins over REDISENT_*."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert load_settings().durable_address == SecretStr(address)


def test_cookies_for_other_sites_need_https(monkeypatch: pytest.MonkeyPatch) -> None:
    """Browsers refuse SameSite=None without HTTPS."""
    monkeypatch.setenv("SPONSORSYNC_COOKIE_SAMESITE", "none")
    monkeypatch.setenv("SPONSORSYNC_PUBLIC_URL", "https://sponsors.example.org")

    assert load_settings().cookie_samesite == "none"


LIMITS = {
    "SPONSORSYNC_PORT": ["1", "65535"],
    "SPONSORSYNC_GITHUB_TIMEOUT_S": ["0.1", "60"],
    "REDISENT_PORT": ["1", "65535"],
    "SPONSORSYNC_REDIS_POOL_SIZE": ["1", "1000"],
    "SPONSORSYNC_GEARS_TIMEOUT_S": ["1", "3600"],
    "SPONSORSYNC_SESSION_SECRET": ["x" * 32],
    "SPONSORSYNC_SESSION_DAYS": ["1", "365"],
    "SPONSORSYNC_ADMIN_TOKEN": ["x" * 16],
    "SPONSORSYNC_TOKEN_MINUTES": ["1", "60"],
    "SPONSORSYNC_WEBHOOK_SECRET": ["x" * 16],
    "SPONSORSYNC_RECONCILE_HOURS": ["0", "720"],
    "SPONSORSYNC_RETENTION_DAYS": ["0", "36500"],
    "SPONSORSYNC_ONE_TIME_DAYS": ["1", "3660"],
    "SPONSORSYNC_GRACE_DAYS": ["0", "365"],
    "SPONSORSYNC_ORG_SEATS": ["1"],
    "SPONSORSYNC_ORG_MEMBER_DAYS": ["365"],
    "SPONSORSYNC_PATREON_CENTS": ["0"],
    "SPONSORSYNC_PATREON_CAMPAIGN": ["1", "1" * 20],
    "SPONSORSYNC_STALE_HOURS": ["0", "2160"],
    "SPONSORSYNC_MAX_ITEMS": ["1", "1000000"],
    "SPONSORSYNC_MAX_ITEM_BYTES": ["1", "4096"],
    "SPONSORSYNC_MAX_BATCH": ["1", "10000"],
}


@pytest.mark.parametrize(
    ("variable", "value"),
    [(variable, value) for variable, values in LIMITS.items() for value in values],
)
def test_limits_are_accepted(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """test_refusals.py has the first values beyond these limits."""
    monkeypatch.setenv(variable, value)

    load_settings()
