"""`sponsorsync dev`: runs everything; parts that are not configured are embedded or simulated."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from sponsorsync.app import create_app
from sponsorsync.commands.serve import (
    announce,
    bind,
    bind_next_free,
    port_of,
    run_server,
    settle_memory,
    wait_for_first,
)
from sponsorsync.commands.start import stop_signals
from sponsorsync.domain.errors import SettingsError, SponsorSyncError
from sponsorsync.linked_source import callback_path
from sponsorsync.sandbox.hooks import Hook
from sponsorsync.sandbox.linked_services import LINKED_SERVICES, LinkedService
from sponsorsync.sandbox.valkey import run_valkey
from sponsorsync.settings import Settings
from sponsorsync.web import login
from sponsorsync.web.webhooks import WEBHOOK_PATH

SIMULATED_MAINTAINER = "maintainer"

_REDISES = {"local Redis", "durable Redis"}
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Stack:
    """The running parts, and the settings with their addresses.

    `embedded` describes each embedded or simulated part by name. Each part has a task, which ends
    early only if the part has died.
    """

    settings: Settings
    embedded: Mapping[str, str]
    tasks: tuple[asyncio.Task[object], ...]


@asynccontextmanager
async def run_stack(settings: Settings) -> AsyncIterator[Stack]:
    """Runs the service while the context is open, and a substitute for each unconfigured part.

    Raises:
        SettingsError: A setting is malformed.
        SponsorSyncError: A part could not start; the message names it and the reason.
    """
    async with AsyncExitStack() as stack:
        overrides: dict[str, Any] = {}
        embedded: dict[str, str] = {}
        tasks: list[asyncio.Task[object]] = []
        for name, address, field in (
            ("local", settings.redis_url, "redis_url"),
            ("durable", settings.durable_address, "durable_url"),
        ):
            if address is None:
                folder = settings.data_dir / name
                valkey = await stack.enter_async_context(run_valkey(folder, name=name))
                died = asyncio.create_task(valkey.wait_closed(), name=f"the {name} Redis")
                stack.callback(died.cancel)
                overrides[field] = SecretStr(valkey.url)
                embedded[f"{name} Redis"] = f"embedded, {valkey.url} (data in {folder})"
                tasks.append(died)
        if settings.redis_url is None:
            overrides["manage_notifications"] = True  # no other program uses this Redis
        if settings.github_client_id is None:
            more, server = await _start_github(stack, settings)
            overrides |= more
            embedded["GitHub"] = (
                f"simulated, {more['github_url']} (choose a person, or make it fail)"
            )
            tasks.append(server)
            for number, service in enumerate(LINKED_SERVICES):
                if not service.is_configured(settings):
                    url, more, server = await start_linked_service(
                        stack,
                        service,
                        first_port=settings.port + 2 + number,
                        redirect_uri=settings.origin + callback_path(service.source),
                    )
                    overrides |= more
                    embedded[service.name] = f"simulated, {url}"
                    tasks.append(server)
        if "GitHub" in embedded and not embedded.keys() >= _REDISES:
            embedded["Warning"] = "simulated people are written to a real Redis"
        complete = settings.model_copy(update=overrides)
        server = await stack.enter_async_context(
            run_server(create_app(complete), bind(complete.host, complete.port))
        )
        yield Stack(settings=complete, embedded=embedded, tasks=(server, *tasks))


async def run_dev(settings: Settings) -> None:
    """Runs the stack until a signal ends it or a part of it dies.

    Raises:
        SponsorSyncError: A part could not start, or died.
    """
    async with stop_signals() as stop, run_stack(settings) as stack:
        for name, description in stack.embedded.items():
            print(f"{name + ':':<15}{description}")  # noqa: T201 - the command's own output
        settle_memory()
        announce(stack.settings.host, stack.settings.port)
        await wait_for_first(*stack.tasks, stop=stop)
        if not stop.is_set():
            died = next(task.get_name() for task in stack.tasks if task.done())
            raise SponsorSyncError(f"{died} has ended unexpectedly. Its log has the reason.")


async def _start_github(
    stack: AsyncExitStack, settings: Settings
) -> tuple[dict[str, Any], asyncio.Task[None]]:
    try:
        from sponsorsync.sandbox.github import SimulatedGitHub  # noqa: PLC0415 - the extra `sandbox`
    except ImportError:
        raise SettingsError(
            "GITHUB_CLIENT_ID is not set; set it, or install the simulated GitHub with "
            "pip install 'sponsorsync[sandbox]'"
        ) from None
    sock = bind_next_free(_LOOPBACK, settings.port + 1)
    url = f"http://{_LOOPBACK}:{port_of(sock)}"
    client_id, client_secret = "sponsorsync-dev", secrets.token_urlsafe(24)
    sponsorables = settings.sponsorables or (SIMULATED_MAINTAINER,)
    github = SimulatedGitHub(
        client_id=client_id,
        client_secret=client_secret,
        redirect_uris=[settings.origin + login.CALLBACK_PATH],
        maintainer=sponsorables[0],
        url=url,
    )
    webhook_secret = settings.webhook_secret or SecretStr(secrets.token_urlsafe(24))
    secret = webhook_secret.get_secret_value()
    github.send_events_to(Hook(url=settings.origin + WEBHOOK_PATH, secret=secret, base_url=url))
    maintainer = github.people.get_person(sponsorables[0])
    server = await stack.enter_async_context(run_server(github.app, sock))
    return {
        "webhook_secret": webhook_secret,
        "maintainer_token": SecretStr(github.tokens.issue(maintainer)),
        "github_url": url,
        "github_api_url": f"{url}/api",
        "github_client_id": client_id,
        "github_secret": SecretStr(client_secret),
        "sponsorables": sponsorables,
    }, server


async def start_linked_service(
    stack: AsyncExitStack, service: LinkedService, *, first_port: int, redirect_uri: str
) -> tuple[str, dict[str, Any], asyncio.Task[None]]:
    """Serves a simulated service on the loopback, at the first free port, while `stack` is open.

    Returns three values: the service's address; a dict of the settings that make SponsorSync use
    it, by their names; and its task, which ends early only if the service fails.
    """
    sock = bind_next_free(_LOOPBACK, first_port)
    url = f"http://{_LOOPBACK}:{port_of(sock)}"
    app, settings = service.simulate(url, redirect_uri)
    server = await stack.enter_async_context(run_server(app, sock))
    return url, settings, server
