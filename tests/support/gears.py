"""Scripts that stand in for those that are shipped: as small as can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sponsorsync.domain.catalog import Catalog
from sponsorsync.gears.scripts import BATCH, REGISTERING, GearsConfig, load_scripts
from tests.support.sync import COLLECTION, SPONSORABLE

if TYPE_CHECKING:
    from pathlib import Path

    from sponsorsync.gears.scripts import GearsScript

CONFIG = GearsConfig(catalog=Catalog((SPONSORABLE,), (COLLECTION,)), hook_profiles=False)
REQUIREMENT = "redis==5.0.8"

_REGISTERS = '''"""Counts what is added to a set."""
CONFIG = {{}}


def count(record):
    execute("INCR", "counted:{name}")


GB("KeysReader", desc="{name}").foreach(count).register(
    prefix="user:*", eventTypes=["sadd"], mode="sync"
)
'''
_RUNS = '''"""Tells what it did."""
import json

CONFIG = {{}}


def tell():
    yield json.dumps({{"done": 3, "skipped": {{"{name}": 1}}, "failed": 0, "errors": []}})


GB("PythonReader").run(tell)
'''
BROKEN = '''"""Fails in its line 6."""
CONFIG = {}


def fail():
    raise ValueError("it's \\"broken\\"\\nin two lines")


fail()
'''
RUNS_NOTHING = '"""Neither runs nor registers."""\nCONFIG = {}\n'


def write_scripts(folder: Path, **texts: str) -> Path:
    """Writes a whole set into a folder, which is made; `texts` stand in for some, by name."""
    folder.mkdir(exist_ok=True)
    (folder / "requirements.txt").write_text(f"{REQUIREMENT}\n")
    for template, names in ((_REGISTERS, REGISTERING), (_RUNS, BATCH)):
        for name in names:
            text = texts.get(name, template.format(name=name))
            (folder / f"{name}.py").write_text(text)
    return folder


def registering_script(name: str, *, more: str = "") -> str:
    """Returns the text of one that registers, different by what stands at its end."""
    return _REGISTERS.format(name=name) + more


def failing_batch_script(error: str) -> str:
    """Returns the text of one that copies nothing, and says why."""
    return _RUNS.format(name="none").replace(
        '"failed": 0, "errors": []', f'"failed": 1, "errors": ["{error}"]'
    )


def load_registering(folder: Path, **texts: str) -> tuple[GearsScript, ...]:
    """Writes a set, and returns those of it that register, configured."""
    return load_scripts(REGISTERING, CONFIG, folder=write_scripts(folder, **texts))
