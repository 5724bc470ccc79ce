"""A real Caddy in front of the service, configured as docs/forward-auth.md has it."""

from __future__ import annotations

import asyncio
import re
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.nginx import listens
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CADDY = shutil.which("caddy")
_RECIPE = Path(__file__).parents[2] / "docs" / "forward-auth.md"
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
    """Runs Caddy with the recipe until the context ends; it answers with a text for the files."""
    assert CADDY is not None
    config = folder / "Caddyfile"
    config.write_text(_FRAME + _read_recipe(port=port, service_port=service_port, answer=answer))
    process = await asyncio.create_subprocess_exec(
        *(CADDY, "run", "--config", str(config)),
        env={"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
    )
    try:
        await until(lambda: listens(port))
        yield
    finally:
        process.terminate()
        await process.wait()


def _read_recipe(*, port: int, service_port: int, answer: str) -> str:
    """Returns the documentation's block, with the addresses of this test in it."""
    recipe: str
    [recipe] = re.findall(r"```caddyfile\n(.*?)```", _RECIPE.read_text(encoding="utf-8"), re.DOTALL)
    changes = {
        "sponsors.example.org {": f"http://127.0.0.1:{port} {{",
        "127.0.0.1:8000": f"127.0.0.1:{service_port}",
        "file_server": f'respond "{answer}"',
    }
    for before, after in changes.items():
        assert before in recipe
        recipe = recipe.replace(before, after)
    return recipe
