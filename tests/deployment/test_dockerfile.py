"""Rules for the instructions of the Dockerfile, which a build does not check."""

import json
import re
from pathlib import Path

import pytest

DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"


def parse_instructions(text: str) -> list[tuple[str, str]]:
    """Returns the instructions with their arguments, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (name.upper(), " ".join(arguments.split()))
        for name, _, arguments in (line.partition(" ") for line in joined.splitlines() if line)
    ]


INSTRUCTIONS = parse_instructions(DOCKERFILE.read_text())
LAST_STAGE = INSTRUCTIONS[max(i for i, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]


def find(name: str) -> list[str]:
    """Returns the arguments of each such instruction in the last stage, which is the image."""
    return [arguments for instruction, arguments in LAST_STAGE if instruction == name]


def test_the_image_is_built_in_another_stage() -> None:
    """The image has no downloads of pip, no build tools and no sources."""
    stages = [arguments for name, arguments in INSTRUCTIONS if name == "FROM"]

    assert len(stages) == 2
    assert [copied.split()[0] for copied in find("COPY")] == ["--from=build"]


def test_bases_are_pinned_to_a_patch_release_and_a_debian() -> None:
    """Both stages have the same base, since compiled wheels fit one version of Python."""
    bases = {arguments.split()[0] for name, arguments in INSTRUCTIONS if name == "FROM"}

    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", bases.pop())


def test_only_locked_packages_are_fetched() -> None:
    """ADD may download a file, and pip without hashes accepts any file."""
    runs = " && ".join(arguments for name, arguments in INSTRUCTIONS if name == "RUN")
    pip_calls = re.findall(r"pip(?: --python \S+)? ((?:download|install|wheel) [^&]*)", runs)

    assert [name for name, _ in INSTRUCTIONS if name == "ADD"] == []
    assert len(pip_calls) == 4
    assert [
        call for call in pip_calls if "--require-hashes" not in call and "--no-index" not in call
    ] == []


def test_the_image_does_not_run_as_root() -> None:
    """The user is numeric, since Kubernetes' runAsNonRoot cannot check a name."""
    assert int(find("USER")[-1].partition(":")[0]) > 0


@pytest.mark.parametrize("name", ["CMD", "HEALTHCHECK"])
def test_commands_need_no_shell(name: str) -> None:
    """A shell would receive the signal to stop, so the service would be killed."""
    (arguments,) = find(name)

    command = json.loads(arguments[arguments.index("[") :])

    assert command[0] in {"sponsorsync", "python"}


def test_the_command_is_the_service() -> None:
    """No secret is on the command line, where other users could read it."""
    assert find("CMD") == ['["sponsorsync", "serve"]']
