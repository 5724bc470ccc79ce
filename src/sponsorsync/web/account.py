"""Who I am: as JSON, and as two plain pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, RedirectResponse

from sponsorsync.domain.cover import Cover, judge
from sponsorsync.domain.errors import NotSignedInError
from sponsorsync.domain.preferences import EXCLUDED_NODES
from sponsorsync.web.dependencies import PersonId, ServicesDep, SessionToken
from sponsorsync.web.errors import describe_responses
from sponsorsync.web.pages import render_page
from sponsorsync.web.schemas import CoverOut, Me, ProfileOut

if TYPE_CHECKING:
    from sponsorsync.domain.profile import Profile

router = APIRouter()

_SEE_OTHER = 303


@router.get(
    "/me",
    tags=["account"],
    summary="My profile and my cover",
    responses=describe_responses(401, 503),
)
async def get_me(person_id: PersonId, services: ServicesDep) -> Me:
    """Returns who you are, and for each sponsorable whether you are covered, by what, and why."""
    profile, covers = await _load(services, person_id)
    return Me(profile=_describe_profile(profile), covers=[_describe_cover(c) for c in covers])


@router.get(
    "/", tags=["pages"], summary="What this is, and the way in", response_class=HTMLResponse
)
async def show_home(services: ServicesDep, token: SessionToken) -> HTMLResponse:
    """Asks no database: it says what this is even when nothing else works."""
    return render_page("home.html", has_session=token is not None, services=services)


@router.get(
    "/account",
    tags=["pages"],
    summary="My account, as a page",
    response_class=HTMLResponse,
    responses=describe_responses(401, 503),
)
async def show_account(person_id: PersonId, services: ServicesDep) -> HTMLResponse:
    """Shows who you are, your cover with its reason, and what you excluded."""
    profile, covers = await _load(services, person_id)
    exclusions = await services.preferences.load(person_id, EXCLUDED_NODES)
    return render_page(
        "account.html",
        profile=profile,
        covers=covers,
        exclusions=exclusions,
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


async def _load(services: ServicesDep, person_id: int) -> tuple[Profile, list[Cover]]:
    account = await services.people.load_account(person_id)
    if account.profile is None:
        # The local Redis lost it; signing in again is what brings it back.
        raise NotSignedInError
    now = services.clock()
    covers = [
        judge(sponsorable, facts, policy=services.policy, now=now)
        for sponsorable, facts in account.covers.items()
    ]
    return account.profile, covers


def _describe_profile(profile: Profile) -> ProfileOut:
    return ProfileOut(
        id=profile.id,
        user_login=profile.login,
        name=profile.name,
        email=profile.email,
        avatar_url=profile.avatar_url,
        first_seen=profile.first_seen,
        last_login=profile.last_login,
    )


def _describe_cover(cover: Cover) -> CoverOut:
    facts = cover.facts
    return CoverOut(
        sponsorable=cover.sponsorable,
        status=cover.status.value,
        reason=cover.reason,
        source=facts.source.value if facts else None,
        tier_cents=facts.tier_cents if facts else None,
        is_one_time=facts.is_one_time if facts else False,
        privacy=facts.privacy.value if facts and facts.privacy else None,
        payment_source=facts.payment_source.value if facts and facts.payment_source else None,
        since=facts.since if facts else None,
        valid_until=facts.valid_until if facts else None,
        checked_at=facts.checked_at if facts else None,
        unknown_since=facts.unknown_since if facts else None,
    )
