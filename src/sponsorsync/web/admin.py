"""For whoever runs the service: copying, comparing, merging. Needs the administrator's token."""

from __future__ import annotations

import hmac
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from sponsorsync.domain.errors import (
    AdminForbiddenError,
    AdminTokenMissingError,
    InvalidInputError,
    StoreError,
)
from sponsorsync.operations.registrations import RegistrationsReport
from sponsorsync.web.dependencies import ServicesDep
from sponsorsync.web.errors import describe_responses
from sponsorsync.web.schemas import (
    AnonymousImportRequest,
    AnonymousImportResult,
    AuditEntryOut,
    AuditPage,
    LastComparisonOut,
    ReconcileJob,
    SnapshotJob,
    SnapshotRequest,
    VerifyJob,
)
from sponsorsync.web.services import Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sponsorsync.domain.audit import AuditEntry
    from sponsorsync.operations.jobs import Job

_bearer = HTTPBearer(
    scheme_name="admin_token", description="SPONSORSYNC_ADMIN_TOKEN", auto_error=False
)
_ACCEPTED = 202
_EXPORT_PAGE = 1000


async def require_admin(
    services: ServicesDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> None:
    """Lets only the bearer of the administrator's token through.

    Raises:
        AdminForbiddenError: It is another token, or none is configured.
        AdminTokenMissingError: The request carries none.
    """
    if services.admin_token is None:
        raise AdminForbiddenError(
            "There is no administration over HTTP here: SPONSORSYNC_ADMIN_TOKEN is not set."
        )
    if credentials is None:
        raise AdminTokenMissingError
    wanted = services.admin_token.get_secret_value().encode()
    # As bytes: compare_digest takes no text beyond ASCII.
    if not hmac.compare_digest(credentials.credentials.encode(), wanted):
        raise AdminForbiddenError("That is not the administrator's token.")


router = APIRouter(
    prefix="/admin",
    tags=["administration"],
    dependencies=[Depends(require_admin)],
    responses=describe_responses(401, 403),
)

Collection = Annotated[
    str | None, Query(examples=["mnodes"], description="Only this collection, of who is entitled.")
]


@router.post(
    "/snapshot",
    status_code=_ACCEPTED,
    summary="Copy everybody to the durable side",
    responses=describe_responses(409),
)
async def start_snapshot(
    services: ServicesDep,
    request: SnapshotRequest | None = None,
    collection: Collection = None,
    dry_run: bool = False,
) -> SnapshotJob:
    """Starts in the background, one at a time; repeating it is safe. `GET` tells how far it is.

    The scripts inside local always copy everything: they take neither a collection nor a dry run.
    """
    if request is not None and request.engine == "gears":
        if collection is not None or dry_run:
            raise InvalidInputError("The scripts copy everything: no collection, no dry run.")
        return SnapshotJob.model_validate(services.jobs.start_scripts_snapshot())
    return SnapshotJob.model_validate(
        services.jobs.start_snapshot(collection=collection, dry_run=dry_run)
    )


@router.get("/snapshot", summary="How far is the copy?")
async def get_snapshot(services: ServicesDep) -> SnapshotJob:
    """Returns the state of the last one that this process started."""
    return SnapshotJob.model_validate(services.jobs.find("snapshot"))


@router.post(
    "/verify",
    status_code=_ACCEPTED,
    summary="Compare both sides",
    responses=describe_responses(409),
)
async def start_verify(services: ServicesDep, fix: bool = False) -> VerifyJob:
    """Starts in the background, one at a time; with `fix` it mends, and compares once more."""
    return VerifyJob.model_validate(services.jobs.start_verify(fix=fix))


@router.get("/verify", summary="How far is the comparison?")
async def get_verify(services: ServicesDep) -> VerifyJob:
    """Returns the state of the last one that this process started."""
    return VerifyJob.model_validate(services.jobs.find("verify"))


@router.post(
    "/reconcile",
    status_code=_ACCEPTED,
    summary="Compare with GitHub, and repair",
    responses=describe_responses(409),
)
async def start_reconcile(
    services: ServicesDep, sponsorable: str | None = None, dry_run: bool = False
) -> ReconcileJob:
    """Starts in the background, one at a time over all replicas; a dry run only reports."""
    return await _describe_reconcile(
        services, services.jobs.start_reconcile(sponsorable=sponsorable, dry_run=dry_run)
    )


@router.get("/reconcile", summary="How far is the comparison with GitHub?")
async def get_reconcile(services: ServicesDep) -> ReconcileJob:
    """Returns the state of the last one that was started here, and what became of any others."""
    return await _describe_reconcile(services, services.jobs.find("reconcile"))


@router.get(
    "/audit",
    summary="Who gained, changed or lost an entitlement, by what?",
    responses=describe_responses(409, 503),
)
async def get_audit(
    services: ServicesDep,
    before: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,15}-[0-9]{1,15}$", description="See `next_before`.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditPage:
    """Returns a page, the latest entries first."""
    entries = await services.audit.load(before=before, limit=limit)
    next_before = entries[-1].number if len(entries) == limit else None
    return AuditPage.model_validate({"entries": entries, "next_before": next_before})


@router.get(
    "/audit/export",
    summary="The whole audit trail",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One entry a line, as JSON, the latest first. Where Redis is lost in "
            'the middle, the last line is `{"incomplete": why}`, and the connection breaks.',
            "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
        },
        **describe_responses(409, 503),
    },
)
async def export_audit(services: ServicesDep) -> StreamingResponse:
    """Returns every entry that is still kept, as lines of JSON to be filed away."""
    first = await services.audit.load(before=None, limit=_EXPORT_PAGE)
    return StreamingResponse(
        _export(services, first),
        media_type="application/x-ndjson",
        headers={"Content-Disposition": 'attachment; filename="audit.ndjson"'},
    )


async def _export(services: Services, page: Sequence[AuditEntry]) -> AsyncIterator[str]:
    while page:
        for entry in page:
            yield AuditEntryOut.model_validate(entry).model_dump_json() + "\n"
        try:
            page = await services.audit.load(before=page[-1].number, limit=_EXPORT_PAGE)
        except StoreError as error:
            # The status was sent. The connection is broken, too: but a proxy that speaks HTTP/1.0
            # to us takes any end for the right one, and who keeps the file sees only that.
            yield json.dumps({"incomplete": f"{error} What is older is not here: export again."})
            yield "\n"
            raise


@router.get(
    "/registrations",
    summary="What runs inside the local Redis?",
    responses=describe_responses(502, 503),
)
async def get_registrations(services: ServicesDep) -> RegistrationsReport:
    """Returns the scripts, what they have registered, and what the last deploy did."""
    return await services.registrations.load()


@router.post(
    "/people/{person_id}/merge",
    summary="Give a visitor's preferences to a person",
    responses=describe_responses(404, 409, 413, 503),
)
async def import_anonymous(
    person_id: Annotated[int, Path(ge=1, description="GitHub's number of the person.")],
    request: AnonymousImportRequest,
    services: ServicesDep,
) -> AnonymousImportResult:
    """Adds what an anonymous visitor of the application chose; the visitor's own data stay.

    Repeating it adds nothing more.
    """
    given = await services.visitors.merge(person_id, request.visitor)
    return AnonymousImportResult(id=person_id, collections=given)


async def _describe_reconcile(services: Services, job: Job) -> ReconcileJob:
    answer = ReconcileJob.model_validate(job)
    with suppress(StoreError):  # how far the job is can be told all the same
        comparisons = await services.comparisons.load_last_reconciles()
        answer.last = [LastComparisonOut.model_validate(each) for each in comparisons]
    return answer
