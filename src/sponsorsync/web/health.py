"""Health, readiness and metrics, for operators."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import Field

from sponsorsync import __version__
from sponsorsync.background import LoopState
from sponsorsync.domain.errors import StoreError
from sponsorsync.operations.registrations import ScriptsStatus
from sponsorsync.store.connect import RedisStore
from sponsorsync.web.dependencies import ServicesDep
from sponsorsync.web.schemas import Model

router = APIRouter(tags=["operations"])

_PING_TIMEOUT_S = 1.0
_NOT_READY = 503


class Health(Model):
    """The answer of a running process."""

    status: Literal["ok"] = "ok"
    version: str


class StoreHealth(Model):
    """State of one Redis."""

    status: Literal["ok", "unavailable", "not_configured"]
    detail: str | None = None


class GearsHealth(Model):
    """State of the RedisGears scripts in the local Redis; the service can do their work."""

    status: ScriptsStatus
    detail: str | None = None


class Readiness(Model):
    """Whether requests can be served: `ready` if the local Redis can be reached."""

    status: Literal["ready", "not_ready"]
    local: StoreHealth
    durable: StoreHealth
    gears: GearsHealth
    loops: list[LoopState] = Field(description="The background loops; a failed loop is restarted.")


@router.get("/healthz", summary="Check that the process runs")
async def get_health() -> Health:
    """Answers as long as the process runs; checks no server."""
    return Health(version=__version__)


@router.get(
    "/readyz",
    summary="Check that requests can be served",
    responses={
        _NOT_READY: {"model": Readiness, "description": "The local Redis cannot be reached"}
    },
)
async def get_readiness(services: ServicesDep, response: Response) -> Readiness:
    """Answers 503 without the local Redis; the durable one, scripts and loops are only reported."""
    local, durable = await asyncio.gather(_check(services.local), _check(services.durable))
    if local.status != "ok":
        response.status_code = _NOT_READY
    gears = services.registrations
    return Readiness(
        status="ready" if local.status == "ok" else "not_ready",
        local=local,
        durable=durable,
        gears=GearsHealth(status=gears.status, detail=gears.detail),
        loops=services.supervisor.list_loops(),
    )


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format"}},
)
async def get_metrics(services: ServicesDep) -> Response:
    """Returns the metrics of people, Redises, relay, background loops and webhook events."""
    return Response(
        await services.metrics.render(services.webhooks.counts),
        media_type=services.metrics.content_type,
    )


async def _check(store: RedisStore | None) -> StoreHealth:
    if store is None:
        return StoreHealth(status="not_configured")
    try:
        async with asyncio.timeout(_PING_TIMEOUT_S):
            await store.check_writable()
    except StoreError as error:
        return StoreHealth(status="unavailable", detail=str(error))
    except TimeoutError:
        return StoreHealth(status="unavailable", detail="It did not answer within a second.")
    return StoreHealth(status="ok")
