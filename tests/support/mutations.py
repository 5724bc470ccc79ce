"""Random mutations of GitHub's webhook events; a seed makes them repeatable."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from sponsorsync.github.webhooks import sign

_MOMENTS = [
    "2019-12-20T19:24:46+00:00",
    "2026-01-31T00:00:00Z",
    "2031-01-01T00:00:00+05:30",
    "2000-01-01T00:00:00Z",
    "2200-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01T00:00:00.123456789Z",
    "2026-01-01T00:00:00",
    "2026-W01-1",
    "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00",
]
_TEXTS = [
    "",
    " ",
    "\0",
    "\ud800",
    "\U0001f600",
    "\u0130" * 100,
    "a" * 5000,
    "public",
    "private",
    "-1",
]
_NUMBERS = [0, -1, 1, 100, 10**9, 10**9 + 1, 2**53, 2**53 + 1, 2**64, -(2**63), 10**30]
_FLOATS = [0.5, 1000.0, 1e308, float("inf"), float("nan")]
_VALUES: list[object] = [
    *(None, True, False, [], {}, [[]], {"id": 7}, {"login": 7}, {"from": {}}, [{"from": []}]),
    *_MOMENTS,
    *_TEXTS,
    *_NUMBERS,
    *_FLOATS,
]
_LIKELY: list[tuple[tuple[str, ...], list[object]]] = [
    (
        ("action",),
        [
            *("created", "cancelled", "edited", "tier_changed", "pending_cancellation"),
            *("pending_tier_change", "unheard-of", None, {}),
        ],
    ),
    (("effective_date",), [*_MOMENTS, None, 7]),
    (("changes",), [None, {}, {"tier": None}, {"tier": {"from": None}}, []]),
    (("changes", "tier", "from", "monthly_price_in_cents"), [*_NUMBERS, *_FLOATS, "500", None]),
    (("sponsorship", "created_at"), [*_MOMENTS, None, 7]),
    (("sponsorship", "privacy_level"), ["public", "private", "secret", None, ["public"]]),
    (("sponsorship", "sponsor"), [None, {}, [], {"id": "7"}, {"id": 7}]),
    (("sponsorship", "sponsor", "id"), [*_NUMBERS, 7, 8, True, "7", 7.0]),
    (("sponsorship", "sponsorable", "login"), ["MAINTAINER", "somebody", *_TEXTS, None]),
    (("sponsorship", "tier"), [None, {}, [], "a tier"]),
    (("sponsorship", "tier", "monthly_price_in_cents"), [*_NUMBERS, *_FLOATS, "500", None]),
    (("sponsorship", "tier", "is_one_time"), [True, False, None, "true", 1]),
]
_NAMES = ["action", "sponsorship", "sponsor", "tier", "from", "id", "login", "more", "", "\ud800"]
_BYTES = [b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"{", b"]", b'"', b"[" * 100_000, b"9" * 5000]
_EVENTS = [b"", b"ping", b"star", b"sponsorship ", "spönsorship".encode("latin-1")]
_DELIVERIES = [b"", b"1", b"2", b"one two", b"x" * 300, "zwölf".encode("latin-1"), b"\r\n"]


@dataclass(frozen=True)
class Request:
    """A request to the webhook."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]


def create_request(body: bytes, secret: str, event: bytes, delivery: bytes) -> Request:
    """Returns a webhook request that is signed with a secret."""
    return Request(body, _create_headers(event, delivery, sign(body, secret).encode()))


def mutate(bodies: Sequence[bytes], rng: Random, secret: str) -> Request:
    """Returns a request with one of the events after one to three changes, signed correctly."""
    event = json.loads(rng.choice(bodies))
    for _ in range(rng.randint(1, 3)):
        _change(event, rng)
    body = json.dumps(event, ensure_ascii=rng.random() < 0.9).encode(errors="surrogatepass")
    if rng.random() < 0.1:
        body = _damage(body, rng)
    kind = b"sponsorship" if rng.random() < 0.95 else rng.choice(_EVENTS)
    # Mostly a new id: the webhook ignores a delivery whose id is repeated or missing.
    delivery = b"%d" % rng.getrandbits(64) if rng.random() < 0.9 else rng.choice(_DELIVERIES)
    return create_request(body, secret, kind, delivery)


def forge(request: Request, rng: Random, secret: str) -> Request:
    """Returns a copy of a request with a wrong signature, or without a signature."""
    good = sign(request.body, secret)
    signature = rng.choice(
        [
            None,
            "",
            "sha256=",
            sign(request.body, f"{secret}."),
            sign(request.body + b" ", secret),
            good.removeprefix("sha256="),
            good.upper(),
            good[:-1],
            f"{good} ",
            f"{good}, {good}",
            good.replace("sha256", "sha1"),
            "sha256=" + "é" * 64,
        ]
    )
    _, event = request.headers[0]
    _, delivery = request.headers[1]
    return Request(
        request.body,
        _create_headers(
            event, delivery, None if signature is None else signature.encode("latin-1")
        ),
    )


def _create_headers(
    event: bytes, delivery: bytes, signature: bytes | None
) -> tuple[tuple[bytes, bytes], ...]:
    signed = () if signature is None else ((b"x-hub-signature-256", signature),)
    return (
        (b"x-github-event", event),
        (b"x-github-delivery", delivery),
        (b"content-type", b"application/json"),
        *signed,
    )


def _change(event: dict[str, Any], rng: Random) -> None:
    if rng.random() < 0.5:
        path, values = rng.choice(_LIKELY)
        _put(event, path, rng.choice(values))
        return
    places = _find_places(event)
    if not places:
        return
    holder, name = rng.choice(places)
    match rng.randrange(6):
        case 0:
            del holder[name]
        case 1:
            other, other_name = rng.choice(places)
            holder[name] = json.loads(json.dumps(other[other_name]))
        case 2:
            holder[name] = [holder[name]]
        case 3:
            holder[name] = _tweak(holder[name], rng)
        case 4 if isinstance(holder, dict):
            holder[rng.choice(_NAMES)] = holder.pop(name)
        case _:
            holder[name] = rng.choice(_VALUES)


def _put(event: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for name in path[:-1]:
        inner = event.setdefault(name, {})
        if not isinstance(inner, dict):
            return
        event = inner
    event[path[-1]] = value


def _find_places(value: object) -> list[tuple[Any, Any]]:
    """Returns every place of a nested value: the object or list, and the name or index in it."""
    inner: Sequence[tuple[Any, object]] = ()
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    places: list[tuple[Any, Any]] = [(value, name) for name, _ in inner]
    for _, each in inner:
        places += _find_places(each)
    return places


def _tweak(value: object, rng: Random) -> object:
    if isinstance(value, str) and value:
        at = rng.randrange(len(value))
        return value[:at] + rng.choice("0123456789-:Z+ ") + value[at + 1 :]
    if isinstance(value, int):
        return value + rng.choice([-1, 1, 10**9, -value, -2 * value])
    return str(value)


def _damage(body: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(body) + 1)
    match rng.randrange(5):
        case 0:
            return body[:at]
        case 3:
            return json.dumps(rng.choice(_VALUES)).encode()
        case 1:
            return body[:at] + rng.randbytes(1) + body[at + 1 :]
        case 2:
            return body.decode(errors="replace").encode("utf-16")
        case _:
            return body[:at] + rng.choice(_BYTES) + body[at:]
