"""`sponsorsync doctor`: looks at the settings and both Redises, and says what to do about each."""

from __future__ import annotations

import os
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, cast

from pydantic import SecretStr, TypeAdapter

from sponsorsync.diagnostics import Diagnostic, Level, print_diagnostics
from sponsorsync.domain.errors import SettingsError, StoreError
from sponsorsync.gears.checks import examine_gears
from sponsorsync.redis_pair import open_local_gears
from sponsorsync.settings import Settings, find_unknown_names, variable_of
from sponsorsync.store import keys
from sponsorsync.store.connect import create_store
from sponsorsync.store.reconciliations import load_failed_reconciles
from sponsorsync.sync.listener import NEEDED_FLAGS, parse_flags

if TYPE_CHECKING:
    from sponsorsync.store.connect import RedisStore

_FINDINGS = TypeAdapter(list[Diagnostic])
_PINGS = 5
_SLOW_MS = 50.0
_CLOCK_S = 1.0
_OLDEST = (6, 2)
_LOSSLESS_POLICIES = ("noeviction", "volatile-")


async def examine(settings: Settings) -> list[Diagnostic]:
    """Returns what was found; nothing is changed anywhere."""
    diagnostics = _examine_settings(settings)
    async with AsyncExitStack() as stack:
        for name, url in (("local", settings.redis_url), ("durable", settings.durable_address)):
            if url is None:
                continue
            store = create_store(url, name=name, pool_size=1)
            stack.push_async_callback(store.aclose)
            try:
                diagnostics += await _examine_server(store, is_local=name == "local")
                if name == "local":
                    diagnostics += await _examine_comparisons(store, settings)
                if name == "local" and settings.engine != "plain":
                    diagnostics += await _examine_gears(settings)
            except StoreError as error:
                advice = "Start it, or correct its address, user and password."
                diagnostics.append(Diagnostic(f"{name} Redis", Level.ERROR, str(error), advice))
    return diagnostics


async def run_doctor(settings: Settings, *, as_json: bool) -> bool:
    """Prints the findings; returns whether none is an error."""
    diagnostics = await examine(settings)
    if as_json:
        print(_FINDINGS.dump_json(diagnostics, indent=2).decode())  # noqa: T201 - the CLI's word
    else:
        print_diagnostics(diagnostics)
    return not any(finding.level is Level.ERROR for finding in diagnostics)


async def _examine_comparisons(store: RedisStore, settings: Settings) -> list[Diagnostic]:
    failed = await load_failed_reconciles(store)
    return [
        Diagnostic(
            "comparing with GitHub",
            Level.WARNING,
            f"failed at {each.at:%Y-%m-%d %H:%M} UTC for {sponsorable}: {each.reason}",
            "Whatever webhooks miss stays so until `sponsorsync reconcile` is complete.",
        )
        for sponsorable, each in failed.items()
        if sponsorable in settings.sponsorables
    ]


async def _examine_gears(settings: Settings) -> list[Diagnostic]:
    async with open_local_gears(settings) as client:
        if settings.engine == "auto" and await client.load_version() is None:
            return []
        return await examine_gears(client)


def _examine_settings(settings: Settings) -> list[Diagnostic]:
    diagnostics = [
        Diagnostic(variable_of(name), Level.OK, _show(getattr(settings, name)))
        for name in Settings.model_fields
    ]
    diagnostics += [
        Diagnostic(name, Level.WARNING, "is no setting", "Correct its name, or remove it.")
        for name in find_unknown_names(os.environ)
    ]
    try:
        settings.require_for_service()
    except SettingsError as error:
        diagnostics.append(Diagnostic("settings", Level.ERROR, str(error), "Set it, or use `dev`."))
    for name, value, advice in (
        (
            "SPONSORSYNC_DURABLE_URL",
            settings.durable_address,
            "Without a durable Redis nothing outlives the local one.",
        ),
        (
            "SPONSORSYNC_WEBHOOK_SECRET",
            settings.webhook_secret,
            "Without GitHub's webhook news of a sponsorship wait for the next login or comparison.",
        ),
        (
            "SPONSORSYNC_MAINTAINER_TOKEN",
            settings.maintainer_token,
            "Without the maintainer's token nobody compares with GitHub: what was missed stays so.",
        ),
    ):
        if value is None:
            diagnostics.append(Diagnostic(name, Level.WARNING, "is not set", advice))
    if settings.github_client_id and settings.origin.startswith("http://"):
        diagnostics.append(
            Diagnostic(
                "SPONSORSYNC_PUBLIC_URL",
                Level.WARNING,
                f"{settings.origin} is not https",
                "Put the service behind TLS: cookies are then Secure and bound to the host.",
            )
        )
    return diagnostics


def _show(value: object) -> str:
    if value is None or value == ():
        return "not set"
    if isinstance(value, SecretStr):
        return "set (not shown)"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


async def _examine_server(store: RedisStore, *, is_local: bool) -> list[Diagnostic]:
    info = cast("dict[str, Any]", await store.run("INFO", "everything"))
    subject = f"{store.name} Redis"
    diagnostics = [
        _examine_version(subject, info),
        await _examine_latency(subject, store),
        await _examine_clock(subject, store),
        _examine_persistence(subject, info, is_local=is_local),
        _examine_eviction(subject, info),
        await _examine_shape(subject, store, info),
    ]
    if is_local:
        diagnostics += [
            await _examine_notifications(subject, store),
            await _examine_backlog(subject, store),
        ]
    return diagnostics


