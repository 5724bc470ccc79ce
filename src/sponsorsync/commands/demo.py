"""`sponsorsync demo`: shows the main features with embedded servers, and checks each answer."""

import asyncio
import json
import os
import secrets
import signal
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape

from sponsorsync.commands.dev import run_stack
from sponsorsync.sandbox.valkey import EmbeddedValkey, find_free_port, run_valkey
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.store.connect import Argument, RedisStore, create_store

_SPONSOR = "monthly"
_FORMER = "former"
_NODES = ["C5162902", "C0012854", "C0027051"]
_SEARCH_RESULT = ["C0000001", "C5162902", "C0000002", "C0027051", "C0000001"]
_FIRST_DURABLE_PORT, _DURABLE_PORTS = 26379, 5000
_PATIENCE_S = 20.0
_POLL_S = 0.05
_FILTERED = ["C0000001", "C0000002", "C0000001"]


@dataclass
class _Steps:
    """Prints requests, answers and checks, and records the failed checks."""

    browser: httpx.AsyncClient
    console: Console
    admin_token: str
    local: RedisStore
    durable: RedisStore
    failed: list[str] = field(default_factory=list)

    def begin(self, number: int, title: str) -> None:
        self.console.print(f"\n[bold]{number}. {escape(title)}[/bold]")

    async def ask(self, method: str, url: str, body: object = None) -> httpx.Response:
        """Sends a request as a page in a browser would; redirects are not followed."""
        path = urlsplit(url).path
        headers = {"Accept": "application/json"} if path != "/login" else {}
        if path.startswith("/admin/"):
            headers["Authorization"] = f"Bearer {self.admin_token}"
        response = await self.browser.request(method, url, json=body, headers=headers)
        sent = "" if body is None else f" {json.dumps(body)}"
        self.console.print(f"   [cyan]→ {method} {escape(url + sent)}[/cyan]", soft_wrap=True)
        shown = response.headers.get("location") or response.text
        self.console.print(f"   ← {response.status_code} {escape(shown)}", soft_wrap=True)
        return response

    async def ask_redis(self, store: RedisStore, *command: Argument) -> Any:  # noqa: ANN401 - Redis's
        reply = await store.run(*command)
        self.console.print(f"   [cyan]{store.name}> {' '.join(map(str, command))}[/cyan]")
        self.console.print(f"   {escape(_readable(reply))}", soft_wrap=True)
        return reply

    def check(self, what: str, *, ok: bool) -> None:
        mark = "[green]✓[/green]" if ok else "[red]✗[/red]"
        self.console.print(f"   {mark} {escape(what)}")
        if not ok:
            self.failed.append(what)


