"""An environment without any setting, and one with all required settings."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("SPONSORSYNC_", "GITHUB_", "REDISENT_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPONSORSYNC_REDIS_URL", "redis://localhost")
    monkeypatch.setenv("GITHUB_CLIENT_ID", "abc")
    monkeypatch.setenv("GITHUB_SECRET", "def")
    monkeypatch.setenv("SPONSORSYNC_SPONSORABLES", "maintainer")
