"""Resolvers of GraphQL's Sponsorable and Sponsorship."""

from functools import wraps
from typing import TypeAlias, Unpack

from graphql import GraphQLError

from sponsorsync.sandbox.graphql_context import (
    Info,
    Order,
    QueryContext,
    Resolver,
    forbidden,
    is_descending,
    microseconds,
)
from sponsorsync.sandbox.paging import Key, Page, SliceArguments, paginate
from sponsorsync.sandbox.people import Account, Sponsorship, Tier

_Node: TypeAlias = Sponsorship | GraphQLError | None


def _sponsorships_as_sponsor(
    account: Account,
    info: Info,
    *,
    active_only: bool,
    maintainer_logins: list[str] | None = None,
    order_by: Order | None = None,
    **slice_arguments: Unpack[SliceArguments],
) -> Page[_Node]:
    sponsorships = info.context.people.sponsorships_of(account)
    if maintainer_logins is not None:
        wanted = {login.lower() for login in maintainer_logins}
        sponsorships = [each for each in sponsorships if each.sponsorable.login.lower() in wanted]
    visible = [each for each in sponsorships if info.context.sees(each)]
    return _create_page(visible, info, active_only, order_by, slice_arguments)


def _sponsorships_as_maintainer(
    account: Account,
    info: Info,
    *,
    active_only: bool,
    include_private: bool,
    order_by: Order | None = None,
    **slice_arguments: Unpack[SliceArguments],
) -> Page[_Node]:
    with_private = include_private and info.context.manages(account)
    visible = [
        each
        for each in info.context.people.sponsorships_for(account)
        if with_private or not each.is_private
    ]
    return _create_page(visible, info, active_only, order_by, slice_arguments)


def _create_page(
    sponsorships: list[Sponsorship],
    info: Info,
    active_only: bool,
    order_by: Order | None,
    wanted: SliceArguments,
) -> Page[_Node]:
    page = paginate(
        [each for each in sponsorships if not active_only or each.is_active_at(info.context.now)],
        wanted,
        connection=info.field_name,
        key=_relevance if order_by is None else _sponsorship_age,
        descending=is_descending(order_by),
    )
    nodes: list[_Node] = [None if each.is_null else each for each in page.nodes]
    if info.context.switches.partial:
        # graphql-core turns an exception in a list into a null node and an error beside the data.
        nodes[:1] = [forbidden()]
    return Page(nodes, page.page_info, page.total_count)


def _sponsorship_by_viewer(
    account: Account, info: Info, *, active_only: bool = True
) -> Sponsorship | None:
    return _find_latest(info.context.viewer, account, info.context, active_only=active_only)


def _sponsorship_of_viewer(
    account: Account, info: Info, *, active_only: bool = True
) -> Sponsorship | None:
    return _find_latest(account, info.context.viewer, info.context, active_only=active_only)


def _is_sponsored_by(account: Account, info: Info, *, account_login: str) -> bool:
    sponsor = info.context.people.find(account_login)
    return sponsor is not None and _find_latest(sponsor, account, info.context) is not None


def _find_latest(
    sponsor: Account, sponsorable: Account, context: QueryContext, *, active_only: bool = True
) -> Sponsorship | None:
    """Returns the latest sponsorship of `sponsorable` by `sponsor` that the viewer may see."""
    candidates = [
        each
        for each in context.people.sponsorships_of(sponsor)
        if each.sponsorable is sponsorable
        and context.sees(each)
        and (each.is_active_at(context.now) or not active_only)
    ]
    return max(candidates, key=_sponsorship_age, default=None)


def _relevance(sponsorship: Sponsorship) -> Key:
    """Returns an arbitrary sort key, because GitHub does not define its default order."""
    return sponsorship.number * 7919 % 1009, sponsorship.number


def _sponsorship_age(sponsorship: Sponsorship) -> Key:
    return microseconds(sponsorship.created_at), sponsorship.number


def _tier(sponsorship: Sponsorship, info: Info) -> Tier | None:
    """Returns the tier only to the sponsor and the sponsorable."""
    context = info.context
    is_party = context.manages(sponsorship.sponsor) or context.manages(sponsorship.sponsorable)
    return sponsorship.tier if is_party else None


def _guard(resolve: Resolver) -> Resolver:
    """Returns `resolve` after a check of the switches and of the token's scope."""

    @wraps(resolve)
    def guarded(account: Account, info: Info, **arguments: object) -> object:
        switches = info.context.switches
        if switches.forbidden or switches.forbidden_data:
            raise forbidden()
        info.context.require_scope("read:user", info.field_name)
        return resolve(account, info, **arguments)

    return guarded


SPONSORABLE: dict[str, Resolver] = {
    "isSponsoredBy": _guard(_is_sponsored_by),
    "isSponsoringViewer": _guard(lambda *about: _sponsorship_of_viewer(*about) is not None),
    "sponsorshipForViewerAsSponsor": _guard(_sponsorship_by_viewer),
    "sponsorshipForViewerAsSponsorable": _guard(_sponsorship_of_viewer),
    "sponsorshipsAsMaintainer": _guard(_sponsorships_as_maintainer),
    "sponsorshipsAsSponsor": _guard(_sponsorships_as_sponsor),
    "viewerIsSponsoring": _guard(lambda *about: _sponsorship_by_viewer(*about) is not None),
}
SPONSORSHIP: dict[str, Resolver] = {
    "isActive": lambda sponsorship, info: sponsorship.is_active_at(info.context.now),
    "privacyLevel": lambda sponsorship, _: "PRIVATE" if sponsorship.is_private else "PUBLIC",
    "sponsorEntity": lambda sponsorship, _: sponsorship.sponsor,
    "tier": _tier,
}
