"""The signed-in person's account: as JSON, and as pages."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import Field

from sponsorsync.domain.entitlement import Entitlement, evaluate
from sponsorsync.domain.errors import DurableUnavailableError, NotSignedInError, StoreConflictError
from sponsorsync.domain.preferences import EXCLUDED_NODES
from sponsorsync.domain.profile import Profile
from sponsorsync.web.dependencies import PersonId, ReaderId, ServicesDep, SessionToken
from sponsorsync.web.errors import error_responses
from sponsorsync.web.pages import render_page
from sponsorsync.web.schemas import EntitlementOut, FromAttributes, Model

router = APIRouter(tags=["account"])
pages = APIRouter(tags=["pages"])


class ProfileOut(FromAttributes):
    """Your profile at GitHub. `user_login` is the login, under the name that old clients use."""

    id: int = Field(examples=[583231], description="GitHub's numeric id; a login may change hands.")
    user_login: str = Field(validation_alias="login", examples=["octocat"])
    name: str | None
    email: str | None
    avatar_url: str | None
    first_seen: datetime
    last_login: datetime


class Me(Model):
    """Your profile, and your entitlement for each sponsorable (account that receives support)."""

    profile: ProfileOut
    entitlements: list[EntitlementOut]


class StoredPersonalDataOut(FromAttributes):
    """Your data in one Redis."""

    profile: dict[str, str]
    entitlements: dict[str, dict[str, str]] = Field(description="By sponsorable.")
    preferences: dict[str, list[str]] = Field(description="By collection.")
    pending: dict[str, str] = Field(description="Changes that wait for the durable Redis.")
    versions: dict[str, str] = Field(description="Version vectors of the parts above.")


class ExportOut(FromAttributes):
    """Your data in both Redises, and the time of the export."""

    exported_at: datetime
    local: StoredPersonalDataOut
    durable: StoredPersonalDataOut | None
    note: str | None = Field(description="If the durable data are missing: why.")


class Deletion(Model):
    """The result of a deletion; `confirmed` if the durable Redis has deleted your data, too."""

    confirmed: bool
    message: str = Field(examples=["Your account and all of its data are removed."])


@router.get(
    "/me", summary="Show my profile and my entitlements", responses=error_responses(401, 503)
)
async def get_me(person_id: ReaderId, services: ServicesDep) -> Me:
    """Returns your profile, and your entitlement for each sponsorable, with source and reason."""
    return await _load_me(services, person_id)


@router.post(
    "/me/refresh",
    summary="Check my sponsorship at GitHub now",
    responses={
        202: {
            "model": Me,
            "description": "GitHub is being asked; the result follows within five minutes",
        },
        **error_responses(401, 403, 409, 429, 502, 503),
    },
)
async def refresh_me(person_id: PersonId, services: ServicesDep, response: Response) -> Me:
    """Asks GitHub about your sponsorship with the maintainer's token, at most once a minute.

    409: no maintainer's token is configured; `login_url` leads to the sign-in, which asks GitHub
    with your own token. 202: GitHub has not answered completely, because it shows a single sponsor
    only to the sponsored account; all sponsorships are compared with GitHub within five minutes.
    """
    if not await services.refresh.run(person_id):
        response.status_code = 202
    return await _load_me(services, person_id)


@router.get("/me/export", summary="Export my data", responses=error_responses(401, 409, 503))
async def export_me(person_id: PersonId, services: ServicesDep) -> ExportOut:
    """Returns your data in the application's Redis and in the durable one."""
    export = await services.personal_data.export(person_id)
    return ExportOut.model_validate({"exported_at": services.clock(), **asdict(export)})


@router.delete(
    "/me",
    summary="Delete my account",
    responses={
        202: {"model": Deletion, "description": "The durable Redis has not confirmed it yet"},
        **error_responses(401, 403, 409, 503),
    },
)
async def delete_me(person_id: PersonId, services: ServicesDep, response: Response) -> Deletion:
    """Removes your data from both Redises, and ends all of your sessions.

    202: the durable Redis could not be reached. Your data there are removed later,
    even if you sign in again before that.
    """
    confirmed = await services.personal_data.delete(person_id)
    services.cookies.clear_session(response)
    if confirmed:
        return Deletion(confirmed=True, message="Your account and all of its data are removed.")
    response.status_code = 202
    return Deletion(
        confirmed=False,
        message="Your account is removed here, and from durable storage as soon as it is reached.",
    )


@pages.get("/", summary="Start page", response_class=HTMLResponse)
async def show_home(token: SessionToken) -> HTMLResponse:
    """Shows the start page; it uses no database, so it works during every outage."""
    return render_page("home.html", has_session=token is not None)


@pages.get(
    "/account",
    summary="Account page",
    response_class=HTMLResponse,
    responses=error_responses(401, 503),
)
async def show_account(
    person_id: PersonId,
    services: ServicesDep,
    no_support: Annotated[
        str, Query(description="The service that has just shown no support by a linked account.")
    ] = "",
) -> HTMLResponse:
    """Shows your profile, your sponsorships with their reasons, and your exclusions."""
    profile, entitlements = await _load(services, person_id)
    exclusions, trouble = None, None
    try:
        exclusions = await services.preferences.load(person_id, EXCLUDED_NODES)
    except (DurableUnavailableError, StoreConflictError) as error:
        trouble = str(error)  # the rest of the page is still correct
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


@pages.post(
    "/account/preferences/{collection}/remove",
    summary="Remove one item from the account page",
    status_code=303,
    response_class=RedirectResponse,
    responses=error_responses(401, 403, 422, 503),
)
async def remove_from_account(
    collection: str, item: Annotated[str, Query()], person_id: PersonId, services: ServicesDep
) -> RedirectResponse:
    """Removes an item. It is a POST, because an HTML form cannot send DELETE."""
    await services.preferences.change(person_id, collection, add=[], remove=[item])
    return RedirectResponse("/account", status_code=303)


async def _load_me(services: ServicesDep, person_id: int) -> Me:
    profile, entitlements = await _load(services, person_id)
    return Me.model_validate({"profile": profile, "entitlements": entitlements})


async def _load(services: ServicesDep, person_id: int) -> tuple[Profile, list[Entitlement]]:
    account = await services.people.load_account(person_id)
    if account.profile is None:
        # The local Redis has lost the profile; signing in again restores it.
        raise NotSignedInError
    now = services.clock()
    entitlements = [
        evaluate(sponsorable, stored.facts, policy=services.policy, now=now)
        for sponsorable, stored in account.entitlements.items()
    ]
    return account.profile, entitlements
