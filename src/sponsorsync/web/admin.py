"""Administrators' routes that copy, compare and import data, and the check of their token."""

import hmac
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field

from sponsorsync.domain.errors import (
    AdminForbiddenError,
    AdminTokenMissingError,
    InvalidInputError,
    StoreError,
)
from sponsorsync.gears.batch import BatchSummary
from sponsorsync.operations.jobs import Job
from sponsorsync.operations.registrations import RegistrationsReport
from sponsorsync.reconcile.report import ReconcileSummary
from sponsorsync.sync.snapshot import SnapshotSummary
from sponsorsync.sync.verify import VerifySummary
from sponsorsync.web.dependencies import ServicesDep
from sponsorsync.web.errors import error_responses
from sponsorsync.web.schemas import FromAttributes, Model, nested_field
from sponsorsync.web.services import Services

_bearer = HTTPBearer(
    scheme_name="admin_token", description="SPONSORSYNC_ADMIN_TOKEN", auto_error=False
)


async def require_admin(
    services: ServicesDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> None:
    """Refuses a request without the administrator's token.

    Raises:
        AdminForbiddenError: The token is a different one, or none is configured.
        AdminTokenMissingError: The request carries no token.
    """
    if services.admin_token is None:
        raise AdminForbiddenError(
            "There is no administration over HTTP here: SPONSORSYNC_ADMIN_TOKEN is not set."
        )
    if credentials is None:
        raise AdminTokenMissingError
    wanted = services.admin_token.get_secret_value().encode()
    # As bytes, because compare_digest accepts only ASCII text.
    if not hmac.compare_digest(credentials.credentials.encode(), wanted):
        raise AdminForbiddenError("That is not the administrator's token.")


def create_admin_router() -> APIRouter:
    """Returns a router for `/admin/…`; each of its routes needs the administrator's token."""
    return APIRouter(
        prefix="/admin",
        tags=["administration"],
        dependencies=[Depends(require_admin)],
        responses=error_responses(401, 403),
    )


router = create_admin_router()


class _Job(FromAttributes):
    status: Literal["idle", "running", "done", "failed"]
    started_at: datetime | None
    ended_at: datetime | None
    total: int = Field(description="People in the index at the start; 0 for the scripts.")
    people: int = Field(description="People processed so far; 0 for the scripts.")
    reason: str | None = Field(description="Why it failed.")


class SnapshotRequest(Model):
    """The engine that copies all people to the durable Redis.

    `plain` is the service itself, `gears` the RedisGears scripts inside the local Redis.
    """

    engine: Literal["plain", "gears"] = "plain"


class SnapshotJob(_Job):
    """The last snapshot that this process started."""

    summary: SnapshotSummary | BatchSummary | None


class VerifyJob(_Job):
    """The last comparison of the local with the durable Redis that this process started."""

    summary: VerifySummary | None


class LastReconcileOut(FromAttributes):
    """The last comparison of a sponsorable's sponsorships with GitHub, by any replica."""

    sponsorable: str
    reconciled_at: datetime | None = Field(description="Start of the last complete comparison.")
    failed_at: datetime | None = nested_field("failed.at", "Time of the last failure since then.")
    reason: str | None = nested_field("failed.reason", "Why that one failed.")


class ReconcileJob(_Job):
    """The last comparison with GitHub that this process started; `last` is about all replicas."""

    last: list[LastReconcileOut] | None = Field(
        default=None,
        description="By sponsorable, scheduled ones included; null while Redis cannot be reached.",
    )
    waiting_until: datetime | None = Field(
        description="While it waits for GitHub's rate limit: when it continues."
    )
    summary: ReconcileSummary | None


class AnonymousImportRequest(Model):
    """The anonymous visitor whose preferences are imported."""

    visitor: int = Field(alias="from", ge=1, description="The visitor's n in `user:{n}`.")


class AnonymousImportResult(Model):
    """The number of imported items by collection, including those that the person already had."""

    id: int
    collections: dict[str, int] = Field(examples=[{"mnodes": 12}])


Collection = Annotated[
    str | None,
    Query(examples=["mnodes"], description="Copies this collection only, of entitled people."),
]


@router.post(
    "/snapshot",
    status_code=202,
    summary="Copy all people to the durable Redis",
    responses=error_responses(409),
)
async def start_snapshot(
    services: ServicesDep,
    request: SnapshotRequest | None = None,
    collection: Collection = None,
    dry_run: bool = False,
) -> SnapshotJob:
    """Starts a copy of all people in the background, one at a time; repeating it is safe.

    The engine `gears` always copies everything: it refuses `collection` and `dry_run`.
    """
    if request is not None and request.engine == "gears":
        if collection is not None or dry_run:
            raise InvalidInputError(
                "The scripts copy everything: leave out `collection` and `dry_run`."
            )
        return SnapshotJob.model_validate(services.jobs.start_scripts_snapshot())
    return SnapshotJob.model_validate(
        services.jobs.start_snapshot(collection=collection, dry_run=dry_run)
    )


@router.get("/snapshot", summary="Show the progress of the snapshot")
async def get_snapshot(services: ServicesDep) -> SnapshotJob:
    """Returns the state of the last snapshot that this process started."""
    return SnapshotJob.model_validate(services.jobs.find("snapshot"))


@router.post(
    "/verify",
    status_code=202,
    summary="Compare the local with the durable Redis",
    responses=error_responses(409),
)
async def start_verify(services: ServicesDep, fix: bool = False) -> VerifyJob:
    """Starts a comparison in the background, one at a time.

    `fix` repairs each difference, then compares everything again.
    """
    return VerifyJob.model_validate(services.jobs.start_verify(fix=fix))


@router.get("/verify", summary="Show the progress of the comparison")
async def get_verify(services: ServicesDep) -> VerifyJob:
    """Returns the state of the last comparison that this process started."""
    return VerifyJob.model_validate(services.jobs.find("verify"))


@router.post(
    "/reconcile",
    status_code=202,
    summary="Compare the sponsorships with GitHub, and repair them",
    responses=error_responses(409),
)
async def start_reconcile(
    services: ServicesDep, sponsorable: str | None = None, dry_run: bool = False
) -> ReconcileJob:
    """Starts a comparison in the background, one at a time over all replicas.

    A dry run changes nothing and only reports the differences.
    """
    job = services.jobs.start_reconcile(sponsorable=sponsorable, dry_run=dry_run)
    return await _load_reconcile_job(services, job)


@router.get("/reconcile", summary="Show the progress of the comparison with GitHub")
async def get_reconcile(services: ServicesDep) -> ReconcileJob:
    """Returns the state of the last comparison that this process started.

    `last` has the last comparisons of all replicas, by sponsorable.
    """
    return await _load_reconcile_job(services, services.jobs.find("reconcile"))


@router.get(
    "/registrations",
    summary="List the scripts inside the local Redis",
    responses=error_responses(502, 503),
)
async def get_registrations(services: ServicesDep) -> RegistrationsReport:
    """Returns the scripts, their registrations, and the result of the last deploy."""
    return await services.registrations.load()


@router.post(
    "/people/{person_id}/import-anonymous",
    summary="Import an anonymous visitor's preferences",
    responses=error_responses(404, 409, 413, 503),
)
async def import_anonymous(
    person_id: Annotated[int, Path(ge=1, description="GitHub's number of the person.")],
    request: AnonymousImportRequest,
    services: ServicesDep,
) -> AnonymousImportResult:
    """Adds the preferences of an anonymous visitor of the application to those of a person.

    The visitor's own data are not changed. Repeating the call adds nothing more.
    """
    counts = await services.anonymous_import.run(person_id, request.visitor)
    return AnonymousImportResult(id=person_id, collections=counts)


async def _load_reconcile_job(services: Services, job: Job) -> ReconcileJob:
    answer = ReconcileJob.model_validate(job)
    with suppress(StoreError):  # the job, which is in memory, is answered even then
        reconciles = await services.reconciler.load_last_reconciles()
        answer.last = [LastReconcileOut.model_validate(each) for each in reconciles]
    return answer
