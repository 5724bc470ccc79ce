"""The HTML of the simulations."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
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
    """Renders the templates; each says that this is a simulation, and of which `service`."""

    def __init__(self, service: str) -> None:
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
        )
        environment.globals["service"] = service
        # Loaded now, so that no request waits for the disk.
        names = environment.list_templates(extensions=["html"])
        self._templates = {name: environment.get_template(name) for name in names}

    def render(self, name: str, status: int = 200, **values: object) -> HTMLResponse:
        """The page `name` with `values`, escaped."""
        return HTMLResponse(self._templates[name].render(values), status, HEADERS)
