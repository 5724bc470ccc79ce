"""The scripts as they are shipped and configured, and the wheel that carries them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ResponseError

from sponsorsync import __version__
from sponsorsync.domain.errors import GearsError
from sponsorsync.gears.scripts import BATCH, REGISTERING, GearsConfig, load_scripts
from tests.support.command import run_command
from tests.support.gears import CONFIG, REQUIREMENT, load_registering, write_scripts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gears.conftest import Gears

OTHER = GearsConfig(sponsorables=("a", "b"), collections=("mnodes",), hook_profiles=True)


def test_a_script_has_its_configuration_in_it(tmp_path: Path) -> None:
    """As a Python literal, in the one line that is there for it."""
    [script] = load_scripts(["write_behind"], OTHER, folder=write_scripts(tmp_path / "scripts"))

    [line] = [line for line in script.text.splitlines() if line.startswith("CONFIG")]
    assert ast.literal_eval(line.removeprefix("CONFIG = ")) == {
        "sponsorables": ["a", "b"],
        "collections": ["mnodes"],
        "hook_profiles": True,
        "hook_collections": True,
    }
    assert script.requirements == (REQUIREMENT,)
    assert script.session == "sponsorsync-write-behind"


def test_the_description_changes_with_whatever_is_uploaded(tmp_path: Path) -> None:
    """Text, configuration and packages: each makes another script of it."""
    folder = write_scripts(tmp_path / "scripts")
    [script], [other] = (load_scripts(["write_behind"], c, folder=folder) for c in (CONFIG, OTHER))
    (folder / "requirements.txt").write_text("redis==5.0.7\n")
    [third] = load_scripts(["write_behind"], CONFIG, folder=folder)
    [again, *_] = reversed(load_registering(tmp_path / "again"))

    assert len({script.hash, other.hash, third.hash}) == 3
    assert script.description == f"{__version__} {script.hash}"
    assert len(script.hash) == 16
    assert again == script


@pytest.mark.parametrize("text", ["CONFIG = {}\nCONFIG = {}\n", " CONFIG = {}\n", "CONFIG = {1}\n"])
def test_a_script_without_exactly_one_place_for_it_is_refused(tmp_path: Path, text: str) -> None:
    """It would run with the configuration of nobody."""
    with pytest.raises(GearsError, match=r"write_behind\.py should have one line `CONFIG = {}`"):
        load_registering(tmp_path / "scripts", write_behind=text)


def test_a_missing_script_is_named(tmp_path: Path) -> None:
    """An installation that is not whole says so."""
    folder = write_scripts(tmp_path / "scripts")
    (folder / "write_behind.py").unlink()

    with pytest.raises(GearsError, match=r"write_behind\.py cannot be read"):
        load_scripts(REGISTERING, CONFIG, folder=folder)


async def test_the_wheel_carries_the_scripts(installed: Path, gears: Gears, tmp_path: Path) -> None:
    """An installation from it uploads them, without the checkout."""
    carried = {path.name for path in (installed / "sponsorsync" / "gears" / "scripts").iterdir()}
    status, out, errors = await run_command(
        tmp_path,
        gears.url,
        gears.url,
        "deploy-gears",
        environment={"PYTHONPATH": str(installed)},
    )

    assert {f"{name}.py" for name in (*REGISTERING, *BATCH)} | {"requirements.txt"} <= carried
    assert (status, errors) == (0, "")
    assert out.count("uploaded") == 2


@pytest.mark.parametrize("name", REGISTERING)
async def test_a_script_that_stays_live_has_to_know_the_sponsorables(
    gears: Gears, name: str
) -> None:
    """To find them it would look at every key of the server, at each batch."""
    nobody = GearsConfig(sponsorables=(), collections=("mnodes",), hook_profiles=False)
    [script] = load_scripts([name], nobody)
    with pytest.raises(ResponseError, match="no sponsorable is named"):
        await gears.upload(script.text, "REQUIREMENTS", *script.requirements)
