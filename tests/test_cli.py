"""The command line: help, version, completion and wrong arguments."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from sponsorsync import __version__
from sponsorsync.cli import cli, main

Run = Callable[..., tuple[int, str, str]]

SCRIPT = Path(sys.executable).with_name("sponsorsync")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Returns a function that runs the command line in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def run_main(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sponsorsync", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, errors = capsys.readouterr()
        return int(ended.value.code or 0), out, errors

    return run_main


def _scan_commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401 - typer has no public type
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _scan_commands(child, *path, name)


COMMANDS = dict(_scan_commands(typer.main.get_command(cli)))


def test_the_version_is_printed(run: Run) -> None:
    """`--version` works without a command."""
    assert run("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(run: Run, path: tuple[str, ...]) -> None:
    """`-h` and `--help` describe the command and each of its options."""
    short, long = run(*path, "-h"), run(*path, "--help")

    assert short == long
    assert short[0] == 0
    assert " ".join(("Usage: sponsorsync", *path)) in short[1]
    assert COMMANDS[path].help
    assert [option.name for option in COMMANDS[path].params if not option.help] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--bogus", "No such option: --bogus"),
        ("bogus", "No such command 'bogus'."),
        ("keys bogus", "No such command 'bogus'."),
        ("keys rotate extra", "unexpected extra argument"),
        ("snapshot --engine bogus", "'plain', 'gears'"),
        ("deploy-gears --url", "requires an argument"),
        ("deploy-gears --port x", "'--port'"),
        ("deploy-gears --host h --port 65536", "'--port'"),
    ],
)
def test_a_wrong_argument_is_one_line(run: Run, arguments: str, message: str) -> None:
    """Standard output stays empty, since another program may read it."""
    status, out, errors = run(*arguments.split())

    [line] = errors.splitlines()
    assert (status, out) == (2, "")
    assert line.startswith("sponsorsync: ")
    assert message in line


@pytest.mark.parametrize("group", [(), ("keys",)])
def test_without_a_command_the_help_is_printed(run: Run, group: tuple[str, ...]) -> None:
    """The status is 2, since nothing was done; no error message is printed."""
    status, out, errors = run(*group)

    assert status == 2
    assert "Usage: sponsorsync" in out + errors
    assert "sponsorsync: " not in out + errors


@pytest.mark.parametrize(
    ("instruction", "words", "printed"),
    [
        ("source_bash", "", "complete -o default -F _sponsorsync_completion sponsorsync"),
        ("complete_bash", "sponsorsync sna", "snapshot"),
        ("complete_bash", "sponsorsync keys ro", "rotate"),
        ("complete_bash", "sponsorsync verify --fi", "--fix"),
    ],
)
async def test_a_shell_completes_arguments(instruction: str, words: str, printed: str) -> None:
    """The shell calls the installed script `sponsorsync` for its completions."""
    environment = {
        "_SPONSORSYNC_COMPLETE": instruction,
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }

    process = await asyncio.create_subprocess_exec(
        SCRIPT, stdout=asyncio.subprocess.PIPE, env=dict(os.environ) | environment
    )
    out, _ = await process.communicate()

    assert out.decode().strip().splitlines()[-1] == printed
