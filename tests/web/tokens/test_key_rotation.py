"""Tokens after a rotation of their keys."""

from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from sponsorsync.background import open_supervisor
from sponsorsync.settings import Settings
from sponsorsync.tokens import issuer as issuer_module
from sponsorsync.tokens.issuer import TokenIssuer, open_tokens, reload_keys
from sponsorsync.tokens.keyring import load_keyring, rotate_keys
from tests.conftest import Clock, RunService
from tests.support.issued_tokens import AUDIENCE, MONTHLY, create_claims, fetch_bearer, sign_claims
from tests.support.waiting import until


@asynccontextmanager
async def _run_issuer(
    settings: Settings, clock: Clock, *, reload_s: float = 60
) -> AsyncIterator[tuple[TokenIssuer, Settings]]:
    """Yields an issuer that reloads its keys from their file, and its settings."""
    of_tokens = settings.model_copy(update={"token_audience": AUDIENCE})
    async with open_supervisor() as supervisor:
        tokens = await open_tokens(
            supervisor, of_tokens, life=timedelta(hours=1), clock=clock, reload_s=reload_s
        )
        assert tokens is not None
        yield tokens, of_tokens


async def test_tokens_outlive_the_rotation_of_their_key(settings: Settings, clock: Clock) -> None:
    """The old key stays listed until the tokens that it signed have expired."""
    async with _run_issuer(settings, clock) as (tokens, of_tokens):
        claims = create_claims(clock) | {"exp": int(clock().timestamp()) + 10**6}
        old = sign_claims(claims, tokens)
        rotate_keys(of_tokens, now=clock(), retire_old=False)
        await reload_keys(tokens, of_tokens)
        shown = len(tokens.list_public_keys(now=clock()))
        rotated = tokens.read(old, now=clock())
        clock.advance(minutes=71)
        retired = tokens.read(old, now=clock())
        still_shown = len(tokens.list_public_keys(now=clock()))
        new = tokens.read(sign_claims(claims, tokens, key=1), now=clock())

    assert (shown, rotated) == (2, MONTHLY)
    assert (still_shown, retired, new) == (1, None, MONTHLY)


async def test_a_key_that_leaked_ends_its_tokens_at_once(settings: Settings, clock: Clock) -> None:
    """The old key is retired, so its tokens end when the service reloads the file."""
    async with _run_issuer(settings, clock) as (tokens, of_tokens):
        old = sign_claims(create_claims(clock), tokens)
        rotate_keys(of_tokens, now=clock(), retire_old=True)
        await reload_keys(tokens, of_tokens)
        read = tokens.read(old, now=clock())

    assert read is None


async def test_an_unexpected_error_does_not_end_the_reloading(
    settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reload fails; a later rotation still has effect without a restart."""
    with capture_logs() as logs:
        async with _run_issuer(settings, clock, reload_s=0.01) as (tokens, of_tokens):
            with monkeypatch.context() as patch:
                patch.setattr(issuer_module, "load_keyring", lambda _: 1 / 0)
                await until(lambda: _logs(logs, "loop_failed"))
            rotate_keys(of_tokens, now=clock(), retire_old=False)
            await until(lambda: _shows(tokens, 2, clock))


async def test_an_unreadable_file_of_keys_changes_nothing(settings: Settings, clock: Clock) -> None:
    """The service continues with the loaded keys, and logs the error."""
    async with _run_issuer(settings, clock) as (tokens, of_tokens):
        token = sign_claims(create_claims(clock), tokens)
        (settings.data_dir / "token_keys.json").write_text("")
        await reload_keys(tokens, of_tokens)
        read = tokens.read(token, now=clock())

    assert read == MONTHLY


async def test_replicas_with_the_same_file_accept_each_others_tokens(
    run_service: RunService, settings: Settings, clock: Clock
) -> None:
    """Both replicas load the same keys, so either accepts a token of the other."""
    path = settings.data_dir / "shared" / "keys.json"
    shared = settings.model_copy(update={"token_keys_file": path})
    rotate_keys(shared, now=clock(), retire_old=False)
    options = {"token_audience": AUDIENCE, "token_keys_file": path}
    async with run_service(**options) as one, run_service(**options) as other:
        browser, program = await one.open_browser(), await other.open_browser()
        await browser.sign_in("monthly")
        answer = await program.get("/me", headers=await fetch_bearer(browser))

    assert answer.status_code == 200
    assert len(load_keyring(shared).keys) == 1


async def _logs(logs: Sequence[MutableMapping[str, Any]], event: str) -> bool:
    return event in [entry["event"] for entry in logs]


async def _shows(tokens: TokenIssuer, count: int, clock: Clock) -> bool:
    return len(tokens.list_public_keys(now=clock())) == count
