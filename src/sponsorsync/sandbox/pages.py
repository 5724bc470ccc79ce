"""The HTML of the simulations, and the forms that browsers send."""

from functools import cache
from pathlib import Path
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from starlette.responses import HTMLResponse

TEMPLATES = Path(__file__).parent / "templates"

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}


class Pages:
    """Renders the templates; each page names the simulated `service`."""

    def __init__(self, service: str) -> None:
        # Loads all templates at the start, so that no request waits for the disk.
        self._templates = _load_templates(service)

    def render(self, name: str, status: int = 200, **values: object) -> HTMLResponse:
        """Renders the page `name` with `values`, escaped."""
        return HTMLResponse(self._templates[name].render(values), status, HEADERS)


@cache
def _load_templates(service: str) -> dict[str, Template]:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    environment.globals["service"] = service
    names = environment.list_templates(extensions=["html"])
    return {name: environment.get_template(name) for name in names}


def parse_form(body: bytes) -> dict[str, list[str]]:
    """Returns the values of each field of a URL-encoded body in order, empty ones too.

    Starlette's own parser needs a package that the service does not have.
    """
    return parse_qs(body.decode(errors="replace"), keep_blank_values=True)
