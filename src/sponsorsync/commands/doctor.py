"""`sponsorsync doctor`: checks the settings and both Redises, and gives advice."""

import os
import time
from contextlib import AsyncExitStack
from typing import Any, cast

from pydantic import SecretStr, TypeAdapter

from sponsorsync.diagnostics import Diagnostic, Level, fail_unless, print_diagnostics, warn_unless
from sponsorsync.domain.errors import SettingsError, StoreError
from sponsorsync.gears.checks import examine_gears
from sponsorsync.redis_pair import open_local_gears
from sponsorsync.settings import Settings, find_unknown_names, variable_of
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore, create_store
from sponsorsync.store.reconciliations import ReconciliationStore
from sponsorsync.sync.listener import NEEDED_FLAGS, parse_flags
from sponsorsync.sync.shared_database import refuse_shared_server

_DIAGNOSTICS = TypeAdapter(list[Diagnostic])
_PINGS = 5
_SLOW_MS = 50.0
_CLOCK_S = 1.0
_OLDEST = (6, 2)
_START_IT = "Start it, or correct its address."
# What to do about a server that does not answer, by a part of the error.
_ADVICE = {
    "authority": "Name the file of the authority's certificate: ssl_ca_certs=, or REDISENT_CA.",
    "another name": "Use the name, or the IP address, that the certificate is for.",
    "file that": "Correct the path of the file in the address, or REDISENT_CA.",
    "user or": "Correct its user or password.",
    "does not permit": "Permit the command to the user (ACL SETUSER).",
}
_LOSSLESS_POLICIES = ("noeviction", "volatile-")


async def examine(settings: Settings) -> list[Diagnostic]:
    """Returns the diagnostics; changes nothing but a key that it removes."""
    diagnostics = _examine_settings(settings)
    answering = []
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
                answering.append(store)
            except StoreError as error:
                diagnostics.append(_explain(f"{name} Redis", error))
        match answering:
            case [local, durable]:
                diagnostics.append(await _examine_pair(local, durable, settings=settings))
    return diagnostics


async def run_doctor(settings: Settings, *, as_json: bool) -> bool:
    """Prints the diagnostics; returns whether none is an error."""
    diagnostics = await examine(settings)
    if as_json:
        print(_DIAGNOSTICS.dump_json(diagnostics, indent=2).decode())  # noqa: T201 - the CLI's word
    else:
        print_diagnostics(diagnostics)
    return not any(each.level is Level.ERROR for each in diagnostics)


def _explain(subject: str, error: StoreError) -> Diagnostic:
    """Shows the cause as well: it names the host and the port, or the user and the command."""
    advice = next((advice for word, advice in _ADVICE.items() if word in str(error)), _START_IT)
    seen = str(error) if error.__cause__ is None else f"{error} ({error.__cause__})"
    return Diagnostic(subject, Level.ERROR, seen, advice)


async def _examine_pair(
    local: RedisStore, durable: RedisStore, *, settings: Settings
) -> Diagnostic:
    subject = "local and durable"
    try:
        await refuse_shared_server(
            local, durable, allows_two_databases=settings.allow_shared_server
        )
    except (SettingsError, StoreError) as error:
        return Diagnostic(subject, Level.ERROR, str(error), "Correct one of the two addresses.")
    return Diagnostic(subject, Level.OK, "are two databases")


