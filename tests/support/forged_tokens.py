"""Forged tokens, with headers and claims that no library would write."""

import base64
import json

from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey

HOSTILE_HEADERS: list[object] = [
    {"alg": "ES256", "crit": 5},
    {"alg": "ES256", "crit": [5]},
    {"alg": "ES256", "crit": None},
    {"alg": "ES256", "crit": [[]]},
    {"alg": "ES256", "b64": False, "crit": ["b64", 5]},
    {"alg": ["ES256"]},
    {"alg": {"ES256": 1}},
    {"alg": None},
    ["alg"],
    ["alg", "crit"],
    "alg",
    None,
    5,
]

_NAMES = st.sampled_from(
    ["alg", "kid", "crit", "b64", "typ", "jku", "jwk", "x5c", "iss", "aud", "sub", "exp", "nbf"]
)
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), _NAMES
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)


def encode_part(content: object) -> str:
    """Returns `content` as JSON in the encoding of a token's part."""
    return encode(json.dumps(content).encode())


def forged_tokens() -> st.SearchStrategy[tuple[str, str, bool]]:
    """Returns a strategy for the arguments of `forge`: arbitrary headers and claims."""
    text = _VALUES.map(json.dumps)
    fields = st.dictionaries(_NAMES, _VALUES, max_size=4)
    header = st.one_of(
        fields.map(lambda more: json.dumps({"alg": "ES256", **more})),
        fields.map(lambda more: json.dumps({**more, "alg": "ES256"})),
        text,
    )
    return st.tuples(header, st.one_of(fields.map(json.dumps), text), st.booleans())


def forge(key: ECKey, header: str, claims: str, has_kid: bool) -> str:
    """Returns a token signed by `key`, with any header and claims, with or without the key's id."""
    if has_kid and header.startswith("{"):
        header = json.dumps({**json.loads(header), "kid": key.thumbprint()})
    body = f"{encode(header.encode())}.{encode(claims.encode())}"
    signature = jws.JWSRegistry.algorithms["ES256"].sign(body.encode(), key)
    return f"{body}.{encode(signature)}"


def encode(data: bytes) -> str:
    """Returns bytes in base64url without padding, the encoding of tokens (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
