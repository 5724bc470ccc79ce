"""What the tests of our side of GitHub share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from sponsorsync.sandbox.github import SimulatedGitHub


@dataclass
class Script(httpx.AsyncBaseTransport):
    """A way to GitHub that has some answers ready, and after them leads there.

    Attributes:
        rest: Who answers when the answers are used up.
        answers: What comes instead, one for each request; an exception is raised.
        requests: What was asked.
    """

    rest: httpx.AsyncBaseTransport
    answers: list[httpx.Response | Exception] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)

    def answer(self, *answers: httpx.Response | Exception) -> None:
        """Has these ready for the next requests."""
        self.answers += answers

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answers."""
        self.requests.append(request)
        if not self.answers:
            return await self.rest.handle_async_request(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def way(github: SimulatedGitHub) -> Script:
    """The way to the simulated GitHub."""
    return Script(httpx.ASGITransport(github.app))
