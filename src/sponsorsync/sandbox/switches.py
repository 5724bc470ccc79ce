"""The switches for the faults of the simulated GitHub."""

from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from sponsorsync.sandbox.switchboard import Switchboard

Endpoint = Literal["token", "user", "emails", "account", "graphql", "revoke"]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)
"""The endpoints that the service calls: all but the authorize page, which the browser calls."""

Iss = Literal["right", "absent", "wrong"]


@dataclass
class Switches(Switchboard):
    """The faults of the simulated GitHub; with these defaults it has none."""

    latency_ms: Annotated[int, "milliseconds to wait before each answer"] = 0
    fail: Annotated[set[Endpoint], "answer 502 with a page", ENDPOINTS] = field(default_factory=set)
    bad_json: Annotated[set[Endpoint], "answer 200 with half of the JSON", ENDPOINTS] = field(
        default_factory=set
    )
    rate_limited: Annotated[
        bool, "the hour's points are used up: REST 403, GraphQL 200 with RATE_LIMITED"
    ] = False
    secondary_limit: Annotated[bool, "too many requests at a time: 429 with Retry-After"] = False
    retry_after_s: Annotated[int, "the seconds in Retry-After, for both limits"] = 60
    forbidden: Annotated[
        bool, "each sponsorship field is null, with an error of type FORBIDDEN"
    ] = False
    forbidden_data: Annotated[bool, "FORBIDDEN likewise, but the null swallows all of data"] = False
    partial: Annotated[
        bool, "the first node of each page is null, with an error beside the data"
    ] = False
    restricting_organization: Annotated[
        str,
        "the login of an organization that restricts OAuth apps: its members get null for it, "
        "with FORBIDDEN beside the data",
    ] = ""
    own_private_hidden: Annotated[
        bool, "hide a private sponsorship from the sponsor's own token too (unproven)"
    ] = False
    insufficient_scopes: Annotated[bool, "GraphQL treats each token as one without any scope"] = (
        False
    )
    iss: Annotated[Iss, "the issuer in the redirect (RFC 9207)", get_args(Iss)] = "right"
