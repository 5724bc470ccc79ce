"""A real nginx in front of the service, configured as docs/forward-auth.md has it."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
_RECIPE = Path(__file__).parents[2] / "docs" / "forward-auth.md"
_FRAME = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {recipe}
}}
"""


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def run_nginx(folder: Path, *, port: int, service_port: int) -> AsyncIterator[None]:
    """Runs nginx with the recipe of the documentation until the context ends."""
    assert NGINX is not None
    config = folder / "nginx.conf"
    recipe = _read_recipe(folder, port=port, service_port=service_port)
    config.write_text(_FRAME.format(folder=folder, recipe=recipe))
    process = await asyncio.create_subprocess_exec(
        *(NGINX, "-p", str(folder), "-e", "stderr", "-c", str(config))
    )
    try:
        await until(lambda: listens(port))
        yield
    finally:
        process.terminate()
        await process.wait()


def _read_recipe(folder: Path, *, port: int, service_port: int) -> str:
    """Returns the documentation's block, with the addresses of this test in it."""
    [recipe] = re.findall(r"```nginx\n(.*?)```", _RECIPE.read_text(encoding="utf-8"), re.DOTALL)
    changes = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port};",
        "http://127.0.0.1:8000": f"http://127.0.0.1:{service_port}",
        "/srv/members": str(folder / "members"),
        "/srv/pages": str(folder / "pages"),
    }
    for before, after in changes.items():
        assert before in recipe
        recipe = recipe.replace(before, after)
    return re.sub(r"ssl_certificate.*", "", recipe)


async def listens(port: int) -> bool:
    """Tells whether somebody does on that port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
