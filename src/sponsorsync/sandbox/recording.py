"""A record of the requests to the simulated GitHub and of their overlaps."""

import asyncio
from collections import deque
from dataclasses import dataclass
from itertools import count

from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sponsorsync.sandbox.switches import ENDPOINTS, Switches

RECORDS_KEPT = 10_000


@dataclass(frozen=True)
class RequestRecord:
    """One request that has ended.

    `began` and `ended` are ticks of one counter and not times, so that the order does not depend on
    the clock's resolution. `status` is 0 when the caller left before the answer.
    """

    endpoint: str
    path: str
    status: int
    began: int
    ended: int

    def overlaps(self, other: "RequestRecord") -> bool:
        """Returns whether both were under way at the same moment."""
        return self.began < other.ended and other.began < self.ended


class Requests:
    """The latest requests, without those of the control page."""

    def __init__(self) -> None:
        self.tick = count(1).__next__
        self.by_end: deque[RequestRecord] = deque(maxlen=RECORDS_KEPT)

    def all(self, *endpoints: str) -> list[RequestRecord]:
        """Returns the requests of these endpoints, or of all, in the order of arrival."""
        return sorted(self._chosen(endpoints), key=lambda record: record.began)

    def in_sequence(self, *endpoints: str) -> int:
        """Returns the length of the longest chain of requests that waited for one another.

        In a chain each request began after the one before had ended. Without arguments it counts
        the endpoints that the service calls, so not the browser's authorize page.
        """
        length = last_end = 0
        # `_chosen` is ordered by end: the next request that ends first allows the longest chain.
        for record in self._chosen(endpoints or ENDPOINTS):
            if record.began > last_end:
                length, last_end = length + 1, record.ended
        return length

    def clear(self) -> None:
        """Empties the record."""
        self.by_end.clear()

    def _chosen(self, endpoints: tuple[str, ...]) -> list[RequestRecord]:
        return [each for each in self.by_end if not endpoints or each.endpoint in endpoints]


@dataclass(frozen=True)
class RecordingMiddleware:
    """Records the requests of one endpoint, and applies the faults that ignore the content."""

    app: ASGIApp
    endpoint: str
    requests: Requests
    switches: Switches

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        began = self.requests.tick()
        status = 0

        async def recording_send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            # Even a wait of zero lets requests that were sent together begin together.
            await asyncio.sleep(self.switches.latency_ms / 1000)
            await self._answering_app()(scope, receive, recording_send)
        finally:
            ended = self.requests.tick()
            record = RequestRecord(self.endpoint, scope["path"], status, began, ended)
            self.requests.by_end.append(record)

    def _answering_app(self) -> ASGIApp:
        if self.endpoint in self.switches.fail:
            return HTMLResponse("<html><body><h1>502 Bad Gateway</h1></body></html>", 502)
        if self.endpoint in self.switches.bad_json:
            return Response('{"data": {"viewer": {"login": "mont', media_type="application/json")
        return self.app
