"""The base class of the simulations' switches: shows them on a page and as JSON, checks changes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_type_hints

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sponsorsync.sandbox.pages import parse_form


@dataclass(frozen=True)
class Row:
    """One switch as the control page shows it."""

    name: str
    value: object
    help: str
    options: tuple[str, ...] = ()


@dataclass
class Switchboard:
    """Switches for faults: a subclass has a field for each, annotated with help and options."""

    def as_json(self) -> dict[str, object]:
        """Returns all values, with sets as sorted lists."""
        return {row.name: row.value for row in self.rows()}

    def rows(self) -> list[Row]:
        """Returns all switches in the order of the fields."""
        hints = get_type_hints(type(self), include_extras=True)
        return [
            Row(name, _plain(getattr(self, name)), *hint.__metadata__)
            for name, hint in hints.items()
        ]

    def change(self, values: Mapping[str, object]) -> list[str]:
        """Sets the switches that `values` names; sets none of them if a name or value is wrong.

        Returns:
            A sentence for each mistake; empty if the change was made.
        """
        rows = {row.name: row for row in self.rows()}
        names = ", ".join(rows)
        problems = [
            f"unknown switch {name!r}; the switches are {names}" for name in values.keys() - rows
        ]
        problems += filter(
            None, (_check(rows[name], values[name]) for name in values.keys() & rows)
        )
        if not problems:
            for name, value in values.items():
                setattr(self, name, set(value) if isinstance(value, list) else value)
        return sorted(problems)

    def change_by_form(self, form: Mapping[str, list[str]]) -> list[str]:
        """Sets all switches to the values of the control page's form, as `change` does."""
        return self.change(
            {row.name: _from_form(row.value, form.get(row.name, [])) for row in self.rows()}
        )


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, set) else value


def _from_form(now: object, values: list[str]) -> object:
    """Converts the values of a form field to the type that the switch has `now`."""
    if isinstance(now, bool):
        return bool(values)
    if isinstance(now, list):
        return values
    text = values[-1] if values else ""
    return int(text) if isinstance(now, int) and text.isdecimal() else text


def _check(row: Row, value: object) -> str | None:
    """Returns a sentence if `value` does not fit the switch's type or options, else None."""
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


def switch_routes(switches: Switchboard, render: Callable[[list[str]], Response]) -> list[Route]:
    """Returns the routes of the control page, and those to read and change switches by a script.

    `render` returns the control page with the problems of the last change.
    """

    async def show(_: Request) -> Response:
        return render([])

    async def submit(request: Request) -> Response:
        problems = switches.change_by_form(parse_form(await request.body()))
        return render(problems) if problems else RedirectResponse("/", 303)

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
        Route("/", show, methods=["GET"]),
        Route("/", submit, methods=["POST"]),
        Route("/switches", read, methods=["GET"]),
        Route("/switches", change, methods=["PUT"]),
    ]


def _unprocessable(problems: list[str]) -> Response:
    return JSONResponse({"message": "Nothing was changed.", "errors": problems}, 422)
