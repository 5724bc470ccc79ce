"""For whoever runs the service: who is entitled, entitles given by hand, sessions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from sponsorsync.domain.audit import Decision
from sponsorsync.domain.errors import InvalidInputError
from sponsorsync.web.admin import require_admin
from sponsorsync.web.dependencies import ServicesDep
from sponsorsync.web.errors import error_responses
from sponsorsync.web.forward_auth import Sponsorable, choose_sponsorable
from sponsorsync.web.schemas import (
    Actor,
    EntitlementOut,
    OverrideOut,
    OverrideRequest,
    RevokedSessions,
    SponsorList,
    SponsorOut,
)

router = APIRouter(
    prefix="/admin",
    tags=["administration"],
    dependencies=[Depends(require_admin)],
    responses=error_responses(401, 403),
)

_LAST_CURSOR = 2**64 - 1  # as Redis counts

PersonNumber = Annotated[int, Path(ge=1, le=10**15, description="GitHub's number of the person.")]
Who = Annotated[
    str,
    Path(
        examples=["583231"],
        description="GitHub's number of the person; of a login GitHub is asked the number, once.",
    ),
]


@router.get(
    "/sponsors",
    summary="Who is entitled, by what, until when?",
    responses=error_responses(404, 503),
)
async def list_sponsors(
    services: ServicesDep,
    sponsorable: Sponsorable = None,
    cursor: Annotated[int, Query(ge=0, le=_LAST_CURSOR, description="See `next_cursor`.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="About how many.")] = 100,
) -> SponsorList:
    """Returns some of them, in no order; over all pages each comes at least once.

    Somebody whose entitlement has just ended may still be among them: `status` is what counts.
    """
    receiver = choose_sponsorable(services, sponsorable)
    page = await services.sponsor_list.load_page(receiver, cursor=cursor, limit=limit)
    return SponsorList.model_validate(page)


@router.get(
    "/sponsors/{person_id}",
    summary="Is this person entitled, and why not?",
    responses=error_responses(404, 503),
)
async def get_sponsor(
    person_id: PersonNumber, services: ServicesDep, sponsorable: Sponsorable = None
) -> SponsorOut:
    """Returns what is known of anybody's entitlement, with all that was considered."""
    receiver = choose_sponsorable(services, sponsorable)
    return SponsorOut.model_validate(await services.sponsor_list.load(receiver, person_id))


@router.post(
    "/sponsors/{person_id}/revoke-sessions",
    summary="Sign somebody out everywhere",
    responses=error_responses(503),
)
async def revoke_sessions(person_id: PersonNumber, services: ServicesDep) -> RevokedSessions:
    """Ends all of their sessions at once; a token of theirs counts for the rest of its minutes.

    They may sign in again.
    """
    return RevokedSessions(id=person_id, sessions=await services.people.revoke_sessions(person_id))


@router.put(
    "/overrides/{who}",
    summary="Entitlement somebody by hand",
    responses=error_responses(404, 502, 503),
)
async def put_override(
    who: Who,
    request: OverrideRequest,
    services: ServicesDep,
    sponsorable: Sponsorable = None,
) -> OverrideOut:
    """Entitlements them from now on, whatever GitHub says, until the moment that is given.

    It replaces what was given to them by hand before. They may never have signed in. Deleting their
    account takes it along.
    """
    receiver = choose_sponsorable(services, sponsorable)
    person_id = await services.overrides.find_person(who)
    entitlement = await services.overrides.put(
        person_id,
        receiver,
        Decision(actor=request.actor, reason=request.reason),
        cents=request.cents,
        until=_in_utc(request.until),
    )
    return OverrideOut(id=person_id, entitlement=EntitlementOut.model_validate(entitlement))


@router.delete(
    "/overrides/{who}",
    summary="Take back an entitlement given by hand",
    responses=error_responses(404, 502, 503),
)
async def delete_override(
    who: Who,
    services: ServicesDep,
    actor: Annotated[Actor, Query(description="Who decided.")],
    reason: Annotated[str, Query(max_length=500, description="Why.")] = "",
    *,
    sponsorable: Sponsorable = None,
) -> OverrideOut:
    """Returns what is left of their entitlement; 404 where there was none by hand."""
    receiver = choose_sponsorable(services, sponsorable)
    person_id = await services.overrides.find_person(who)
    entitlement = await services.overrides.remove(
        person_id, receiver, Decision(actor=actor, reason=reason)
    )
    return OverrideOut(id=person_id, entitlement=EntitlementOut.model_validate(entitlement))


def _in_utc(moment: datetime | None) -> datetime | None:
    """Moments are kept in whole seconds."""
    if moment is None:
        return None
    try:
        return moment.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise InvalidInputError(
            "until: should be a moment that is still to come, and before the year 10000 in UTC."
        ) from None
