"""Scripts are loaded with a configuration, and the wheel contains them."""

import ast
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from sponsorsync import __version__
from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.errors import GearsError
from sponsorsync.gears.bundle import build_bundle
from sponsorsync.gears.scripts import BATCH, REGISTERING, GearsConfig, load_scripts
from tests.support.command import run_command
from tests.support.gears import CONFIG, REQUIREMENT, load_registering, write_scripts
from tests.support.gears_engine import Gears
from tests.support.sync import SPONSORABLE

BUNDLES = {f"{name}.py": build_bundle(name) for name in (*REGISTERING, *BATCH)} | {
    "requirements.txt": f"{REQUIREMENT}\n"
}
OTHER = GearsConfig(catalog=Catalog(("a", "b"), ("mnodes",)), hook_profiles=True)


def test_a_script_contains_its_configuration(tmp_path: Path) -> None:
    """The configuration replaces the line `CONFIG = {}` as a Python literal."""
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


def test_the_description_changes_with_text_configuration_and_packages(tmp_path: Path) -> None:
    """A deploy uploads a script when its description has changed."""
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
def test_a_script_needs_exactly_one_line_for_its_configuration(tmp_path: Path, text: str) -> None:
    """Without this line the script would run without its configuration."""
    with pytest.raises(GearsError, match=r"write_behind\.py should have one line `CONFIG = {}`"):
        load_registering(tmp_path / "scripts", write_behind=text)


def test_a_missing_script_is_named(tmp_path: Path) -> None:
    """The error names the file that an incomplete installation lacks."""
    folder = write_scripts(tmp_path / "scripts")
    (folder / "write_behind.py").unlink()

    with pytest.raises(GearsError, match=r"write_behind\.py cannot be read"):
        load_scripts(REGISTERING, CONFIG, folder=folder)


async def test_the_wheel_contains_the_scripts(
    installed: Path, gears: Gears, tmp_path: Path
) -> None:
    """An installed service can deploy and bundle the scripts without the repository."""
    environment = {"PYTHONPATH": str(installed)}
    status, out, errors = await run_command(
        tmp_path, gears.url, gears.url, "deploy-gears", environment=environment
    )
    bundled = await run_command(
        tmp_path, "", "", "gears", "bundle", "--output", "out", environment=environment
    )

    assert (status, errors) == (0, "")
    assert out.count("uploaded") == 2
    assert bundled[0] == 0
    assert _read(installed / "sponsorsync" / "gears" / "scripts") == BUNDLES
    assert _read(tmp_path / "out") == BUNDLES


async def test_gears_cli_runs_what_the_command_writes(gears: Gears, tmp_path: Path) -> None:
    """gears-cli uploads a file, with an empty CONFIG, and the lines of requirements.txt."""
    folder = tmp_path / "new" / "folder"
    status, out, _ = await run_command(tmp_path, "", "", "gears", "bundle", "--output", str(folder))
    requirements = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    await gears.upload(f"import os; os.environ['SPONSORSYNC_SPONSORABLES'] = {SPONSORABLE!r}")
    replies = {
        name: await gears.upload(
            (folder / f"{name}.py").read_text(encoding="utf-8"), "REQUIREMENTS", *requirements
        )
        for name in (*REGISTERING, *BATCH)
    }
    await gears.upload("import os; del os.environ['SPONSORSYNC_SPONSORABLES']")

    assert status == 0
    assert out.splitlines() == [str(folder / name) for name in BUNDLES]
    assert _read(folder) == BUNDLES
    assert [replies[name] for name in REGISTERING] == [b"OK"] * len(REGISTERING)
    assert [replies[name] for name in BATCH] == [[[], []]] * len(BATCH)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("file", "file is not a directory"),
        ("file/folder", "file/folder cannot be written: Not a directory"),
        ("folder", "folder/write_behind.py cannot be written: Is a directory"),
    ],
)
async def test_an_output_that_cannot_be_written_is_one_line(
    tmp_path: Path, output: str, reason: str
) -> None:
    """The error is one line that names the path, and not a traceback."""
    (tmp_path / "file").write_text("theirs")
    (tmp_path / "folder" / "write_behind.py").mkdir(parents=True)
    status, out, errors = await run_command(tmp_path, "", "", "gears", "bundle", "--output", output)

    assert (status, out, errors) == (1, "", f"sponsorsync: {reason}.\n")
    assert (tmp_path / "file").read_text() == "theirs"


def _read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


@pytest.mark.parametrize("name", REGISTERING)
async def test_a_live_script_requires_named_sponsorables(gears: Gears, name: str) -> None:
    """Without names, a live script would have to scan all keys at each batch to find them."""
    empty = GearsConfig(catalog=Catalog((), ("mnodes",)), hook_profiles=False)
    [script] = load_scripts([name], empty)
    with pytest.raises(ResponseError, match="no sponsorable is named"):
        await gears.upload(script.text, "REQUIREMENTS", *script.requirements)
