"""An engine for the shipped RedisGears scripts, and a replica of the service beside it."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from sponsorsync.gears.scripts import BATCH, GearsConfig, load_scripts
from sponsorsync.store import keys
from tests.support.gears import CONFIG, REQUIREMENT
from tests.support.gears_engine import Gears
from tests.support.sync import COLLECTION, PERSON, Pair, open_pair
from tests.support.waiting import until

OTHER = PERSON + 1
SET = keys.preferences(PERSON, COLLECTION)
META = keys.meta(PERSON)
VERSION = f"v:{COLLECTION}"
PRESENCE = f"p:{COLLECTION}"
ANOTHER_INCARNATION = "0" * 40

_VARIABLES = ("HOST", "PORT", "USER", "PWD", "TLS", "CA")
# Scripts read the server's environment. From outside, nothing can change it while the server runs,
# so this script, which runs inside the server, does.
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
    """A RedisGears engine for our scripts, and a replica whose sync loops do not run.

    Attributes:
        pair: The replica and its servers; local is the Redis with RedisGears.
    """

    gears: Gears
    pair: Pair

    async def upload(
        self,
        *names: str,
        config: GearsConfig = CONFIG,
        constants: Mapping[str, float] | None = None,
    ) -> None:
        """Uploads scripts as the service does, with other values for the given constants."""
        for script in load_scripts(names, config):
            text = script.text
            for name, value in (constants or {}).items():
                text, count = re.subn(rf"(?m)^{name} = .*", f"{name} = {value}", text)
                assert count == 1, name
            options = ("ID", script.session, "UPGRADE", "REQUIREMENTS", *script.requirements)
            assert await self.gears.upload(text, *options) == b"OK"

    async def run_batch(self, name: str, config: GearsConfig = CONFIG) -> dict[str, Any] | None:
        """Runs a batch script; returns its counts, or None if there were no records."""
        [script] = load_scripts([name], config)
        results, errors = await self.gears.upload(script.text, "REQUIREMENTS", *script.requirements)
        assert errors == []
        if not results:
            return None
        [record] = results
        counts: dict[str, Any] = json.loads(record)
        return counts

    async def run_batches(self) -> list[dict[str, Any] | None]:
        """Runs all batch scripts; returns their counts."""
        return [await self.run_batch(name) for name in BATCH]

    async def add_person(self, *items: str, entitled: bool = True) -> None:
        """Signs a person in, adds items, and waits until the scripts have sent everything."""
        await self.pair.add_person(*items, entitled=entitled)
        await self.settle()

    async def settle(self) -> None:
        """Waits until durable has confirmed all people and the outbox is empty."""
        await until(self.is_settled)

    async def is_settled(self) -> bool:
        """Returns whether no person is dirty and the outbox is empty."""
        return not await self.pair.dirty() and await self.pair.local.xlen(keys.OUTBOX) == 0

    async def hold_drain(self) -> None:
        """Stops the drain: after a change of its incarnation, local must first be compared."""
        await self.pair.local.hset(keys.INCARNATIONS, "local", ANOTHER_INCARNATION)

    async def come_back_older(self, older_keys: Mapping[str, bytes | None]) -> None:
        """Restores older keys on local, as a restart on an older file does, before a comparison."""
        await self.pair.local.set(keys.NAMES["CAPTURE_SUPPRESSED"], "1")
        for key, dump in older_keys.items():
            await self.pair.local.delete(key)
            if dump is not None:
                await self.pair.local_store.run("RESTORE", key, 0, dump)
        await self.pair.local.delete(keys.NAMES["CAPTURE_SUPPRESSED"])
        script = "import redis\nredis.sponsorsync_local_compared = False\n"
        assert await self.gears.upload(script, "REQUIREMENTS", REQUIREMENT) == b"OK"
        await self.hold_drain()

    async def dump_keys(self) -> dict[str, bytes | None]:
        """Returns dumps of the present keys, for `come_back_older`."""
        names = (SET, META, keys.PEOPLE, keys.CONFIRMED)
        return {
            name: cast("bytes | None", await self.pair.local_store.run("DUMP", name))
            for name in names
        }

    async def release_drain(self) -> None:
        """Compares the servers, so that the drain goes on after `hold_drain`."""
        await self.pair.compare()

    async def version(self) -> int:
        """Returns the version of the collection on local."""
        return int(await self.pair.local.hget(META, VERSION) or 0)

    async def registration(self, description: str) -> dict[str, Any]:
        """Returns the data of the registration with this description."""
        [found] = [
            each
            for each in await self.gears.registrations()
            if each["desc"] == description.encode()
        ]
        data: dict[str, Any] = found["RegistrationData"]
        return data

    async def drain_waits(self) -> bool:
        """Returns whether the drain has failed and waits for its next try."""
        data = await self.registration("sponsorsync drain")
        return bool(data["status"] == b"WAITING_FOR_RETRY_ON_FAILURE")

    async def no_registration_failed(self) -> bool:
        """Returns whether all callbacks have succeeded so far."""
        return all(
            each["RegistrationData"]["numFailures"] == 0
            for each in await self.gears.registrations()
        )


def environment_for(url: str) -> dict[str, str]:
    """Returns the environment variables that name a durable's address and password."""
    parts = urlsplit(url)
    named = {"REDISENT_HOST": str(parts.hostname), "REDISENT_PORT": str(parts.port)}
    return named | ({"REDISENT_PWD": parts.password} if parts.password else {})


async def point_at(gears: Gears, environment: Mapping[str, str]) -> None:
    """Changes the scripts' environment, as a restart of the server with another one would."""
    names = {f"REDISENT_{name}": None for name in _VARIABLES}
    script = _POINT.format(environment=names | dict(environment))
    assert await gears.upload(script, "REQUIREMENTS", REQUIREMENT) == b"OK"
    await gears.durable.client_kill_filter(_type="normal", skipme=True)


@asynccontextmanager
async def run_shipped(gears: Gears, durable_url: str) -> AsyncIterator[Shipped]:
    """Yields an engine without scripts, whose environment names this durable."""
    await point_at(gears, environment_for(durable_url))
    async with open_pair(gears.url, durable_url) as pair:
        await pair.durable.flushall()
        try:
            yield Shipped(gears, pair)
        finally:
            with suppress(Exception):  # fails if the test has ended the engine
                await point_at(gears, environment_for(gears.durable_url))
