"""The main job on a stack of its own: each step's real request and answer, checked."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape

from sponsorsync.commands.dev import run_stack
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.store.connect import create_store

if TYPE_CHECKING:
    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from sponsorsync.store.connect import Argument, RedisStore

_WHO = "monthly"
_FORMER = "former"
_NODES = ["C5162902", "C0012854", "C0027051"]
_SEARCH_RESULT = ["C0000001", "C5162902", "C0000002", "C0027051", "C0000001"]
_FIRST_DURABLE_PORT, _DURABLE_PORTS = 26379, 5000
_PATIENCE_S = 20.0
_POLL_S = 0.05
_FILTERED = ["C0000001", "C0000002", "C0000001"]


class _Walk:
    """Prints what is asked and answered, and remembers whether it was right."""

    def __init__(
        self, browser: httpx.AsyncClient, console: Console, admin_token: SecretStr
    ) -> None:
        self._browser = browser
        self._console = console
        self._admin_token = admin_token.get_secret_value()
        self.wrong: list[str] = []

    def begin(self, number: int, title: str) -> None:
        self._console.print(f"\n[bold]{number}. {escape(title)}[/bold]")

    async def ask(self, method: str, url: str, body: object = None) -> httpx.Response:
        """Sends a request as a browser's page would; redirects are shown, not followed."""
        path = urlsplit(url).path
        headers = {"Accept": "application/json"} if path != "/login" else {}
        if path.startswith("/admin/"):
            headers["Authorization"] = f"Bearer {self._admin_token}"
        response = await self._browser.request(method, url, json=body, headers=headers)
        sent = "" if body is None else f" {json.dumps(body)}"
        self._console.print(f"   [cyan]→ {method} {escape(url + sent)}[/cyan]", soft_wrap=True)
        shown = response.headers.get("location") or response.text
        self._console.print(f"   ← {response.status_code} {escape(shown)}", soft_wrap=True)
        return response

    async def ask_redis(self, store: RedisStore, *command: Argument) -> Any:  # noqa: ANN401 - Redis's
        reply = await store.run(*command)
        self._console.print(f"   [cyan]{store.name}> {' '.join(map(str, command))}[/cyan]")
        self._console.print(f"   {escape(_readable(reply))}", soft_wrap=True)
        return reply

    def expect(self, what: str, *, true: bool) -> None:
        mark = "[green]✓[/green]" if true else "[red]✗[/red]"
        self._console.print(f"   {mark} {escape(what)}")
        if not true:
            self.wrong.append(what)


