"""Measures contenders alternately, and prints the results."""

import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.servers import Servers

console = Console(width=118, highlight=False)


@dataclass(frozen=True)
class Contender:
    """One implementation of the work.

    Attributes:
        prepare: Prepares the servers, which is not timed, and yields the work to be timed.
        scale: The contender does only 1/scale of the work; its times are multiplied by `scale`.
    """

    name: str
    prepare: Callable[[], AbstractAsyncContextManager[Callable[[], Awaitable[None]]]]
    scale: int = 1


@dataclass
class Times:
    """The seconds that a contender took for the whole work in each round.

    Attributes:
        wall: The time on the clock.
        cpu: The processor time of this process, of local and of durable, which depends less on
            other load.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[tuple[float, float, float]] = field(default_factory=list)

    def median_cpu(self) -> tuple[float, ...]:
        """Returns the median processor time of this process, of local and of durable."""
        return tuple(median(kind) for kind in zip(*self.cpu, strict=True))


async def compare(
    title: str,
    servers: Servers,
    contenders: Sequence[Contender],
    rounds: int,
    *,
    people: int,
    targets: dict[str, float],
) -> dict[str, Times]:
    """Runs each contender once a round, and prints a table.

    Args:
        title: The table's title.
        servers: Local and durable.
        contenders: In the order of the table; all others are compared with the first one.
        rounds: The number of rounds.
        people: The number of people in the whole work.
        targets: How many times as fast as the first one a contender should be, by its name.
    """
    times = {each.name: Times() for each in contenders}
    for number in range(rounds):
        for each in contenders:
            async with each.prepare() as work:
                wall, cpu = await _time(servers, work)
            times[each.name].wall.append(wall * each.scale)
            ours, local, durable = (kind * each.scale for kind in cpu)
            times[each.name].cpu.append((ours, local, durable))
            console.print(f"  round {number + 1}  {each.name}: {wall * each.scale:.3f} s")
    _show(title, contenders, times, people, targets)
    return times


async def _time(
    servers: Servers, work: Callable[[], Awaitable[None]]
) -> tuple[float, tuple[float, float, float]]:
    settle()
    cpu_before = (time.process_time(), *servers.cpu_s())
    began = time.perf_counter()
    await work()
    wall = time.perf_counter() - began
    cpu_after = (time.process_time(), *servers.cpu_s())
    ours, local, durable = (b - a for a, b in zip(cpu_before, cpu_after, strict=True))
    return wall, (ours, local, durable)


def _show(
    title: str,
    contenders: Sequence[Contender],
    times: dict[str, Times],
    people: int,
    targets: dict[str, float],
) -> None:
    figures = ("s", "min..max", "people/s", "x original", "in its round")
    table = create_table(title, *figures, "CPU s: client+local+durable")
    base_wall = times[contenders[0].name].wall
    for each in contenders:
        wall = times[each.name].wall
        ratio = median(base_wall) / median(wall)
        each_round = [before / after for before, after in zip(base_wall, wall, strict=True)]
        wanted = targets.get(each.name)
        scaled = f" (1/{each.scale} of it, scaled)" if each.scale > 1 else ""
        table.add_row(
            each.name + scaled,
            f"{median(wall):.3f}",
            f"{min(wall):.3f}..{max(wall):.3f}",
            f"{people / median(wall):,.0f}",
            f"{ratio:.1f}" + (f" {verdict(ratio >= wanted)} {wanted:g}" if wanted else ""),
            f"{min(each_round):.1f}..{max(each_round):.1f}",
            "+".join(f"{kind:.2f}" for kind in times[each.name].median_cpu()),
        )
    console.print(table)


def settle() -> None:
    """Collects garbage now, so that the collector does not disturb the next measurement."""
    gc.collect()
    gc.freeze()


def create_table(title: str, *headings: str) -> Table:
    """Returns an empty table of figures; its first column is for their names."""
    table = Table(title=title, title_justify="left")
    table.add_column("", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", overflow="fold")
    return table


def verdict(is_reached: bool) -> str:
    """Returns the word between a figure and its target."""
    return "reaches" if is_reached else "MISSES"


def percentile(values: Sequence[float], part: float) -> float:
    """Returns the value below which the given part of the values lies, such as 0.99 of them."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]
