"""The faults one can switch on in the simulated GitHub."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from sponsorsync.sandbox.switchboard import Switchboard

Endpoint = Literal["token", "user", "emails", "account", "graphql", "revoke"]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)
"""What the service calls; the authorize page is called by the browser."""

Iss = Literal["right", "absent", "wrong"]


@dataclass
class Switches(Switchboard):
    """All off: GitHub as it is on a good day."""

    latency_ms: int = field(default=0, metadata={"help": "wait so long before each answer"})
    fail: set[Endpoint] = field(
        default_factory=set, metadata={"help": "answer 502 with a page", "options": ENDPOINTS}
    )
    bad_json: set[Endpoint] = field(
        default_factory=set, metadata={"help": "answer 200 with half of it", "options": ENDPOINTS}
    )
    rate_limited: bool = field(
        default=False,
        metadata={"help": "the hour's points are used up: REST 403, GraphQL 200 with RATE_LIMITED"},
    )
    secondary_limit: bool = field(
        default=False, metadata={"help": "too many at a time: 429 with Retry-After"}
    )
    retry_after_s: int = field(
        default=60, metadata={"help": "what Retry-After says under either limit"}
    )
    forbidden: bool = field(
        default=False,
        metadata={"help": "each sponsorship field is null, with an error of type FORBIDDEN"},
    )
    forbidden_data: bool = field(
        default=False, metadata={"help": "FORBIDDEN likewise, but the null swallows all of data"}
    )
    partial: bool = field(
        default=False,
        metadata={"help": "the first node of each page is null, with an error beside the data"},
    )
    restricting_organization: str = field(
        default="",
        metadata={
            "help": "this organization restricts OAuth apps: to its members it is null, with "
            "FORBIDDEN beside the data"
        },
    )
    own_private_hidden: bool = field(
        default=False,
        metadata={"help": "hide a private sponsorship from the sponsor's own token too (unproven)"},
    )
    insufficient_scopes: bool = field(
        default=False, metadata={"help": "GraphQL takes each token for one without any scope"}
    )
    iss: Iss = field(
        default="right",
        metadata={"help": "the issuer in the redirect (RFC 9207)", "options": get_args(Iss)},
    )
