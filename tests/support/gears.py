"""Minimal RedisGears scripts that replace the shipped ones in tests."""

from pathlib import Path

from sponsorsync.domain.catalog import Catalog
from sponsorsync.gears.scripts import BATCH, REGISTERING, GearsConfig, GearsScript, load_scripts
from tests.support.sync import COLLECTION, SPONSORABLE

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
_RUNS = '''"""Reports its counts."""
import json

CONFIG = {{}}


def report():
    yield json.dumps({{"done": 3, "skipped": {{"{name}": 1}}, "failed": 0, "errors": []}})


GB("PythonReader").run(report)
'''
BROKEN = '''"""Fails in its line 6."""
CONFIG = {}


def fail():
    raise ValueError("it's \\"broken\\"\\nin two lines")


fail()
'''
RUNS_NOTHING = '"""Neither runs nor registers."""\nCONFIG = {}\n'


def write_scripts(folder: Path, **texts: str) -> Path:
    """Writes a complete set of scripts into a folder; `texts` has other texts for some names."""
    folder.mkdir(exist_ok=True)
    (folder / "requirements.txt").write_text(f"{REQUIREMENT}\n")
    for template, names in ((_REGISTERS, REGISTERING), (_RUNS, BATCH)):
        for name in names:
            text = texts.get(name, template.format(name=name))
            (folder / f"{name}.py").write_text(text)
    return folder


def registering_script(name: str, *, more: str = "") -> str:
    """Returns the text of a script that registers a callback; the text ends with `more`."""
    return _REGISTERS.format(name=name) + more


def failing_batch_script(error: str) -> str:
    """Returns the text of a batch script that only reports counts with an error."""
    return _RUNS.format(name="none").replace(
        '"failed": 0, "errors": []', f'"failed": 1, "errors": ["{error}"]'
    )


def load_registering(folder: Path, **texts: str) -> tuple[GearsScript, ...]:
    """Writes a set of scripts; loads those that register callbacks, with a configuration."""
    return load_scripts(REGISTERING, CONFIG, folder=write_scripts(folder, **texts))
