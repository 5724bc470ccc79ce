"""Rendering of the pages in `templates/`."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse


def render_page(template: str, /, *, status: int = 200, **values: object) -> HTMLResponse:
    """Returns a page; all of its values are escaped."""
    page = _environment().get_template(template)
    return HTMLResponse(page.render(**values), status_code=status)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("sponsorsync.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
