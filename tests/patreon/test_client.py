"""The client of Patreon's API: the parsed identity. tests/contracts has its errors and retries."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from sponsorsync.http_client import create_http_client
from sponsorsync.patreon.client import PatreonClient
from sponsorsync.patreon.patronage import PatreonIdentity, PatronStatus
from sponsorsync.sandbox.patreon import SimulatedPatreon
from sponsorsync.sandbox.patrons import OTHER_CAMPAIGN_ID
from tests.support.script import Script


@pytest.fixture
async def client(way: Script) -> AsyncIterator[PatreonClient]:
    """Our API client of the simulated Patreon."""
    async with create_http_client(way, timeout_s=1) as http:
        yield PatreonClient(http, patreon_url="http://patreon.test")


@pytest.mark.parametrize(
    ("role", "status", "cents", "is_gift", "is_trial"),
    [
        ("active", PatronStatus.ACTIVE, 1000, False, False),
        ("annual", PatronStatus.ACTIVE, 1000, False, False),
        ("trial", PatronStatus.ACTIVE, 1000, False, True),
        ("declined", PatronStatus.DECLINED, 0, False, False),
        ("former", PatronStatus.FORMER, 0, False, False),
        ("free", PatronStatus.NONE, 0, False, False),
        ("gifted", PatronStatus.NONE, 1000, True, False),
    ],
)
async def test_each_kind_of_membership_is_parsed(
    client: PatreonClient,
    patreon: SimulatedPatreon,
    role: str,
    status: PatronStatus,
    cents: int,
    is_gift: bool,
    is_trial: bool,
) -> None:
    """Each row is another state of a membership, which decides on the entitlement."""
    identity = await client.fetch_identity(patreon.issue_token(role))

    [patronage] = identity.patronages
    assert identity.account_id == patreon.patrons[role].id
    assert patronage.campaign_id == patreon.campaign_id
    assert (patronage.status, patronage.cents) == (status, cents)
    assert (patronage.is_gift, patronage.is_trial) == (is_gift, is_trial)


@pytest.mark.parametrize("role", ["stranger", "denier"])
async def test_an_account_without_memberships_has_an_identity(
    client: PatreonClient, patreon: SimulatedPatreon, role: str
) -> None:
    """The account can be linked, since the person may become a patron later."""
    identity = await client.fetch_identity(patreon.issue_token(role))

    assert identity == PatreonIdentity(account_id=patreon.patrons[role].id, patronages=())


async def test_a_yearly_payment_is_a_year(client: PatreonClient, patreon: SimulatedPatreon) -> None:
    """Most payments are monthly, so `paid_until` must not be a month later."""
    identity = await client.fetch_identity(patreon.issue_token("annual"))

    [patronage] = identity.patronages
    assert patronage.since is not None
    assert patronage.paid_until == patronage.since + timedelta(days=365)


async def test_memberships_of_other_campaigns_have_their_own_campaign(
    client: PatreonClient, patreon: SimulatedPatreon
) -> None:
    """If Patreon shows more memberships than requested, the campaign tells them apart."""
    token = patreon.issue_token("active", "identity.memberships")

    identity = await client.fetch_identity(token)

    assert {each.campaign_id: each.cents for each in identity.patronages} == {
        patreon.campaign_id: 1000,
        OTHER_CAMPAIGN_ID: 5000,
    }


async def test_brackets_in_the_address_are_quoted(
    client: PatreonClient, patreon: SimulatedPatreon, way: Script
) -> None:
    """Patreon demands it: https://docs.patreon.com/#apiv2-resource-endpoints."""
    await client.fetch_identity(patreon.issue_token("active"))

    [request] = way.requests
    assert b"fields%5Bmember%5D=" in request.url.query


async def test_a_truncated_identity_is_requested_again(
    client: PatreonClient, patreon: SimulatedPatreon, way: Script
) -> None:
    """The code is used up, so otherwise the person would have to begin again."""
    way.answer(httpx.Response(200, text='{"data": {'))

    identity = await client.fetch_identity(patreon.issue_token("active"))

    assert identity.account_id == patreon.patrons["active"].id
    assert len(way.requests) == 2
