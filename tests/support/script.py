"""An HTTP transport that gives prepared answers in place of a simulated service."""

from dataclasses import dataclass, field

import httpx


@dataclass
class Script(httpx.AsyncBaseTransport):
    """A transport that first gives prepared answers, and then forwards to another transport.

    Attributes:
        rest: The transport for requests without a prepared answer.
        answers: The prepared answers, one for each request; one that is an exception is raised.
        requests: All requests so far.
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
