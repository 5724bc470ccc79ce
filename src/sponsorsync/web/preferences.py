"""Preferences: read, change and apply them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from sponsorsync.domain.preferences import EXCLUDED_NODES, ChangeResult
from sponsorsync.web.dependencies import PersonId, ReaderId, ServicesDep
from sponsorsync.web.errors import error_responses
from sponsorsync.web.schemas import (
    Exclusion,
    FilterRequest,
    FilterResult,
    Message,
    PreferenceChange,
    PreferenceList,
    PreferenceResult,
)

router = APIRouter(tags=["preferences"], responses=error_responses(401, 409, 422, 503))

Collection = Annotated[str, Path(examples=["mnodes"], description="The name of a collection.")]


async def read_item(
    request: Request,
    item: Annotated[
        str,
        Path(examples=["C5162902"], description="A node id, percent-encoded; it may hold slashes."),
    ],
) -> str:
    """Returns the item in the path; Starlette's pattern drops a line feed at its very end."""
    return f"{item}\n" if str(request.scope["path"]).endswith("\n") else item


Item = Annotated[str, Depends(read_item)]


@router.get("/preferences/{collection}", summary="Read a collection")
async def list_preferences(
    collection: Collection, person_id: ReaderId, services: ServicesDep
) -> PreferenceList:
    """Returns every item of yours in the collection, sorted."""
    state = await services.preferences.load(person_id, collection)
    return PreferenceList(collection=collection, items=list(state.items))


@router.put(
    "/preferences/{collection}/{item:path}",
    summary="Add one item",
    responses=error_responses(403),
)
async def add_preference(
    collection: Collection, item: Item, person_id: PersonId, services: ServicesDep
) -> PreferenceResult:
    """Adds an item; it is no error when it is there."""
    result = await services.preferences.change(person_id, collection, add=[item], remove=[])
    return _describe(collection, result)


@router.delete(
    "/preferences/{collection}/{item:path}",
    summary="Remove one item",
    responses=error_responses(403),
)
async def remove_preference(
    collection: Collection, item: Item, person_id: PersonId, services: ServicesDep
) -> PreferenceResult:
    """Removes an item; it is no error when it is not there."""
    result = await services.preferences.change(person_id, collection, add=[], remove=[item])
    return _describe(collection, result)


@router.post(
    "/preferences/{collection}",
    summary="Add and remove several items",
    responses=error_responses(403, 413),
)
async def change_preferences(
    collection: Collection, change: PreferenceChange, person_id: PersonId, services: ServicesDep
) -> PreferenceResult:
    """Applies all of the change or nothing of it."""
    result = await services.preferences.change(
        person_id, collection, add=change.add, remove=change.remove
    )
    return _describe(collection, result)


@router.post(
    "/preferences/{collection}/filter",
    summary="Leave out what is in a collection",
    responses=error_responses(403, 413),
)
async def filter_by_preferences(
    collection: Collection, wanted: FilterRequest, person_id: ReaderId, services: ServicesDep
) -> FilterResult:
    """Returns the ids that are not in the collection, in order, with their duplicates.

    This is what a search calls with its result before it shows it.
    """
    kept = await services.preferences.filter(person_id, collection, wanted.ids)
    return FilterResult(ids=kept)


@router.post(
    "/exclude",
    summary="Exclude a node from my results (the original call)",
    responses=error_responses(403),
)
async def exclude(exclusion: Exclusion, person_id: PersonId, services: ServicesDep) -> Message:
    """Adds a node to `mnodes`. New clients use `PUT /preferences/mnodes/{item}`."""
    return await _exclude(services, person_id, exclusion.id)


@router.get(
    "/exclude",
    summary="Exclude a node from my results (the original call, by GET)",
    responses=error_responses(403),
)
async def exclude_by_get(
    node_id: Annotated[str, Query(alias="id", examples=["C5162902"])],
    person_id: PersonId,
    services: ServicesDep,
) -> Message:
    """Adds a node to `mnodes`, as old clients do.

    A GET should change nothing, so this one is guarded like a POST: it works from our own pages,
    from allowed origins, and from programs that are no browser. A link, an image or an address
    typed by hand gets 403.
    """
    return await _exclude(services, person_id, node_id)


async def _exclude(services: ServicesDep, person_id: int, node_id: str) -> Message:
    result = await services.preferences.change(person_id, EXCLUDED_NODES, add=[node_id], remove=[])
    when = " as soon as the durable storage is back" if result.is_pending else ""
    return Message(message=f"{node_id} is excluded from your results{when}.")


def _describe(collection: str, result: ChangeResult) -> PreferenceResult:
    return PreferenceResult(
        collection=collection,
        added=result.added,
        removed=result.removed,
        size=result.size,
        pending=result.is_pending,
    )
