"""The faults one can switch on in the simulated GitHub."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

Endpoint = Literal["token", "user", "emails", "account", "graphql", "revoke"]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)
"""What the service calls; the authorize page is called by the browser."""

Iss = Literal["right", "absent", "wrong"]


@dataclass(frozen=True)
class Row:
    """One switch as the control page shows it."""

    name: str
    value: object
    help: str
    options: tuple[str, ...]


@dataclass
class Switches:
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

    def as_json(self) -> dict[str, object]:
        """All values, with sets as sorted lists."""
        return {row.name: row.value for row in self.rows()}

    def rows(self) -> list[Row]:
        """All switches in the order of this class."""
        return [
            Row(
                name=each.name,
                value=_plain(getattr(self, each.name)),
                help=each.metadata["help"],
                options=each.metadata.get("options", ()),
            )
            for each in fields(self)
        ]

    def change(self, values: Mapping[str, object]) -> list[str]:
        """Set what `values` names, or nothing at all.

        Returns:
            A sentence for each thing that is wrong; empty when the change was made.
        """
        rows = {row.name: row for row in self.rows()}
        known = ", ".join(rows)
        problems = [
            f"unknown switch {name!r}; the switches are {known}" for name in values.keys() - rows
        ]
        problems += [
            problem
            for name in values.keys() & rows
            if (problem := _check(rows[name], values[name]))
        ]
        if not problems:
            for name, value in values.items():
                setattr(self, name, set(value) if isinstance(value, list) else value)
        return sorted(problems)


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, set) else value


def _check(row: Row, value: object) -> str | None:
    """What is wrong with `value`, judged by the value the switch has now."""
    if isinstance(row.value, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(row.value, int):
        # A bool is an int to Python, not to JSON.
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        wanted = "a whole number, not negative"
    elif isinstance(row.value, list):
        fits = isinstance(value, list) and all(each in row.options for each in value)
        wanted = f"a list of some of {', '.join(row.options)}"
    elif not row.options:
        fits, wanted = isinstance(value, str), "a text"
    else:
        fits, wanted = value in row.options, f"one of {', '.join(row.options)}"
    return None if fits else f"{row.name} must be {wanted}"
