"""Preferences: read, change and apply them."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field

from sponsorsync.domain.preferences import EXCLUDED_NODES
from sponsorsync.web.dependencies import PersonId, ReaderId, ServicesDep
from sponsorsync.web.errors import error_responses
from sponsorsync.web.schemas import Model
from sponsorsync.web.services import Services

router = APIRouter(tags=["preferences"], responses=error_responses(401, 409, 422, 503))

NodeId = Annotated[str, Field(examples=["C5162902"], description="The id of a node.")]
Collection = Annotated[str, Path(examples=["mnodes"], description="The name of a collection.")]


class PreferenceList(Model):
    """The items of a collection, sorted."""

    collection: str = Field(examples=["mnodes"])
    items: list[NodeId]


class PreferenceChange(Model):
    """Items to add and to remove; either the whole change is made or nothing."""

    add: list[NodeId] = Field(default_factory=list)
    remove: list[NodeId] = Field(default_factory=list)


class PreferenceResult(Model):
    """The result of a change; repeating the change adds and removes nothing more.

    A `pending` change is stored, but the rest of the collection is unknown until the durable Redis
    can be reached. Then the change is applied; until then the numbers are null.
    """

    collection: str = Field(examples=["mnodes"])
    added: int | None = Field(examples=[1], description="Items that were not there before.")
    removed: int | None = Field(examples=[0], description="Items that were there before.")
    size: int | None = Field(examples=[3], description="Items in the collection now.")
    pending: bool = Field(examples=[False], description="Waits for the durable Redis.")


class FilterRequest(Model):
    """The ids of a search result, in order; 10,000 at most."""

    ids: list[NodeId]


class FilterResult(Model):
    """The ids that are not in the collection, in their original order."""

    ids: list[NodeId]


class Exclusion(BaseModel):
    """The node to exclude, as old clients send it; other fields are ignored."""

    id: NodeId


class Message(Model):
    """The result of an exclusion, in one sentence."""

    message: str = Field(examples=["C5162902 is excluded from your results."])


async def read_item(
    request: Request,
    item: Annotated[
        str,
        Path(examples=["C5162902"], description="A node id, percent-encoded; may contain slashes."),
    ],
) -> str:
    """Returns the item in the path; restores a final line feed, which Starlette drops."""
    return f"{item}\n" if str(request.scope["path"]).endswith("\n") else item


Item = Annotated[str, Depends(read_item)]


@router.get("/preferences/{collection}", summary="Read a collection")
async def list_preferences(
    collection: Collection, person_id: ReaderId, services: ServicesDep
) -> PreferenceList:
    """Returns every item of your collection, sorted."""
    state = await services.preferences.load(person_id, collection)
    return PreferenceList(collection=collection, items=list(state.items))


@router.put(
    "/preferences/{collection}/{item:path}", summary="Add one item", responses=error_responses(403)
)
async def add_preference(
    collection: Collection, item: Item, person_id: PersonId, services: ServicesDep
) -> PreferenceResult:
    """Adds an item; does nothing if the collection has it already."""
    return await _change(services, person_id, collection, add=[item])


@router.delete(
    "/preferences/{collection}/{item:path}",
    summary="Remove one item",
    responses=error_responses(403),
)
async def remove_preference(
    collection: Collection, item: Item, person_id: PersonId, services: ServicesDep
) -> PreferenceResult:
    """Removes an item; does nothing if the collection does not have it."""
    return await _change(services, person_id, collection, remove=[item])


@router.post(
    "/preferences/{collection}",
    summary="Add and remove several items",
    responses=error_responses(403, 413),
)
async def change_preferences(
    collection: Collection, change: PreferenceChange, person_id: PersonId, services: ServicesDep
) -> PreferenceResult:
    """Adds and removes items as one change: either all of it is made or nothing."""
    return await _change(services, person_id, collection, add=change.add, remove=change.remove)


@router.post(
    "/preferences/{collection}/filter",
    summary="Remove the items of a collection from a list",
    responses=error_responses(403, 413),
)
async def filter_by_preferences(
    collection: Collection, wanted: FilterRequest, person_id: ReaderId, services: ServicesDep
) -> FilterResult:
    """Returns the ids that are not in your collection, in order and with duplicates.

    A search sends the ids of its result here before it shows them.
    """
    return FilterResult(ids=await services.preferences.filter(person_id, collection, wanted.ids))


@router.post(
    "/exclude",
    summary="Exclude a node from my results (the original call)",
    responses=error_responses(403),
)
async def exclude(exclusion: Exclusion, person_id: PersonId, services: ServicesDep) -> Message:
    """Adds a node to your collection `mnodes`. New clients use `PUT /preferences/mnodes/{item}`."""
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
    """Adds a node to your collection `mnodes`, for old clients.

    This GET changes data, so it is guarded like a POST: it works from this site's own pages, from
    allowed origins, and from programs that are not browsers. A link, an image or an address typed
    by hand gets 403.
    """
    return await _exclude(services, person_id, node_id)


async def _exclude(services: Services, person_id: int, node_id: str) -> Message:
    result = await _change(services, person_id, EXCLUDED_NODES, add=[node_id])
    when = " as soon as the durable storage is back" if result.pending else ""
    return Message(message=f"{node_id} is excluded from your results{when}.")


async def _change(
    services: Services,
    person_id: int,
    collection: str,
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
) -> PreferenceResult:
    result = await services.preferences.change(person_id, collection, add=add, remove=remove)
    return PreferenceResult(
        collection=collection,
        added=result.added,
        removed=result.removed,
        size=result.size,
        pending=result.is_pending,
    )
