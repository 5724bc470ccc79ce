"""Rules for the origin of a request, and for the target of a redirect after the sign-in.

Browsers send the origin of a request in `Sec-Fetch-Site` and `Origin`, which no page can forge.
https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
"""

from collections.abc import Collection, Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# The attempt's cookie contains the URL, and browsers drop cookies of more than 4,096 bytes.
_MAX_NEXT_BYTES = 1500

CHANGING_GETS = frozenset({"/exclude"})
"""Paths whose GET changes something, for old clients; they are guarded like POST."""


def needs_guard(method: str, path: str) -> bool:
    """Returns whether a request may change something."""
    return method not in _SAFE_METHODS or (method == "GET" and path in CHANGING_GETS)


def is_trusted_request(
    method: str, headers: Mapping[str, str], *, origin: str, allowed_origins: Collection[str]
) -> bool:
    """Returns whether a request comes from our own pages, an allowed origin, or no browser at all.

    Browsers send Origin with every POST, so a POST without Origin and Sec-Fetch-Site does not come
    from a browser. With a GET they may omit Origin, and on plain http to another host than
    localhost also Sec-Fetch-Site. Then Referer decides; without Referer, a request that accepts
    HTML is refused, as it may open a page. `Origin: null`, as of a sandboxed page, is not trusted.
    """
    claimed = headers.get("origin")
    if claimed is not None:
        return claimed == origin or claimed in allowed_origins
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    if method != "GET":
        return True
    referer = headers.get("referer")
    if referer is not None:
        return referer.startswith(tuple(f"{each}/" for each in (origin, *allowed_origins)))
    return "text/html" not in headers.get("accept", "")


def choose_next_url(wanted: str | None, *, default: str, allowed_origins: Collection[str]) -> str:
    r"""Returns the next URL after a login: a path, a URL of an allowed origin, or `default`.

    Browsers read `//host`, `/\host` and `/<tab>/host` as other sites, so these are not paths.
    """
    if not wanted or len(wanted.encode(errors="replace")) > _MAX_NEXT_BYTES:
        return default
    if any(character <= " " or character == "\\" for character in wanted):
        return default
    if wanted.startswith("/"):
        return default if wanted.startswith("//") else wanted
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return default
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    return wanted if origin in allowed_origins else default


def find_forwarded_url(
    headers: Mapping[str, str],
    *,
    peer: str | None,
    trusted_proxies: Collection[IPv4Network | IPv6Network],
) -> str | None:
    """Returns the URL that a trusted proxy reports in X-Forwarded-… headers, else None.

    Any client can send these headers, so only those of a peer in `trusted_proxies` are used.
    """
    if peer is None or not _is_within(peer, trusted_proxies):
        return None
    scheme, host, uri = (
        headers.get(f"x-forwarded-{each}", "") for each in ("proto", "host", "uri")
    )
    return f"{scheme}://{host}{uri}" if scheme and host and uri.startswith("/") else None


def _is_within(peer: str, networks: Collection[IPv4Network | IPv6Network]) -> bool:
    try:
        address = ip_address(peer)
    except ValueError:  # not an IP address: a Unix socket, or a test's client
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
