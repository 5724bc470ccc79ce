"""Builds the wheel of this repository, and unpacks it like an installation."""

import compileall
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_FILES = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE")
_FOLDERS = ("src", "gears_scripts")
_LIMIT_S = 60


def install_wheel(folder: Path) -> Path:
    """Builds the wheel offline and unpacks it; returns the folder to import from."""
    checkout, wheels, installed = (folder / name for name in ("checkout", "wheels", "installed"))
    for name in _FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(_ROOT / name, checkout / name, ignore=ignored)
    for name in _FILES:
        shutil.copy(_ROOT / name, checkout)
    subprocess.run(  # noqa: S603 - all arguments are constants or our paths
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)],
        cwd=checkout,
        check=True,
        capture_output=True,
        timeout=_LIMIT_S,
    )
    [wheel] = wheels.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    # Compiled once, before tests copy it; the scripts for RedisGears are not imported.
    compileall.compile_dir(installed, quiet=1, rx=re.compile("/gears/scripts/"))
    return installed
