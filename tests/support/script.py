"""A transport with answers of a test's own, in front of a simulation."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx


@dataclass
class Script(httpx.AsyncBaseTransport):
    """A way to another service that has some answers ready, and after them leads there.

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
