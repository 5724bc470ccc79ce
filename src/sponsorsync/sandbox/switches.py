"""The switches for the faults of the simulated GitHub."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from sponsorsync.sandbox.switchboard import Switchboard

Endpoint = Literal["token", "user", "emails", "account", "graphql", "revoke"]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)
"""The endpoints that the service calls; the browser calls the authorize page."""

Iss = Literal["right", "absent", "wrong"]


@dataclass
class Switches(Switchboard):
    """With all switches off, GitHub without a fault."""

    latency_ms: int = field(default=0, metadata={"help": "milliseconds to wait before each answer"})
    fail: set[Endpoint] = field(
        default_factory=set, metadata={"help": "answer 502 with a page", "options": ENDPOINTS}
    )
    bad_json: set[Endpoint] = field(
        default_factory=set,
        metadata={"help": "answer 200 with half of the JSON", "options": ENDPOINTS},
    )
    rate_limited: bool = field(
        default=False,
        metadata={"help": "the hour's points are used up: REST 403, GraphQL 200 with RATE_LIMITED"},
    )
    secondary_limit: bool = field(
        default=False, metadata={"help": "too many requests at a time: 429 with Retry-After"}
    )
    retry_after_s: int = field(
        default=60, metadata={"help": "the seconds in Retry-After, for both limits"}
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
            "help": "the login of an organization that restricts OAuth apps: its members get "
            "null for it, with FORBIDDEN beside the data"
        },
    )
    own_private_hidden: bool = field(
        default=False,
        metadata={"help": "hide a private sponsorship from the sponsor's own token too (unproven)"},
    )
    insufficient_scopes: bool = field(
        default=False, metadata={"help": "GraphQL treats each token as one without any scope"}
    )
    iss: Iss = field(
        default="right",
        metadata={"help": "the issuer in the redirect (RFC 9207)", "options": get_args(Iss)},
    )
