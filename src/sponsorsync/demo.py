"""The main job on a stack of its own: each step's real request and answer, checked."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.markup import escape

from sponsorsync.dev import run_stack
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.store.connect import create_store

if TYPE_CHECKING:
    from pydantic import SecretStr

    from sponsorsync.store.connect import Argument, RedisStore

_WHO = "monthly"
_NODES = ["C5162902", "C0012854", "C0027051"]
_SEARCH_RESULT = ["C0000001", "C5162902", "C0000002", "C0027051", "C0000001"]
_FILTERED = ["C0000001", "C0000002", "C0000001"]


class _Walk:
    """Prints what is asked and answered, and remembers whether it was right."""

    def __init__(self, browser: httpx.AsyncClient, console: Console) -> None:
        self._browser = browser
        self._console = console
        self.wrong: list[str] = []

    def begin(self, number: int, title: str) -> None:
        self._console.print(f"\n[bold]{number}. {escape(title)}[/bold]")

    async def ask(self, method: str, url: str, body: object = None) -> httpx.Response:
        """Sends a request as a browser's page would; redirects are shown, not followed."""
        headers = {"Accept": "application/json"} if urlsplit(url).path != "/login" else {}
        response = await self._browser.request(method, url, json=body, headers=headers)
        sent = "" if body is None else f" {json.dumps(body)}"
        self._console.print(f"   [cyan]→ {method} {escape(url + sent)}[/cyan]", soft_wrap=True)
        shown = response.headers.get("location") or response.text
        self._console.print(f"   ← {response.status_code} {escape(shown)}", soft_wrap=True)
        return response

    async def ask_redis(self, store: RedisStore, *command: Argument) -> Any:  # noqa: ANN401 - Redis's
        reply = await store.run(*command)
        self._console.print(f"   [cyan]local> {' '.join(map(str, command))}[/cyan]")
        self._console.print(f"   {escape(_readable(reply))}", soft_wrap=True)
        return reply

    def expect(self, what: str, *, true: bool) -> None:
        mark = "[green]✓[/green]" if true else "[red]✗[/red]"
        self._console.print(f"   {mark} {escape(what)}")
        if not true:
            self.wrong.append(what)


async def run_demo() -> bool:
    """Returns whether every step was right.

    It uses embedded servers and a simulated GitHub, whatever the environment says, in a directory
    that is gone afterwards.
    """
    from sponsorsync.sandbox.valkey import find_free_port  # noqa: PLC0415 - the extra `sandbox`

    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="sponsorsync-demo-") as folder:
        # Constructed, so that neither the environment nor a file has a say.
        settings = Settings.model_construct(data_dir=Path(folder), port=find_free_port(18000))
        async with (
            run_stack(settings) as stack,
            httpx.AsyncClient(base_url=stack.settings.origin) as browser,
        ):
            walk = _Walk(browser, console)
            await _walk_through(walk, stack.settings)
    if walk.wrong:
        console.print(f"\n[bold red]{len(walk.wrong)} of the steps went wrong.[/bold red]")
    else:
        console.print("\n[bold green]Every step was right.[/bold green]")
    return not walk.wrong


async def _walk_through(walk: _Walk, settings: Settings) -> None:
    local = create_store(_present(settings.redis_url), name="local", pool_size=1)
    try:
        person_id = await _sign_in(walk)
        await _exclude(walk)
        await _filter(walk)
        await _look_into_redis(walk, local, person_id, settings.sponsorables[0])
    finally:
        await local.aclose()


async def _sign_in(walk: _Walk) -> int:
    walk.begin(1, f"Sign in with GitHub as the sponsor '{_WHO}'")
    to_github = await walk.ask("GET", f"/login?login={_WHO}")
    back = await walk.ask("GET", to_github.headers["location"])
    done = await walk.ask("GET", back.headers["location"])
    walk.expect("the callback answers who it is", true=done.json().get("user_login") == _WHO)
    me = (await walk.ask("GET", "/me")).json()
    cover = me["covers"][0]
    walk.expect(f"covered: {cover['reason']}", true=cover["status"] == "covered")
    person_id: int = me["profile"]["id"]
    return person_id


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
    walk: _Walk, local: RedisStore, person_id: int, sponsorable: str
) -> None:
    walk.begin(4, "What is in the application's Redis, and what waits for the durable one")
    members = await walk.ask_redis(local, "SMEMBERS", keys.preferences(person_id, "mnodes"))
    walk.expect(
        "a plain set of node ids, as the application reads it",
        true={m.decode() for m in members} == set(_NODES),
    )
    await walk.ask_redis(local, "HGETALL", keys.user_details(person_id))
    await walk.ask_redis(local, "HGETALL", keys.sponsorship(sponsorable, person_id))
    covered = await walk.ask_redis(local, "SISMEMBER", keys.sponsors(sponsorable), person_id)
    walk.expect("the index of the covered knows the person", true=covered == 1)
    entries = await walk.ask_redis(local, "XRANGE", keys.OUTBOX, "-", "+")
    walk.expect("one entry waits in the outbox, for all of the changes", true=len(entries) == 1)


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
