"""A metric with its labels, and resource usage summed over attempts; no I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime


@dataclass(frozen=True)
class Series:
    """The current values of one metric, one for each combination of its labels' values."""

    name: str
    """Without the prefix `tandem_`."""

    description: str
    labels: tuple[str, ...]
    values: Iterable[tuple[Sequence[str], float]]
    """Each with the values of its labels."""


@dataclass(frozen=True)
class Usage:
    """The resources of an attempt, and how long it had them."""

    project: str
    processes: int
    num_cpus: int
    """Of each process."""

    num_gpus: int
    """Of each process."""

    since: datetime
    until: datetime
    pack_job: str | None = None
    """The Ray job that it shared with its pack; None if it was in no pack."""


@dataclass(frozen=True)
class ResourceTotals:
    """Core seconds and GPU seconds."""

    cpu_s: float = 0.0
    gpu_s: float = 0.0


def merge_packs(usages: Iterable[Usage]) -> list[Usage]:
    """The usages with the members of each pack merged into one, since they share its resources."""
    unpacked, packs = [], dict[str, list[Usage]]()
    for usage in usages:
        if usage.pack_job is None:
            unpacked.append(usage)
        else:
            packs.setdefault(usage.pack_job, []).append(usage)
    return unpacked + [
        replace(
            members[0],
            since=min(member.since for member in members),
            until=max(member.until for member in members),
        )
        for members in packs.values()
    ]


def totals_by_project(
    usages: Iterable[Usage], *, before: Mapping[str, ResourceTotals]
) -> dict[str, ResourceTotals]:
    """The totals `before` plus these usages, by project."""
    totals = dict(before)
    for usage in usages:
        process_s = max(0.0, (usage.until - usage.since).total_seconds()) * usage.processes
        total = totals.get(usage.project, ResourceTotals())
        totals[usage.project] = ResourceTotals(
            cpu_s=total.cpu_s + process_s * usage.num_cpus,
            gpu_s=total.gpu_s + process_s * usage.num_gpus,
        )
    return totals
