"""Runs a real nginx in front of the service, with the configuration of docs/forward-auth.md."""

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from tests.support.waiting import until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
_DOCUMENTATION = Path(__file__).parents[2] / "docs" / "forward-auth.md"
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
    """Returns a free port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def run_nginx(folder: Path, *, port: int, service_port: int) -> AsyncIterator[None]:
    """Runs nginx with the documented configuration until the context ends."""
    assert NGINX is not None
    config = folder / "nginx.conf"
    recipe = read_recipe(
        "nginx",
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{port};",
            "http://127.0.0.1:8000": f"http://127.0.0.1:{service_port}",
            "/srv/members": str(folder / "members"),
            "/srv/pages": str(folder / "pages"),
        },
    )
    recipe = re.sub(r"ssl_certificate.*", "", recipe)
    config.write_text(_FRAME.format(folder=folder, recipe=recipe))
    async with run_proxy_server(port, NGINX, "-p", folder, "-e", "stderr", "-c", config):
        yield


def read_recipe(language: str, changes: Mapping[str, str]) -> str:
    """Returns the code block of a language in the document, with `changes` replaced in it."""
    text = _DOCUMENTATION.read_text(encoding="utf-8")
    recipe: str
    [recipe] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    for before, after in changes.items():
        assert before in recipe
        recipe = recipe.replace(before, after)
    return recipe


@asynccontextmanager
async def run_proxy_server(
    port: int, *command: str | Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[None]:
    """Runs a proxy server until the context ends; first waits until it listens on the port."""
    process = await asyncio.create_subprocess_exec(*command, env=env)
    try:
        await until(partial(_listens, port))
        yield
    finally:
        process.terminate()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
