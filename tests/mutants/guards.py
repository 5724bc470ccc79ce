"""The guards of guards.toml: safety checks that `make mutants` removes one at a time in a copy."""

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard; guards.toml explains the fields. `path` is relative to the project's root."""

    name: str
    path: str
    code: str
    broken: str
    tests: tuple[str, ...]

    def take_out(self, text: str) -> str:
        """Returns the text of the file without the guard.

        Raises:
            ValueError: The text does not contain the guard's code exactly once.
        """
        if text.count(self.code) != 1:
            raise ValueError(f"{self.path} has {text.count(self.code)} times: {self.code}")
        return text.replace(self.code, self.broken)


def _load(name: str, *, file: str, code: str, broken: str = "false", tests: str = "") -> Guard:
    folder = "src/sponsorsync/store/lua" if file.endswith(".lua") else "src/sponsorsync"
    default = "tests/web" if name.startswith("security:") else "tests/sync"
    return Guard(name, f"{folder}/{file}", code, broken, tuple((tests or default).split()))


_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
GUARDS = tuple(_load(name, **fields) for name, fields in _TABLES.items())
