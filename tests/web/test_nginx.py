"""nginx in front of static pages, configured as the documentation shows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from redis.asyncio import Redis

from sponsorsync.app import create_app
from sponsorsync.commands.serve import bind, port_of, run_server
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from tests.conftest import GITHUB_URL, SPONSORABLE, Clock, create_github
from tests.support.nginx import NGINX, free_port, run_nginx

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

PAGE = "/members/index.html"
SECRET = "what is for sponsors"
REFUSAL = "for sponsors of $10 or more"
SPONSOR_URL = f"{GITHUB_URL}/sponsors/{SPONSORABLE}"


@dataclass
class Site:
    """The address of nginx, and the simulated GitHub that its service asks."""

    origin: str
    github: SimulatedGitHub

    @asynccontextmanager
    async def open_browser(self) -> AsyncIterator[httpx.AsyncClient]:
        """Yields a browser without cookies."""
        github = httpx.ASGITransport(self.github.app)
        async with httpx.AsyncClient(
            base_url=self.origin,
            mounts={f"all://{httpx.URL(GITHUB_URL).host}": github},
            trust_env=False,
        ) as browser:
            yield browser

    @asynccontextmanager
    async def sign_in(self, login: str, next_url: str = PAGE) -> AsyncIterator[httpx.AsyncClient]:
        """Yields a browser in which a person has signed in, through nginx."""
        async with self.open_browser() as browser:
            to_github = await browser.get("/login", params={"login": login, "next": next_url})
            back = await browser.get(to_github.headers["location"])
            done = await browser.get(back.headers["location"])
            assert done.headers["location"] == next_url
            yield browser


@pytest.fixture
async def site(tmp_path: Path, settings: Settings, clock: Clock) -> AsyncIterator[Site]:
    """A site for sponsors: nginx in front of static pages and the service."""
    for folder, name, text in (
        ("members", "index.html", SECRET),
        ("pages", "403.html", f'{REFUSAL}: <!--# echo var="sponsor_url" -->'),
        ("pages", "500.html", "nobody can tell"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(text)
    port, sock = free_port(), bind("127.0.0.1", 0)
    origin = f"http://127.0.0.1:{port}"
    github = create_github(clock, origin=origin)
    app = create_app(
        settings.model_copy(
            update={"public_url": origin, "trusted_proxies": (ip_network("127.0.0.1"),)}
        ),
        github_transport=httpx.ASGITransport(github.app),
        clock=clock,
    )
    async with run_server(app, sock), run_nginx(tmp_path, port=port, service_port=port_of(sock)):
        yield Site(origin, github)


async def test_a_sponsor_of_ten_dollars_sees_the_page(site: Site) -> None:
    """The sponsor's tier is exactly the one that nginx requires."""
    async with site.sign_in("monthly") as browser:
        page = await browser.get(PAGE)

    assert (page.status_code, page.text) == (200, SECRET)


@pytest.mark.parametrize("login", ["private", "stranger", "former"])
async def test_a_person_without_entitlement_sees_where_to_sponsor(site: Site, login: str) -> None:
    """One sponsors with five dollars, one sponsors nobody, and one is a former sponsor."""
    async with site.sign_in(login) as browser:
        page = await browser.get(PAGE)

    assert (page.status_code, page.text) == (403, f"{REFUSAL}: {SPONSOR_URL}")


async def test_expired_entitlements_close_the_page(site: Site, local: Redis, clock: Clock) -> None:
    """The same browser requests the page before and after the end of the entitlement."""
    ended = int(clock().timestamp()) - 1
    async with site.sign_in("monthly") as browser:
        before = await browser.get(PAGE)
        await local.hset(keys.sponsorship(SPONSORABLE, 48210377), "valid_until", ended)
        after = await browser.get(PAGE)

    assert (before.status_code, after.status_code) == (200, 403)
    assert after.text.startswith(REFUSAL)


async def test_a_person_without_a_session_is_sent_to_the_sign_in_and_back(site: Site) -> None:
    """Nginx passes the requested address on, so the sign-in leads back there."""
    async with site.open_browser() as browser:
        page = await browser.get(f"{PAGE}?a=1&b=2")

    back = quote(f"{PAGE}?a=1&b=2", safe="/")
    assert page.status_code == 302
    assert page.headers["location"] == f"{site.origin}/login?next={back}"
    assert SECRET not in page.text


async def test_the_inner_addresses_are_closed_from_outside(site: Site) -> None:
    """Only nginx itself may request the check and the error pages."""
    async with site.open_browser() as browser:
        answers = [await browser.get("/_sponsor"), await browser.get("/_pages/403.html")]

    assert [answer.status_code for answer in answers] == [404, 404]
