"""Who I am: as JSON, and as two plain pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from sponsorsync.domain.entitlement import evaluate
from sponsorsync.domain.errors import (
    DurableUnavailableError,
    NotSignedInError,
    StoreConflictError,
)
from sponsorsync.domain.preferences import EXCLUDED_NODES
from sponsorsync.web.dependencies import PersonId, ReaderId, ServicesDep, SessionToken
from sponsorsync.web.errors import describe_responses
from sponsorsync.web.pages import render_page
from sponsorsync.web.schemas import (
    Deletion,
    ExportOut,
    Me,
)

if TYPE_CHECKING:
    from sponsorsync.domain.entitlement import Entitlement
    from sponsorsync.domain.profile import Profile

router = APIRouter()

_ACCEPTED = 202
_SEE_OTHER = 303


@router.get(
    "/me",
    tags=["account"],
    summary="My profile and my entitlement",
    responses=describe_responses(401, 503),
)
async def get_me(person_id: ReaderId, services: ServicesDep) -> Me:
    """Returns who you are, and for each sponsorable whether you are entitled, by what, and why."""
    return await _load_me(services, person_id)


@router.post(
    "/me/refresh",
    tags=["account"],
    summary="Ask GitHub about me now",
    responses={
        202: {"model": Me, "description": "GitHub is being asked; the answer follows"},
        **describe_responses(401, 403, 409, 429, 502, 503),
    },
)
async def refresh_me(person_id: PersonId, services: ServicesDep, response: Response) -> Me:
    """Asks with the maintainer's token, once a minute, and returns what is known then.

    Without such a token it is 409 with the address of the sign-in, which asks with yours. 202:
    GitHub tells of single sponsors only to the account that receives, so everybody's sponsorships
    are being looked at, within five minutes.
    """
    if not await services.refresh.run(person_id):
        response.status_code = _ACCEPTED
    return await _load_me(services, person_id)


@router.get(
    "/me/export",
    tags=["account"],
    summary="All that is held of me",
    responses=describe_responses(401, 409, 503),
)
async def export_me(person_id: PersonId, services: ServicesDep) -> ExportOut:
    """Returns what the application's Redis and the durable one hold under your number."""
    export = await services.personal_data.export(person_id)
    return ExportOut.model_validate(
        {
            "exported_at": services.clock(),
            "local": export.local,
            "durable": export.durable,
            "note": export.note,
        }
    )


@router.delete(
    "/me",
    tags=["account"],
    summary="Delete my account",
    responses={
        202: {"model": Deletion, "description": "The durable side has not confirmed it yet"},
        **describe_responses(401, 403, 409, 503),
    },
)
async def delete_me(person_id: PersonId, services: ServicesDep, response: Response) -> Deletion:
    """Removes everything of yours from both sides, and ends all of your sessions.

    With 202 the durable side could not be reached: it follows by itself, also when you sign in
    again before.
    """
    confirmed = await services.personal_data.delete(person_id)
    services.cookies.clear_session(response)
    if confirmed:
        return Deletion(confirmed=True, message="Your account and all of its data are removed.")
    response.status_code = _ACCEPTED
    return Deletion(
        confirmed=False,
        message="Your account is removed here, and from durable storage as soon as it is reached.",
    )


@router.get(
    "/", tags=["pages"], summary="What this is, and the way in", response_class=HTMLResponse
)
async def show_home(token: SessionToken) -> HTMLResponse:
    """Asks no database: it says what this is even when nothing else works."""
    return render_page("home.html", has_session=token is not None)


@router.get(
    "/account",
    tags=["pages"],
    summary="My account, as a page",
    response_class=HTMLResponse,
    responses=describe_responses(401, 503),
)
async def show_account(
    person_id: PersonId,
    services: ServicesDep,
    no_support: Annotated[
        str, Query(description="The service that has just shown no support by a linked account.")
    ] = "",
) -> HTMLResponse:
    """Shows who you are, your entitlement with its reason, and what you excluded."""
    profile, entitlements = await _load(services, person_id)
    exclusions, trouble = None, None
    try:
        exclusions = await services.preferences.load(person_id, EXCLUDED_NODES)
    except (DurableUnavailableError, StoreConflictError) as error:
        trouble = str(error)  # the rest of the page is right all the same
    return render_page(
        "account.html",
        profile=profile,
        entitlements=entitlements,
        sponsor_urls=services.sponsor_urls,
        exclusions=exclusions,
        trouble=trouble,
        linked_sources=[each.linked_source for each in services.account_links.values()],
        sources={each.source for entitlement in entitlements for each in entitlement.considered},
        no_support=no_support,
        collection=EXCLUDED_NODES,
    )


@router.post(
    "/account/preferences/{collection}/remove",
    tags=["pages"],
    summary="Remove one item, from the account page",
    status_code=_SEE_OTHER,
    response_class=RedirectResponse,
    responses=describe_responses(401, 403, 422, 503),
)
async def remove_from_account(
    collection: str, item: Annotated[str, Query()], person_id: PersonId, services: ServicesDep
) -> RedirectResponse:
    """A plain form can send no DELETE."""
    await services.preferences.change(person_id, collection, add=[], remove=[item])
    return RedirectResponse("/account", status_code=_SEE_OTHER)


async def _load_me(services: ServicesDep, person_id: int) -> Me:
    profile, entitlements = await _load(services, person_id)
    return Me.model_validate({"profile": profile, "entitlements": entitlements})


async def _load(services: ServicesDep, person_id: int) -> tuple[Profile, list[Entitlement]]:
    account = await services.people.load_account(person_id)
    if account.profile is None:
        # The local Redis lost it; signing in again is what brings it back.
        raise NotSignedInError
    now = services.clock()
    entitlements = [
        evaluate(sponsorable, known.facts, policy=services.policy, now=now)
        for sponsorable, known in account.entitlements.items()
    ]
    return account.profile, entitlements
