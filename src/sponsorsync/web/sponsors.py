"""Entitled people, overrides and sessions, for administrators."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import AliasPath, AwareDatetime, Field, StringConstraints

from sponsorsync.domain.audit import Decision
from sponsorsync.domain.errors import InvalidInputError
from sponsorsync.web.admin import create_admin_router
from sponsorsync.web.dependencies import ServicesDep
from sponsorsync.web.errors import error_responses
from sponsorsync.web.forward_auth import Sponsorable, choose_sponsorable
from sponsorsync.web.schemas import ConsideredOut, EntitlementOut, FromAttributes, Model

router = create_admin_router()

_LAST_CURSOR = 2**64 - 1  # Redis's cursors are unsigned 64-bit integers

Actor = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
PersonNumber = Annotated[int, Path(ge=1, le=10**15, description="GitHub's number of the person.")]
Who = Annotated[
    str,
    Path(
        examples=["583231"],
        description="GitHub's number of the person, or a login: GitHub is asked for its number.",
    ),
]


class AdminConsideredOut(ConsideredOut):
    """One possible reason for an entitlement, with the note for administrators."""

    note: str | None = Field(description="Of an override: the administrator and the reason.")


class SponsorOut(FromAttributes):
    """A person's entitlement as the person sees it, and the details for administrators."""

    id: int = Field(validation_alias="person_id")
    user_login: str | None = Field(
        validation_alias="login", description="Login at the last sign-in; null if there was none."
    )
    entitlement: EntitlementOut = Field(description="As the person sees it.")
    considered: list[AdminConsideredOut] = Field(
        validation_alias=AliasPath("entitlement", "considered")
    )


class SponsorList(FromAttributes):
    """A page of the entitled people."""

    sponsors: list[SponsorOut] = Field(validation_alias="entries")
    next_cursor: int | None = Field(description="`cursor` of the next page; null on the last one.")


class OverrideRequest(Model):
    """An entitlement that an administrator grants."""

    reason: Reason = Field(examples=["Wrote the translation"])
    actor: Actor = Field(description="The administrator who decides.")
    until: AwareDatetime | None = Field(
        default=None, description="Exclusive end, with a time zone; null for none."
    )
    cents: int | None = Field(
        default=None,
        strict=True,  # otherwise pydantic reads true as 1
        ge=0,
        le=100_000_000,
        description="The tier that it amounts to, in US cents a month; null for none.",
    )


class OverrideOut(Model):
    """A person, and the entitlement after the change."""

    id: int
    entitlement: EntitlementOut


class RevokedSessions(Model):
    """The number of sessions of a person that were ended."""

    id: int
    sessions: int


@router.get("/sponsors", summary="List the entitled people", responses=error_responses(404, 503))
async def list_sponsors(
    services: ServicesDep,
    sponsorable: Sponsorable = None,
    cursor: Annotated[
        int, Query(ge=0, le=_LAST_CURSOR, description="`next_cursor` of the last page.")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Approximate number of people.")] = 100,
) -> SponsorList:
    """Returns a page, in no particular order; over all pages, each person appears at least once.

    A person whose entitlement has just ended may still appear: check `status`.
    """
    receiver = choose_sponsorable(services, sponsorable)
    page = await services.sponsor_list.load_page(receiver, cursor=cursor, limit=limit)
    return SponsorList.model_validate(page)


@router.get(
    "/sponsors/{person_id}",
    summary="Explain a person's entitlement",
    responses=error_responses(404, 503),
)
async def get_sponsor(
    person_id: PersonNumber, services: ServicesDep, sponsorable: Sponsorable = None
) -> SponsorOut:
    """Returns the entitlement of any person, with every reason that was considered."""
    receiver = choose_sponsorable(services, sponsorable)
    return SponsorOut.model_validate(await services.sponsor_list.load(receiver, person_id))


@router.post(
    "/sponsors/{person_id}/revoke-sessions",
    summary="Sign a person out everywhere",
    responses=error_responses(503),
)
async def revoke_sessions(person_id: PersonNumber, services: ServicesDep) -> RevokedSessions:
    """Ends all sessions of a person at once; the person may sign in again.

    Tokens that were issued before remain valid until they expire, for some minutes.
    """
    return RevokedSessions(id=person_id, sessions=await services.people.revoke_sessions(person_id))


@router.put(
    "/overrides/{who}", summary="Grant an entitlement", responses=error_responses(404, 502, 503)
)
async def put_override(
    who: Who, request: OverrideRequest, services: ServicesDep, sponsorable: Sponsorable = None
) -> OverrideOut:
    """Entitles a person from now until the given time, whatever GitHub reports.

    This replaces an earlier override of the person, who need not have signed in before.
    Deleting the person's account deletes the override, too.
    """
    receiver = choose_sponsorable(services, sponsorable)
    person_id = await services.overrides.find_person(who)
    entitlement = await services.overrides.put(
        person_id,
        receiver,
        Decision(actor=request.actor, reason=request.reason),
        cents=request.cents,
        until=_to_whole_seconds(request.until),
    )
    return OverrideOut(id=person_id, entitlement=EntitlementOut.model_validate(entitlement))


@router.delete(
    "/overrides/{who}",
    summary="Revoke a granted entitlement",
    responses=error_responses(404, 502, 503),
)
async def delete_override(
    who: Who,
    services: ServicesDep,
    actor: Annotated[Actor, Query(description="The administrator who decides.")],
    reason: Annotated[str, Query(max_length=500, description="Why.")] = "",
    *,
    sponsorable: Sponsorable = None,
) -> OverrideOut:
    """Removes an override and returns the remaining entitlement; 404 if there is no override."""
    receiver = choose_sponsorable(services, sponsorable)
    person_id = await services.overrides.find_person(who)
    entitlement = await services.overrides.remove(
        person_id, receiver, Decision(actor=actor, reason=reason)
    )
    return OverrideOut(id=person_id, entitlement=EntitlementOut.model_validate(entitlement))


def _to_whole_seconds(moment: datetime | None) -> datetime | None:
    """Returns the moment as it is stored: in UTC, without microseconds."""
    if moment is None:
        return None
    try:
        return moment.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise InvalidInputError(
            "until: should be in the future, and before the year 10000 in UTC."
        ) from None
