"""The scripts as they are shipped, live in an engine, with a replica of the service beside them."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from sponsorsync.gears.scripts import load_scripts
from sponsorsync.store import keys
from tests.support.gears import CONFIG, REQUIREMENT
from tests.support.sync import COLLECTION, PERSON, open_pair
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from sponsorsync.gears.scripts import GearsConfig
    from tests.gears.conftest import Gears
    from tests.support.sync import Pair

OTHER = PERSON + 1
SET = keys.preferences(PERSON, COLLECTION)
META = keys.meta(PERSON)
VERSION = f"v:{COLLECTION}"
PRESENCE = f"p:{COLLECTION}"
ANOTHER_INCARNATION = "0" * 40

_VARIABLES = ("HOST", "PORT", "USER", "PWD", "TLS", "CA")
# The environment of a server is that of its start; but a script of a test may change it.
_POINT = """
import os
import redis

for name, value in {environment!r}.items():
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
redis.sponsorsync_down_until = 0.0
redis.sponsorsync_applied = 0
"""


@dataclass
class Shipped:
    """An engine for our scripts, and a replica of the service whose own engine does not run.

    Attributes:
        pair: Local is the engine's Redis.
    """

    gears: Gears
    pair: Pair

    async def upload(
        self,
        *names: str,
        config: GearsConfig = CONFIG,
        constants: Mapping[str, float] | None = None,
    ) -> None:
        """Uploads scripts as the service does, or with other values of some constants."""
        for script in load_scripts(names, config):
            text = script.text
            for name, value in (constants or {}).items():
                text, count = re.subn(rf"(?m)^{name} = .*", f"{name} = {value}", text)
                assert count == 1, name
            options = ("ID", script.session, "UPGRADE", "REQUIREMENTS", *script.requirements)
            assert await self.gears.upload(text, *options) == b"OK"

    async def run_batch(self, name: str, config: GearsConfig = CONFIG) -> dict[str, Any] | None:
        """Runs a batch script; returns its counts, or None where it left none."""
        [script] = load_scripts([name], config)
        results, errors = await self.gears.upload(script.text, "REQUIREMENTS", *script.requirements)
        assert errors == []
        if not results:
            return None
        [record] = results
        counts: dict[str, Any] = json.loads(record)
        return counts

    async def settle(self) -> None:
        """Returns when durable has confirmed everybody, and no entry is left."""
        await until(self.is_settled)

    async def is_settled(self) -> bool:
        """Whether it has."""
        return not await self.pair.dirty() and await self.pair.local.xlen(keys.OUTBOX) == 0

    async def hold(self) -> None:
        """Keeps the drain from asking durable: local counts as not yet compared."""
        await self.pair.local.hset(keys.INCARNATIONS, "local", ANOTHER_INCARNATION)

    async def come_back_older(self, keys_then: Mapping[str, bytes | None]) -> None:
        """Makes local what it was, as a restart on an older file does; nobody has compared it."""
        await self.pair.local.set(keys.NAMES["CAPTURE_SUPPRESSED"], "1")
        for key, dump in keys_then.items():
            await self.pair.local.delete(key)
            if dump is not None:
                await self.pair.local_store.run("RESTORE", key, 0, dump)
        await self.pair.local.delete(keys.NAMES["CAPTURE_SUPPRESSED"])
        forget = "import redis\nredis.sponsorsync_local_compared = False\n"
        assert await self.gears.upload(forget, "REQUIREMENTS", REQUIREMENT) == b"OK"
        await self.hold()

    async def keep_for_later(self) -> dict[str, bytes | None]:
        """Returns what `come_back_older` takes."""
        names = (SET, META, keys.PEOPLE, keys.CONFIRMED)
        return {
            name: cast("bytes | None", await self.pair.local_store.run("DUMP", name))
            for name in names
        }

    async def let_go(self) -> None:
        """Ends that."""
        await self.pair.compare()

    async def version(self) -> int:
        """Returns the local version of the collection."""
        return int(await self.pair.local.hget(META, VERSION) or 0)

    async def registration(self, description: str) -> dict[str, Any]:
        """Returns the one that a script describes so."""
        [found] = [
            each
            for each in await self.gears.registrations()
            if each["desc"] == description.encode()
        ]
        data: dict[str, Any] = found["RegistrationData"]
        return data

    async def drain_waits(self) -> bool:
        """Whether the drain has met an outage, and will try again."""
        data = await self.registration("sponsorsync drain")
        return bool(data["status"] == b"WAITING_FOR_RETRY_ON_FAILURE")

    async def no_registration_failed(self) -> bool:
        """Whether every callback has come to its end so far."""
        return all(
            each["RegistrationData"]["numFailures"] == 0
            for each in await self.gears.registrations()
        )


def environment_for(url: str) -> dict[str, str]:
    """Returns the variables that name a durable in the environment of a server."""
    parts = urlsplit(url)
    named = {"REDISENT_HOST": str(parts.hostname), "REDISENT_PORT": str(parts.port)}
    return named | ({"REDISENT_PWD": parts.password} if parts.password else {})


async def point_at(gears: Gears, environment: Mapping[str, str]) -> None:
    """Makes scripts find this durable, and nothing else of it, as after a restart."""
    names = {f"REDISENT_{name}": None for name in _VARIABLES}
    script = _POINT.format(environment=names | dict(environment))
    assert await gears.upload(script, "REQUIREMENTS", REQUIREMENT) == b"OK"
    await gears.durable.client_kill_filter(_type="normal", skipme=True)


@asynccontextmanager
async def run_shipped(gears: Gears, durable_url: str) -> AsyncIterator[Shipped]:
    """Yields an engine whose scripts find this durable; none is uploaded yet."""
    await point_at(gears, environment_for(durable_url))
    async with open_pair(gears.url, durable_url) as pair:
        await pair.durable.flushall()
        try:
            yield Shipped(gears, pair)
        finally:
            with suppress(Exception):  # a test has ended the engine
                await point_at(gears, environment_for(gears.durable_url))
