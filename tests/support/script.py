"""A transport with prepared answers, in front of a simulation."""

from dataclasses import dataclass, field

import httpx


@dataclass
class Script(httpx.AsyncBaseTransport):
    """A transport that gives prepared answers first, and then forwards to another one.

    Attributes:
        rest: The transport after the prepared answers.
        answers: One for each request; an exception is raised.
        requests: All requests.
    """

    rest: httpx.AsyncBaseTransport
    answers: list[httpx.Response | Exception] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)

    def answer(self, *answers: httpx.Response | Exception) -> None:
        """Prepares answers for the next requests."""
        self.answers += answers

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answers one request."""
        self.requests.append(request)
        if not self.answers:
            return await self.rest.handle_async_request(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer
