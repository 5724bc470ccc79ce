"""Fixtures of the tests of our GitHub client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.script import Script

if TYPE_CHECKING:
    from sponsorsync.sandbox.github import SimulatedGitHub


@pytest.fixture
def way(github: SimulatedGitHub) -> Script:
    """A transport to the simulated GitHub that can be scripted."""
    return Script(httpx.ASGITransport(github.app))
