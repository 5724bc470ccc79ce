"""What the switches of each simulation have in common: rows for a page, JSON, and a check."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass(frozen=True)
class Row:
    """One switch as the control page shows it."""

    name: str
    value: object
    help: str
    options: tuple[str, ...]


@dataclass
class Switchboard:
    """Faults that can be switched on: a subclass has a field, with its `help`, for each of them."""

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

    def change_by_form(self, form: Mapping[str, list[str]]) -> list[str]:
        """Set all switches to what a page's form says, or none at all; as `change` does."""
        return self.change(
            {row.name: _from_form(row.value, form.get(row.name, [])) for row in self.rows()}
        )


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, set) else value


def _from_form(now: object, given: list[str]) -> object:
    """What a form says about a switch, in the kind of value the switch has `now`."""
    if isinstance(now, bool):
        return bool(given)
    if isinstance(now, list):
        return given
    text = given[-1] if given else ""
    return int(text) if isinstance(now, int) and text.isdecimal() else text


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


def switch_routes(switches: Switchboard) -> list[Route]:
    """The switches over HTTP, for scripts."""

    async def read(_: Request) -> Response:
        return JSONResponse(switches.as_json())

    async def change(request: Request) -> Response:
        try:
            values = json.loads(await request.body())
        except ValueError:
            values = None
        if not isinstance(values, dict):
            return _unprocessable(["the body must be a JSON object of switches and their values"])
        problems = switches.change(values)
        return _unprocessable(problems) if problems else JSONResponse(switches.as_json())

    return [
        Route("/switches", read, methods=["GET"]),
        Route("/switches", change, methods=["PUT"]),
    ]


def _unprocessable(problems: list[str]) -> Response:
    return JSONResponse({"message": "Nothing was changed.", "errors": problems}, 422)
