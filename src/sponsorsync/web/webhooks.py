"""GitHub's webhook."""

from typing import Annotated

from fastapi import APIRouter, Header, Request
from pydantic import Field

from sponsorsync.domain.errors import TooLargeError
from sponsorsync.domain.sponsorship_event import EventOutcome
from sponsorsync.web.dependencies import ServicesDep
from sponsorsync.web.errors import error_responses
from sponsorsync.web.schemas import Model

WEBHOOK_PATH = "/webhooks/github"

MAX_EVENT_BYTES = 256 * 1024
"""The largest body that is read, signed or not; a `sponsorship` event has some 5 KB."""

router = APIRouter(tags=["webhooks"])


class EventAnswer(Model):
    """The outcome of an event."""

    outcome: EventOutcome = Field(
        description="`reconcile_requested`: the event alone is not conclusive, so GitHub is asked."
    )


@router.post(
    WEBHOOK_PATH,
    status_code=202,
    summary="Receive an event of GitHub",
    responses=error_responses(400, 401, 404, 409, 413, 503),
)
async def receive_github_event(
    request: Request,
    services: ServicesDep,
    x_github_event: Annotated[str, Header()] = "",
    x_github_delivery: Annotated[str, Header()] = "",
    x_hub_signature_256: Annotated[str | None, Header()] = None,
) -> EventAnswer:
    """Checks the signature over the received bytes, and applies the event.

    An irrelevant event (of another kind, or about another account) gets 202 as well.
    """
    services.webhooks.require_secret()
    outcome = await services.webhooks.receive(
        await _read_body(request),
        event=x_github_event,
        delivery=x_github_delivery,
        signature=x_hub_signature_256,
    )
    return EventAnswer(outcome=outcome)


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_EVENT_BYTES:
            raise TooLargeError(f"An event may have {MAX_EVENT_BYTES} bytes at most.")
    return bytes(body)