async def _examine_comparisons(store: RedisStore, settings: Settings) -> list[Diagnostic]:
    reconciliations = ReconciliationStore(store, sponsorables=settings.sponsorables)
    failed = await reconciliations.load_failed()
    return [
        Diagnostic(
            "comparison with GitHub",
            Level.WARNING,
            f"failed at {each.at:%Y-%m-%d %H:%M} UTC for {sponsorable}: {each.reason}",
            "Run `sponsorsync reconcile`: it repairs what webhooks have missed.",
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
        Diagnostic(name, Level.WARNING, "is not a setting", "Correct its name, or remove it.")
        for name in find_unknown_names(os.environ)
    ]
    try:
        settings.require_for_service()
    except SettingsError as error:
        diagnostics.append(
            Diagnostic("settings", Level.ERROR, str(error), "Set it, or run `sponsorsync dev`.")
        )
    for name, value, advice in (
        (
            "SPONSORSYNC_DURABLE_URL",
            settings.durable_address,
            "Set it: without a durable Redis nothing outlives the local one.",
        ),
        (
            "SPONSORSYNC_WEBHOOK_SECRET",
            settings.webhook_secret,
            "Set it: GitHub's webhook reports a change at once, not at the next login.",
        ),
        (
            "SPONSORSYNC_MAINTAINER_TOKEN",
            settings.maintainer_token,
            "Set it: without the maintainer's token nothing compares with GitHub.",
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
    is_new = tuple(int(part) for part in version.split(".")[:2]) >= _OLDEST
    advice = f"Use {'.'.join(map(str, _OLDEST))} or newer: SMISMEMBER is needed."
    return fail_unless(is_new, subject, f"{product} {version}", advice)


async def _examine_latency(subject: str, store: RedisStore) -> Diagnostic:
    times_ms = []
    for _ in range(_PINGS):
        began = time.perf_counter()
        await store.run("PING")
        times_ms.append(1000 * (time.perf_counter() - began))
    median_ms = sorted(times_ms)[_PINGS // 2]
    seen = f"answers in {median_ms:.1f} ms (median of {_PINGS})"
    return warn_unless(median_ms <= _SLOW_MS, subject, seen, "Run the service nearer to it.")


async def _examine_clock(subject: str, store: RedisStore) -> Diagnostic:
    seconds, micros = cast("tuple[int, int]", await store.run("TIME"))
    ahead_s = seconds + micros / 1e6 - time.time()
    seen = f"its clock is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} ours"
    advice = "Synchronize both clocks with NTP: entitlements end by its clock."
    return warn_unless(abs(ahead_s) <= _CLOCK_S, subject, seen, advice)


def _examine_persistence(subject: str, info: dict[str, Any], *, is_local: bool) -> Diagnostic:
    if info.get("aof_last_write_status", "ok") != "ok":
        seen = "cannot write its append-only file"
        return Diagnostic(subject, Level.ERROR, seen, "Free disk space.")
    has_aof = info.get("aof_enabled") == 1
    seen = "appends to a file (AOF)" if has_aof else "has no append-only file"
    lost = "changes that were not relayed yet" if is_local else "the sponsors' data"
    check = warn_unless if is_local else fail_unless
    return check(has_aof, subject, seen, f"Set `appendonly yes`: a crash would lose {lost}.")


def _examine_eviction(subject: str, info: dict[str, Any]) -> Diagnostic:
    policy = str(info.get("maxmemory_policy", "unknown"))
    is_lossless = policy.startswith(_LOSSLESS_POLICIES)
    advice = "Set noeviction or volatile-…: other policies evict keys without a TTL."
    return fail_unless(is_lossless, subject, f"maxmemory-policy is {policy}", advice)


async def _examine_shape(subject: str, store: RedisStore, info: dict[str, Any]) -> Diagnostic:
    if info.get("role") != "master":
        advice = "Configure the primary's address: SponsorSync writes to it."
        return Diagnostic(subject, Level.ERROR, "is a replica", advice)
    if not info.get("run_id"):
        advice = "Run `sponsorsync verify --fix` after its restarts: they are not noticed."
        return Diagnostic(subject, Level.WARNING, "shows no run_id", advice)
    reason = await store.find_cluster()
    advice = "Use a server, or database, of one shard."
    return fail_unless(reason is None, subject, reason or "is a primary of one shard", advice)


async def _examine_notifications(subject: str, store: RedisStore) -> Diagnostic:
    try:
        reply = await store.run("CONFIG", "GET", "notify-keyspace-events")
    except StoreError:
        advice = f"Make sure that its flags include {''.join(sorted(NEEDED_FLAGS))}."
        return Diagnostic(subject, Level.WARNING, "does not show its notification flags", advice)
    flags = parse_flags(cast("dict[bytes, bytes]", reply))
    missing = "".join(sorted(NEEDED_FLAGS - flags))
    seen = f"lacks notification flags {missing}" if missing else "sends the needed notifications"
    advice = (
        f"CONFIG SET notify-keyspace-events {''.join(sorted(flags | NEEDED_FLAGS))}, or "
        "SPONSORSYNC_MANAGE_NOTIFICATIONS=true: without them only `sponsorsync verify` notices "
        "changes that others write."
    )
    return warn_unless(not missing, subject, seen, advice)


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
    advice = "Run `sponsorsync verify`: it shows each dead letter with its reason."
    return fail_unless(not dead_letters, subject, seen, advice)
