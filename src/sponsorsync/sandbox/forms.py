"""URL-encoded bodies; Starlette's own parser needs a package that the service does not have."""

from urllib.parse import parse_qs


def parse_form(body: bytes) -> dict[str, list[str]]:
    """Returns the values of each field in order, empty ones too."""
    return parse_qs(body.decode(errors="replace"), keep_blank_values=True)
