"""The command line: its help, its version, its completion, and the mistakes that it refuses."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from sponsorsync import __version__
from sponsorsync.cli import cli, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[..., tuple[int, str, str]]

SCRIPT = Path(sys.executable).with_name("sponsorsync")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process; returns status, standard output and error."""
    monkeypatch.setenv("COLUMNS", "200")

    def run_main(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sponsorsync", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, errors = capsys.readouterr()
        return int(ended.value.code or 0), out, errors

    return run_main


def _walk_commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401 - typer has no public type
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _walk_commands(child, *path, name)


COMMANDS = dict(_walk_commands(typer.main.get_command(cli)))


def test_the_version_is_printed(run: Run) -> None:
    """Without a command beside it."""
    assert run("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(run: Run, path: tuple[str, ...]) -> None:
    """By -h as by --help, with a sentence for the command and one for each of its options."""
    short, long = run(*path, "-h"), run(*path, "--help")

    assert short == long
    assert short[0] == 0
    assert " ".join(("Usage: sponsorsync", *path)) in short[1]
    assert COMMANDS[path].help
    assert [option.name for option in COMMANDS[path].params if not option.help] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
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
def test_an_argument_that_does_not_fit_is_one_line(run: Run, arguments: str, said: str) -> None:
    """Status 2, and nothing on standard output, which may be another program's input."""
    status, out, errors = run(*arguments.split())

    [line] = errors.splitlines()
    assert (status, out) == (2, "")
    assert line.startswith("sponsorsync: ")
    assert said in line


@pytest.mark.parametrize("group", [(), ("keys",)])
def test_without_a_command_the_help_is_printed(run: Run, group: tuple[str, ...]) -> None:
    """Status 2, since nothing has been done; no error beside it."""
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
async def test_a_shell_completes_it(instruction: str, words: str, printed: str) -> None:
    """Commands, those of a group, and options, by the script that an installation has."""
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
