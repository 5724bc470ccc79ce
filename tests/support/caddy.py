"""Runs a real Caddy in front of the service, with the configuration of docs/forward-auth.md."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.nginx import read_recipe, run_proxy_server

CADDY = shutil.which("caddy")
_FRAME = """\
{
  admin off
  auto_https off
}
"""


@asynccontextmanager
async def run_caddy(
    folder: Path, *, port: int, service_port: int, answer: str
) -> AsyncIterator[None]:
    """Runs Caddy with the documented configuration; it answers a text in place of all files."""
    assert CADDY is not None
    config = folder / "Caddyfile"
    recipe = read_recipe(
        "caddyfile",
        {
            "sponsors.example.org {": f"http://127.0.0.1:{port} {{",
            "127.0.0.1:8000": f"127.0.0.1:{service_port}",
            "file_server": f'respond "{answer}"',
        },
    )
    config.write_text(_FRAME + recipe)
    env = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    async with run_proxy_server(port, CADDY, "run", "--config", config, env=env):
        yield
