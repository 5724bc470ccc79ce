"""The diagnostics of `sponsorsync doctor`."""

from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.commands.doctor import examine
from sponsorsync.diagnostics import Diagnostic, Level, print_diagnostics
from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.settings import Settings, variable_of
from tests.conftest import UNREACHABLE
from tests.support.tls import make_certificate, run_tls


async def _examine(settings: Settings, **changes: SecretStr) -> list[Diagnostic]:
    return await examine(settings.model_copy(update=changes))


def _find(diagnostics: list[Diagnostic], subject: str, word: str) -> Diagnostic:
    [found] = [f for f in diagnostics if f.subject == subject and word in f.seen]
    return found


async def test_two_good_servers_have_no_errors(
    settings: Settings, local: Redis, durable_url: SecretStr
) -> None:
    """The two servers have 14 diagnostics, such as their version, clock and persistence."""
    await local.config_set("notify-keyspace-events", "Ems")

    diagnostics = await _examine(settings, durable_url=durable_url)

    assert [f for f in diagnostics if f.level is Level.ERROR] == []
    servers = [f for f in diagnostics if f.subject.endswith("Redis")]
    assert len(servers) == 14
    assert any("Valkey 9" in f.seen for f in servers)


async def test_a_risk_of_data_loss_is_an_error_with_advice(
    settings: Settings, local: Redis, durable: Redis, durable_url: SecretStr
) -> None:
    """Local may evict any key and sends no notifications; durable writes no file."""
    await local.config_set("maxmemory-policy", "allkeys-lru")
    await local.config_set("notify-keyspace-events", "")
    await durable.config_set("appendonly", "no")
    try:
        diagnostics = await _examine(settings, durable_url=durable_url)
    finally:
        await local.config_set("maxmemory-policy", "noeviction")
        await durable.config_set("appendonly", "yes")

    eviction = _find(diagnostics, "local Redis", "maxmemory-policy is allkeys-lru")
    persistence = _find(diagnostics, "durable Redis", "has no append-only file")
    notifications = _find(diagnostics, "local Redis", "lacks notification flags")
    assert (eviction.level, persistence.level) == (Level.ERROR, Level.ERROR)
    assert notifications.level is Level.WARNING
    assert "CONFIG SET notify-keyspace-events Ems" in notifications.advice


@pytest.mark.parametrize(
    ("address", "seen", "advice"),
    [
        ("rediss://127.0.0.1:{port}", "an authority that is not trusted", "REDISENT_CA"),
        ("rediss://localhost:{port}?ssl_ca_certs={file}", "for another name", "the certificate is"),
        ("rediss://127.0.0.1:{port}?ssl_ca_certs=/none", "a file that its address", "the path"),
        ("redis://nowhere.invalid:1", "its host name is unknown", "correct its address"),
        ("redis://127.0.0.1:1", "nothing listens at its address", "127.0.0.1:1"),
        ("redis://someone:wrong@127.0.0.1:{plain}", "our user or password", "user or password"),
    ],
)
async def test_a_server_that_does_not_answer_is_explained(
    address: str,
    seen: str,
    advice: str,
    settings: Settings,
    durable_server: EmbeddedValkey,
    tmp_path: Path,
) -> None:
    """All of them were 'cannot be reached', with the advice to check the password."""
    certificate = make_certificate(tmp_path)
    async with run_tls(durable_server.port, certificate) as port:
        url = address.format(port=port, file=certificate, plain=durable_server.port)
        diagnostics = await _examine(settings, durable_url=SecretStr(url))

    [error] = [each for each in diagnostics if each.subject == "durable Redis"]
    assert error.level is Level.ERROR
    assert seen in error.seen
    assert advice in error.seen + error.advice
    assert "wrong" not in error.seen


async def test_a_server_that_is_away_is_an_error(settings: Settings) -> None:
    """The checks of the other server run all the same."""
    diagnostics = await _examine(settings, durable_url=UNREACHABLE)

    away = _find(diagnostics, "durable Redis", "cannot be reached")
    assert away.level is Level.ERROR
    assert any(f.subject == "local Redis" for f in diagnostics)


@pytest.mark.parametrize(
    ("field", "word"),
    [
        ("durable_url", "nothing outlives the local one"),
        ("webhook_secret", "GitHub's webhook"),
        ("maintainer_token", "nothing compares with GitHub"),
    ],
)
async def test_missing_settings_are_warnings(settings: Settings, field: str, word: str) -> None:
    """The advice says what does not work without the setting."""
    unset = await _examine(settings)
    configured = await _examine(settings, **{field: UNREACHABLE})

    hint = _find(unset, variable_of(field), "is not set")
    assert (hint.level, word in hint.advice) == (Level.WARNING, True)
    assert [f.seen for f in configured if f.subject == variable_of(field)] == ["set (not shown)"]


async def test_secrets_are_not_shown(settings: Settings) -> None:
    """People paste the output of the doctor into issues."""
    diagnostics = await _examine(settings, durable_url=SecretStr("redis://:hunter2@127.0.0.1:1/0"))

    assert "hunter2" not in str(diagnostics)
    assert _find(diagnostics, "SPONSORSYNC_DURABLE_URL", "set").seen == "set (not shown)"


async def test_every_setting_is_listed_and_no_secret_is_shown(settings: Settings) -> None:
    """All fields of Settings are tried, so a new secret is included."""
    secrets = {
        name: SecretStr("hunter2-" * 4)
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation) and not name.endswith("_url")
    }

    diagnostics = await _examine(settings, **secrets)

    assert {variable_of(name) for name in Settings.model_fields} <= {f.subject for f in diagnostics}
    assert "SPONSORSYNC_PATREON_SECRET" in {variable_of(name) for name in secrets}
    assert "hunter2" not in str(diagnostics)


async def test_long_names_are_whole(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe has 80 columns; a shortened name could be that of another setting."""
    print_diagnostics(await _examine(settings))

    words = capsys.readouterr().out.split()
    assert {variable_of(name) for name in Settings.model_fields} <= set(words)