def _examine_version(subject: str, info: dict[str, Any]) -> Diagnostic:
    product = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version"))
    seen = f"{product} {version}"
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        return Diagnostic(
            subject, Level.ERROR, seen, f"Use {oldest} or newer: SMISMEMBER is needed."
        )
    return Diagnostic(subject, Level.OK, seen)


async def _examine_latency(subject: str, store: RedisStore) -> Diagnostic:
    times_ms = []
    for _ in range(_PINGS):
        began = time.perf_counter()
        await store.run("PING")
        times_ms.append(1000 * (time.perf_counter() - began))
    median_ms = sorted(times_ms)[_PINGS // 2]
    seen = f"answers in {median_ms:.1f} ms (median of {_PINGS})"
    if median_ms > _SLOW_MS:
        return Diagnostic(subject, Level.WARNING, seen, "Run the service nearer to it.")
    return Diagnostic(subject, Level.OK, seen)


async def _examine_clock(subject: str, store: RedisStore) -> Diagnostic:
    seconds, micros = cast("tuple[int, int]", await store.run("TIME"))
    ahead_s = seconds + micros / 1e6 - time.time()
    seen = f"its clock is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} ours"
    if abs(ahead_s) > _CLOCK_S:
        return Diagnostic(
            subject, Level.WARNING, seen, "Let NTP set both: entitles end by its clock."
        )
    return Diagnostic(subject, Level.OK, seen)


def _examine_persistence(subject: str, info: dict[str, Any], *, is_local: bool) -> Diagnostic:
    has_aof = info.get("aof_enabled") == 1
    seen = "appends to a file (AOF)" if has_aof else "has no append-only file"
    if info.get("aof_last_write_status", "ok") != "ok":
        return Diagnostic(
            subject, Level.ERROR, "cannot write its append-only file", "Free some disk."
        )
    if has_aof:
        return Diagnostic(subject, Level.OK, seen)
    what = "changes that were not relayed yet" if is_local else "what belongs to sponsors"
    level = Level.WARNING if is_local else Level.ERROR
    return Diagnostic(subject, level, seen, f"Set `appendonly yes`: a crash would lose {what}.")


def _examine_eviction(subject: str, info: dict[str, Any]) -> Diagnostic:
    policy = str(info.get("maxmemory_policy", "unknown"))
    seen = f"maxmemory-policy is {policy}"
    if policy.startswith(_LOSSLESS_POLICIES):
        return Diagnostic(subject, Level.OK, seen)
    advice = "Set noeviction or volatile-…: others evict keys that are nobody's to lose."
    return Diagnostic(subject, Level.ERROR, seen, advice)


async def _examine_shape(subject: str, store: RedisStore, info: dict[str, Any]) -> Diagnostic:
    if info.get("role") != "master":
        advice = "Name the primary: SponsorSync writes to it."
        return Diagnostic(subject, Level.ERROR, "is a replica", advice)
    if not info.get("run_id"):
        advice = (
            "After a restart of it, run `sponsorsync verify --fix`: it is not noticed by itself."
        )
        return Diagnostic(subject, Level.WARNING, "shows no run_id", advice)
    reason = await store.find_cluster()
    if reason is not None:
        return Diagnostic(subject, Level.ERROR, reason, "Use a server, or database, of one shard.")
    return Diagnostic(subject, Level.OK, "is a primary of one shard")


async def _examine_notifications(subject: str, store: RedisStore) -> Diagnostic:
    try:
        reply = await store.run("CONFIG", "GET", "notify-keyspace-events")
    except StoreError:
        advice = f"Make sure that its flags have {''.join(sorted(NEEDED_FLAGS))}."
        return Diagnostic(subject, Level.WARNING, "does not show its notification flags", advice)
    flags = parse_flags(cast("dict[bytes, bytes]", reply))
    missing = "".join(sorted(NEEDED_FLAGS - flags))
    if not missing:
        return Diagnostic(subject, Level.OK, "sends the notifications that are listened to")
    wanted = "".join(sorted(flags | NEEDED_FLAGS))
    advice = (
        f"CONFIG SET notify-keyspace-events {wanted}, or SPONSORSYNC_MANAGE_NOTIFICATIONS=true: "
        "else what is written past the service is noticed by `sponsorsync verify` only."
    )
    return Diagnostic(subject, Level.WARNING, f"lacks notification flags {missing}", advice)


async def _examine_backlog(subject: str, store: RedisStore) -> Diagnostic:
    dirty, entries, dead_letters = cast(
        "list[int]",
        await store.run_together(
            [("SCARD", keys.DIRTY), ("XLEN", keys.OUTBOX), ("HLEN", keys.DEAD_LETTERS)]
        ),
    )
    seen = (
        f"{dirty} people wait for durable, {entries} entries in the outbox, "
        f"{dead_letters} dead letters"
    )
    if dead_letters:
        return Diagnostic(subject, Level.ERROR, seen, "`sponsorsync verify` says who and why.")
    return Diagnostic(subject, Level.OK, seen)