class _Durable:
    """A durable Redis that can be killed and brought back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = AsyncExitStack()
        self._server: EmbeddedValkey | None = None

    async def start(self) -> str:
        """Starts it on its data, on the port that it had before; returns its address."""
        from sponsorsync.sandbox.valkey import (  # noqa: PLC0415 - the extra `sandbox`
            find_free_port,
            run_valkey,
        )

        # Apart from where other embedded servers look for a port: one of them might take this one
        # while the server is away.
        first = _FIRST_DURABLE_PORT + os.getpid() % _DURABLE_PORTS
        port = self._server.port if self._server else find_free_port(first)
        self._server = await self._running.enter_async_context(
            run_valkey(self._folder, name="durable", port=port)
        )
        return self._server.url

    async def kill(self) -> None:
        """Ends it without a warning."""
        if self._server is not None:
            os.kill(self._server.pid, signal.SIGKILL)
        await self.stop()

    async def stop(self) -> None:
        """Ends it."""
        await self._running.aclose()


async def run_demo() -> bool:
    """Returns whether every step was right.

    It uses embedded servers and a simulated GitHub, whatever the environment says, in a directory
    that is gone afterwards.
    """
    from sponsorsync.sandbox.valkey import find_free_port  # noqa: PLC0415 - the extra `sandbox`

    console = Console(highlight=False)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sponsorsync-demo-")))
        durable = _Durable(folder / "durable")
        stack.push_async_callback(durable.stop)
        admin_token = SecretStr(secrets.token_urlsafe(24))
        # Constructed, so that neither the environment nor a file has a say.
        settings = Settings.model_construct(
            data_dir=folder,
            port=find_free_port(18000),
            reconcile_hours=0,  # whoever signs in is all that it is about
            durable_url=SecretStr(await durable.start()),
            admin_token=admin_token,
        )
        running = await stack.enter_async_context(run_stack(settings))
        browser = await stack.enter_async_context(
            httpx.AsyncClient(base_url=running.settings.origin)
        )
        walk = _Walk(browser, console, admin_token)
        await _walk_through(walk, running.settings, durable)
    if walk.wrong:
        console.print(f"\n[bold red]{len(walk.wrong)} of the steps went wrong.[/bold red]")
    else:
        console.print("\n[bold green]Every step was right.[/bold green]")
    return not walk.wrong


async def _walk_through(walk: _Walk, settings: Settings, server: _Durable) -> None:
    async with AsyncExitStack() as stack:
        local, durable = (
            create_store(_present(url), name=name, pool_size=1)
            for url, name in ((settings.redis_url, "local"), (settings.durable_url, "durable"))
        )
        stack.push_async_callback(local.aclose)
        stack.push_async_callback(durable.aclose)
        person_id = await _sign_in(walk)
        await _exclude(walk)
        await _filter(walk)
        await _look_into_redis(walk, local, durable, person_id, settings.sponsorables[0])
        await _entitlement_by_hand(walk)
        await _lose_everything(walk, local)
        await _outlive_an_outage(walk, local, durable, person_id, server)


async def _sign_in(walk: _Walk) -> int:
    walk.begin(1, f"Sign in with GitHub as the sponsor '{_WHO}'")
    done = await _go_round_by_github(walk)
    walk.expect("the callback answers who it is", true=done.json().get("user_login") == _WHO)
    me = (await walk.ask("GET", "/me")).json()
    entitlement = me["entitlements"][0]
    walk.expect(f"entitled: {entitlement['reason']}", true=entitlement["status"] == "entitled")
    person_id: int = me["profile"]["id"]
    return person_id


async def _go_round_by_github(walk: _Walk, who: str = _WHO) -> httpx.Response:
    to_github = await walk.ask("GET", f"/login?login={who}")
    back = await walk.ask("GET", to_github.headers["location"])
    return await walk.ask("GET", back.headers["location"])


async def _exclude(walk: _Walk) -> None:
    walk.begin(2, "Exclude three nodes, the first one with the original call")
    first, *others = _NODES
    answer = await walk.ask("POST", "/exclude", {"id": first})
    walk.expect("the original call answers a message", true="message" in answer.json())
    answer = await walk.ask("POST", "/preferences/mnodes", {"add": others})
    walk.expect("three are excluded now", true=answer.json().get("size") == len(_NODES))


async def _filter(walk: _Walk) -> None:
    walk.begin(3, "Filter a search result")
    answer = await walk.ask("POST", "/preferences/mnodes/filter", {"ids": _SEARCH_RESULT})
    walk.expect(
        "the excluded nodes are left out, the order is kept",
        true=answer.json().get("ids") == _FILTERED,
    )


async def _look_into_redis(
    walk: _Walk, local: RedisStore, durable: RedisStore, person_id: int, sponsorable: str
) -> None:
    walk.begin(4, "What is in the application's Redis, and what has reached the durable one")
    members = await walk.ask_redis(local, "SMEMBERS", keys.preferences(person_id, "mnodes"))
    walk.expect(
        "a plain set of node ids, as the application reads it",
        true={m.decode() for m in members} == set(_NODES),
    )
    await walk.ask_redis(local, "HGETALL", keys.user_details(person_id))
    await walk.ask_redis(local, "HGETALL", keys.sponsorship(sponsorable, person_id))
    entitled = await walk.ask_redis(local, "SISMEMBER", keys.sponsors(sponsorable), person_id)
    walk.expect("the index of the entitled knows the person", true=entitled == 1)
    await _until_confirmed(walk, local)
    copy = await walk.ask_redis(durable, "SMEMBERS", keys.preferences(person_id, "mnodes"))
    walk.expect("durable holds the same", true=set(copy) == set(members))


async def _entitlement_by_hand(walk: _Walk) -> None:
    walk.begin(5, f"An administrator entitles '{_FORMER}', who sponsors no more")
    await _go_round_by_github(walk, _FORMER)
    answer = await walk.ask("GET", "/auth/sponsor")
    walk.expect(
        "what is for sponsors is closed to them", true=answer.status_code == httpx.codes.FORBIDDEN
    )
    decision = {"reason": "Wrote the translation", "actor": "an operator"}
    answer = await walk.ask("PUT", f"/admin/overrides/{_FORMER}", decision)
    walk.expect(
        "they are entitled by hand", true=answer.json()["entitlement"]["source"] == "override"
    )
    answer = await walk.ask("GET", "/auth/sponsor")
    walk.expect("it is open at once", true=answer.status_code == httpx.codes.NO_CONTENT)


async def _lose_everything(walk: _Walk, local: RedisStore) -> None:
    walk.begin(6, "The application's Redis loses everything, sessions included")
    await walk.ask_redis(local, "FLUSHALL")
    answer = await walk.ask("GET", "/preferences/mnodes")
    walk.expect("the session is gone with it", true=answer.status_code == httpx.codes.UNAUTHORIZED)
    await _go_round_by_github(walk)
    answer = await walk.ask("GET", "/preferences/mnodes")
    walk.expect("the very first read is right", true=answer.json().get("items") == sorted(_NODES))


async def _outlive_an_outage(
    walk: _Walk, local: RedisStore, durable: RedisStore, person_id: int, server: _Durable
) -> None:
    walk.begin(7, "The durable Redis is killed, and comes back")
    await server.kill()
    answer = await walk.ask("DELETE", f"/preferences/mnodes/{_NODES[0]}")
    walk.expect("a change is taken while it is away", true=answer.json().get("removed") == 1)
    answer = await walk.ask("GET", "/readyz")
    walk.expect("and says so", true=answer.json()["durable"]["status"] == "unavailable")
    await server.start()
    await _until_confirmed(walk, local)
    key = keys.preferences(person_id, "mnodes")
    here = await walk.ask_redis(local, "SMEMBERS", key)
    there = await walk.ask_redis(durable, "SMEMBERS", key)
    walk.expect("both sides are equal again", true=set(here) == set(there) != set())


async def _until_confirmed(walk: _Walk, local: RedisStore) -> None:
    """Waits until nobody is left whose changes durable has not confirmed."""
    ends = asyncio.get_running_loop().time() + _PATIENCE_S
    # ASYNC110: the condition is in another process, which no event of ours can tell.
    while await local.run("SCARD", keys.DIRTY) and asyncio.get_running_loop().time() < ends:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)
    left = await walk.ask_redis(local, "SMEMBERS", keys.DIRTY)
    walk.expect("nothing waits for durable any more", true=not left)


def _readable(reply: object) -> str:
    if isinstance(reply, bytes):
        return reply.decode(errors="replace")
    if isinstance(reply, dict):
        return ", ".join(f"{_readable(k)}={_readable(v)}" for k, v in reply.items())
    if isinstance(reply, list | tuple | set):
        return "[" + ", ".join(sorted(map(_readable, reply))) + "]"
    return str(reply)


def _present(url: SecretStr | None) -> SecretStr:
    if url is None:
        raise AssertionError("unreachable: the stack is complete")
    return url
