"""Sessions, which group the registrations and executions of one upload."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeAlias

    from tests.gears.host.executions import Execution
    from tests.gears.host.registrations import Registration
    from tests.gears.host.resp import Value

    Pickles: TypeAlias = dict[tuple[tuple[str, int], ...], bytes]


@dataclass(eq=False)
class Session:
    """The registrations and executions of an upload.

    Attributes:
        runs: The ids of executions that were not dropped; they keep the session alive.
        pickles: The pickled steps of the registrations, as they were at the upload.
    """

    id: str
    description: str | None
    requirements: list[str]
    registrations: list[Registration] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)
    pickles: Pickles = field(default_factory=dict)

    @property
    def is_alive(self) -> bool:
        """Whether the session still has registrations or executions."""
        return bool(self.registrations or self.runs)

    def dump(self, *, verbose: bool = False) -> list[Value]:
        """Returns the session's entry in RG.PYDUMPSESSIONS."""
        return [
            *(b"ID", self.id.encode()),
            *(b"sessionDescription", self.description.encode() if self.description else None),
            *(b"refCount", len(self.registrations) + len(self.runs)),
            *(b"linked", b"primary", b"dead", b"false"),
            *(b"requirementInstallationNeeded", int(bool(self.requirements))),
            *(b"requirements", [each.encode() for each in self.requirements]),
            b"registrations",
            [
                each.dump(with_session=False) if verbose else each.id.encode()
                for each in self.registrations
            ],
        ]

    def describe(self) -> bytes:
        """Returns the session's text in RG.DUMPREGISTRATIONS, which is neither JSON nor Python."""
        ids = ", ".join(f"'{each.id}'" for each in self.registrations)
        requirements = ", ".join(f"'{each}'" for each in self.requirements)
        return (
            f"{{'sessionName':'{self.id}', 'sessionDescription':'{self.description or 'null'}', "
            f"'refCount': {len(self.registrations) + len(self.runs)}, 'linkedTo': primary, "
            f"'dead': false, 'isInstallationNeeded':{int(bool(self.requirements))}, "
            f"'registrationsList':[{ids}], 'depsList':[{requirements}]}}"
        ).encode()


@dataclass
class Upload:
    """An upload whose script body is running, with its registrations and its execution.

    Attributes:
        serializable: Callbacks that could be pickled, by their Python `id`.
    """

    session: Session
    registrations: list[Registration] = field(default_factory=list)
    execution: Execution | None = None
    serializable: dict[int, object] = field(default_factory=dict)
