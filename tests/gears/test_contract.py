"""What RedisGears 1.2.9 does, as far as our scripts rely on it; the host has to do the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.gears.conftest import Gears


async def test_a_registration_answers_ok(gears: Gears) -> None:
    """Who deploys has no other sign that it is live."""
    assert await gears.upload("GB().register('user:*')", "ID", "one") == b"OK"
    assert list(await gears.sessions()) == ["one"]


async def test_registrations_outlive_a_kill(gears: Gears) -> None:
    """A crash must not disconnect the application from its durable copy."""
    await gears.upload(
        "GB().foreach(lambda r: execute('INCR', 'n')).register('user:*', mode='sync')"
    )

    await gears.restart(kill=True)

    await gears.client.sadd("user:1", "a")
    assert await gears.client.get("n") == b"1"
