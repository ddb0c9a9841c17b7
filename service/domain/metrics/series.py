"""A figure with its labels, and what attempts cost, as sums: pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime


@dataclass(frozen=True)
class Series:
    """One figure at this moment, for each value of its labels."""

    name: str
    """Without the program's own name in front."""

    description: str
    labels: tuple[str, ...]
    values: Iterable[tuple[Sequence[str], float]]
    """By the values of its labels."""


@dataclass(frozen=True)
class Usage:
    """What an attempt had, and how long."""

    project: str
    processes: int
    num_cpus: int
    num_gpus: int
    since: datetime
    until: datetime
    pack_job: str | None = None
    """The job that it shared with others; none: it had one of its own."""


@dataclass(frozen=True)
class ResourceTotals:
    """Seconds of cores and of GPUs."""

    cpu_s: float = 0.0
    gpu_s: float = 0.0


def merge_packs(uses: Iterable[Usage]) -> list[Usage]:
    """The same, members of one pack as one: they have its room together, from first to last."""
    alone, packs = [], dict[str, list[Usage]]()
    for use in uses:
        if use.pack_job is None:
            alone.append(use)
        else:
            packs.setdefault(use.pack_job, []).append(use)
    return alone + [
        replace(
            members[0],
            since=min(use.since for use in members),
            until=max(use.until for use in members),
        )
        for members in packs.values()
    ]


def totals_by_project(
    uses: Iterable[Usage], *, before: Mapping[str, ResourceTotals]
) -> dict[str, ResourceTotals]:
    """The sums with these uses added."""
    sums = dict(before)
    for use in uses:
        seconds = max(0.0, (use.until - use.since).total_seconds()) * use.processes
        spent = sums.get(use.project, ResourceTotals())
        sums[use.project] = ResourceTotals(
            cpu_s=spent.cpu_s + seconds * use.num_cpus, gpu_s=spent.gpu_s + seconds * use.num_gpus
        )
    return sums
