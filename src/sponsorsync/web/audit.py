"""The audit trail of entitlements, for administrators."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated

from fastapi import Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from sponsorsync.domain.audit import AuditEntry
from sponsorsync.domain.errors import StoreError
from sponsorsync.web.admin import create_admin_router
from sponsorsync.web.dependencies import ServicesDep
from sponsorsync.web.errors import error_responses
from sponsorsync.web.schemas import FromAttributes
from sponsorsync.web.services import Services

router = create_admin_router()

_EXPORT_PAGE = 1000


class AuditEntryOut(FromAttributes):
    """One grant, change or loss of an entitlement."""

    number: str = Field(examples=["1795420800000-0"])
    at: datetime
    person_id: int
    sponsorable: str
    what: str = Field(examples=["granted"], description="`granted`, `changed` or `lost`.")
    by: str = Field(examples=["webhook"], description="Such as `login`, `webhook`, `reconcile`.")
    reference: str = Field(
        description="The delivery of a webhook, or the administrator and the reason of an override."
    )
    before: dict[str, str]
    after: dict[str, str]


class AuditPage(FromAttributes):
    """A page of the audit trail, the latest entries first."""

    entries: list[AuditEntryOut]
    next_before: str | None = Field(description="`before` of the next page; null on the last one.")


@router.get("/audit", summary="List changes of entitlements", responses=error_responses(409, 503))
async def get_audit(
    services: ServicesDep,
    before: Annotated[
        str | None,
        Query(pattern=r"^[0-9]{1,15}-[0-9]{1,15}$", description="`next_before` of the last page."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditPage:
    """Returns a page of the audit trail, the latest entries first."""
    entries = await services.audit.load(before=before, limit=limit)
    next_before = entries[-1].number if len(entries) == limit else None
    return AuditPage.model_validate({"entries": entries, "next_before": next_before})


@router.get(
    "/audit/export",
    summary="Export the audit trail",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One entry a line, as JSON, the latest first. If Redis fails during the "
            'export, the last line is `{"incomplete": reason}`, and the connection breaks.',
            "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
        },
        **error_responses(409, 503),
    },
)
async def export_audit(services: ServicesDep) -> StreamingResponse:
    """Returns every stored entry as lines of JSON."""
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
            # The status 200 is already sent, and behind an HTTP/1.0 proxy a broken connection looks
            # like a regular end. So the last line of the file reports that entries are missing.
            yield json.dumps({"incomplete": f"{error} Older entries are missing: export again."})
            yield "\n"
            raise