class _Durable:
    """A durable Redis that can be killed and brought back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = AsyncExitStack()
        self._server: EmbeddedValkey | None = None

    async def start(self) -> str:
        """Starts the server, with its earlier data and port if any; returns its address."""
        # Other embedded servers use another range of ports: none takes this port in the outage.
        first = _FIRST_DURABLE_PORT + os.getpid() % _DURABLE_PORTS
        port = self._server.port if self._server else find_free_port(first)
        self._server = await self._running.enter_async_context(
            run_valkey(self._folder, name="durable", port=port)
        )
        return self._server.url

    async def kill(self) -> None:
        if self._server is not None:
            os.kill(self._server.pid, signal.SIGKILL)
        await self.stop()

    async def stop(self) -> None:
        await self._running.aclose()


async def run_demo() -> bool:
    """Runs every step and returns whether all succeeded.

    It ignores the environment: it uses embedded servers and a simulated GitHub, and a directory
    that is removed at the end.
    """
    console = Console(highlight=False)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sponsorsync-demo-")))
        server = _Durable(folder / "durable")
        stack.push_async_callback(server.stop)
        admin_token = SecretStr(secrets.token_urlsafe(24))
        # model_construct reads neither the environment nor a file.
        settings = Settings.model_construct(
            data_dir=folder,
            port=find_free_port(18000),
            reconcile_hours=0,
            durable_url=SecretStr(await server.start()),
            admin_token=admin_token,
        )
        running = await stack.enter_async_context(run_stack(settings))
        browser = await stack.enter_async_context(
            httpx.AsyncClient(base_url=running.settings.origin)
        )
        urls = {"local": running.settings.redis_url, "durable": running.settings.durable_url}
        local, durable = (
            create_store(url, name=name, pool_size=1)
            for name, url in urls.items()
            if url is not None
        )
        stack.push_async_callback(local.aclose)
        stack.push_async_callback(durable.aclose)
        steps = _Steps(browser, console, admin_token.get_secret_value(), local, durable)
        person_id = await _sign_in(steps)
        await _exclude(steps)
        await _filter(steps)
        await _show_redis(steps, person_id, running.settings.sponsorables[0])
        await _grant_entitlement(steps)
        await _lose_local_data(steps)
        await _survive_outage(steps, person_id, server)
    if steps.failed:
        console.print(f"\n[bold red]{len(steps.failed)} checks failed.[/bold red]")
    else:
        console.print("\n[bold green]Every step succeeded.[/bold green]")
    return not steps.failed


async def _sign_in(steps: _Steps) -> int:
    steps.begin(1, f"Sign in with GitHub as the sponsor '{_SPONSOR}'")
    done = await _sign_in_at_github(steps)
    steps.check("the callback returns the person", ok=done.json().get("user_login") == _SPONSOR)
    me = (await steps.ask("GET", "/me")).json()
    entitlement = me["entitlements"][0]
    steps.check(f"entitled: {entitlement['reason']}", ok=entitlement["status"] == "entitled")
    person_id: int = me["profile"]["id"]
    return person_id


async def _sign_in_at_github(steps: _Steps, who: str = _SPONSOR) -> httpx.Response:
    to_github = await steps.ask("GET", f"/login?login={who}")
    back = await steps.ask("GET", to_github.headers["location"])
    return await steps.ask("GET", back.headers["location"])


async def _exclude(steps: _Steps) -> None:
    steps.begin(2, "Exclude three nodes, the first one with the original call")
    first, *others = _NODES
    answer = await steps.ask("POST", "/exclude", {"id": first})
    steps.check("the original call returns a message", ok="message" in answer.json())
    answer = await steps.ask("POST", "/preferences/mnodes", {"add": others})
    steps.check("three nodes are excluded now", ok=answer.json().get("size") == len(_NODES))


async def _filter(steps: _Steps) -> None:
    steps.begin(3, "Filter a search result")
    answer = await steps.ask("POST", "/preferences/mnodes/filter", {"ids": _SEARCH_RESULT})
    steps.check(
        "the excluded nodes are left out, the order is kept",
        ok=answer.json().get("ids") == _FILTERED,
    )


async def _show_redis(steps: _Steps, person_id: int, sponsorable: str) -> None:
    steps.begin(4, "The data in the application's Redis and in the durable one")
    members = await steps.ask_redis(steps.local, "SMEMBERS", keys.preferences(person_id, "mnodes"))
    steps.check(
        "the application reads a plain set of node ids",
        ok={m.decode() for m in members} == set(_NODES),
    )
    await steps.ask_redis(steps.local, "HGETALL", keys.user_details(person_id))
    await steps.ask_redis(steps.local, "HGETALL", keys.sponsorship(sponsorable, person_id))
    entitled = await steps.ask_redis(
        steps.local, "SISMEMBER", keys.sponsors(sponsorable), person_id
    )
    steps.check("the index of entitled people contains the person", ok=entitled == 1)
    await _wait_until_confirmed(steps)
    copy = await steps.ask_redis(steps.durable, "SMEMBERS", keys.preferences(person_id, "mnodes"))
    steps.check("durable has the same data", ok=set(copy) == set(members))


async def _grant_entitlement(steps: _Steps) -> None:
    steps.begin(5, f"An administrator entitles '{_FORMER}', a former sponsor")
    await _sign_in_at_github(steps, _FORMER)
    answer = await steps.ask("GET", "/auth/sponsor")
    steps.check("forward auth refuses them", ok=answer.status_code == httpx.codes.FORBIDDEN)
    decision = {"reason": "Wrote the translation", "actor": "an operator"}
    answer = await steps.ask("PUT", f"/admin/overrides/{_FORMER}", decision)
    steps.check(
        "an override entitles them", ok=answer.json()["entitlement"]["source"] == "override"
    )
    answer = await steps.ask("GET", "/auth/sponsor")
    steps.check("forward auth allows them at once", ok=answer.status_code == httpx.codes.NO_CONTENT)


async def _lose_local_data(steps: _Steps) -> None:
    steps.begin(6, "The application's Redis loses all data, including the sessions")
    await steps.ask_redis(steps.local, "FLUSHALL")
    answer = await steps.ask("GET", "/preferences/mnodes")
    steps.check("the session is lost", ok=answer.status_code == httpx.codes.UNAUTHORIZED)
    await _sign_in_at_github(steps)
    answer = await steps.ask("GET", "/preferences/mnodes")
    steps.check(
        "after signing in again, the first read is complete",
        ok=answer.json().get("items") == sorted(_NODES),
    )


async def _survive_outage(steps: _Steps, person_id: int, server: _Durable) -> None:
    steps.begin(7, "The durable Redis is killed and restarted")
    await server.kill()
    answer = await steps.ask("DELETE", f"/preferences/mnodes/{_NODES[0]}")
    steps.check("a change is accepted during the outage", ok=answer.json().get("removed") == 1)
    answer = await steps.ask("GET", "/readyz")
    steps.check(
        "the service reports the outage", ok=answer.json()["durable"]["status"] == "unavailable"
    )
    await server.start()
    await _wait_until_confirmed(steps)
    key = keys.preferences(person_id, "mnodes")
    here = await steps.ask_redis(steps.local, "SMEMBERS", key)
    there = await steps.ask_redis(steps.durable, "SMEMBERS", key)
    steps.check("both Redises have the same data again", ok=set(here) == set(there) != set())


async def _wait_until_confirmed(steps: _Steps) -> None:
    ends = asyncio.get_running_loop().time() + _PATIENCE_S
    # ASYNC110: the condition is in another process, so no event can signal it.
    while await steps.local.run("SCARD", keys.DIRTY) and asyncio.get_running_loop().time() < ends:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)
    left = await steps.ask_redis(steps.local, "SMEMBERS", keys.DIRTY)
    steps.check("durable has confirmed all changes", ok=not left)


def _readable(reply: object) -> str:
    if isinstance(reply, bytes):
        return reply.decode(errors="replace")
    if isinstance(reply, dict):
        return ", ".join(f"{_readable(k)}={_readable(v)}" for k, v in reply.items())
    if isinstance(reply, list | tuple | set):
        return "[" + ", ".join(sorted(map(_readable, reply))) + "]"
    return str(reply)
