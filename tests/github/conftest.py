"""What the tests of our side of GitHub share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.script import Script

if TYPE_CHECKING:
    from sponsorsync.sandbox.github import SimulatedGitHub


@pytest.fixture
def way(github: SimulatedGitHub) -> Script:
    """The way to the simulated GitHub."""
    return Script(httpx.ASGITransport(github.app))
