"""Which of the waiting runs start now, which make others leave, and why the rest wait: pure.

Runs go by priority, then by how little of the cluster their project has for its weight, then by
age. A run that cannot start is passed by smaller ones; when it has waited long enough, or others
leave for it, room is held for it, so that it is not passed for ever.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from configs.spec.compute import Resources
from service.domain.ports import Node
from service.domain.runs import Run, name_visible_to
from service.domain.scheduling.capacity import (
    choose_num_processes,
    count_slots,
    describe_resources,
    exclude,
    exclude_gpus,
    hold,
    release,
    reserve,
)
from service.domain.scheduling.node_health import AvoidedNodes
from service.domain.scheduling.projects import Project


@dataclass(frozen=True)
class QueuedRun:
    """A run in the queue."""

    run: Run
    blocked_by: str | None = None
    """What it waits for beside room, as its teacher; none: it could start."""

    allows_fewer: bool = False
    """Whether it goes on with fewer processes than its spec asks for."""

    packmates: tuple[Run, ...] = ()
    """Runs that would start in the same process, and take no room of their own."""


@dataclass(frozen=True)
class RunningRun:
    """A run that has room now."""

    run: Run
    processes: int
    node_id: str | None = None
    """Where, if it is one process and that is known."""

    packmates: tuple[Run, ...] = ()
    """Runs in the same process."""

    @property
    def is_stopping(self) -> bool:
        """Whether its room will be free soon."""
        return all(run.stop_kind is not None for run in (self.run, *self.packmates))


@dataclass(frozen=True)
class ReleasedCapacity:
    """Room that an attempt has left so lately that the cluster may not have counted it yet."""

    resources: Resources
    processes: int
    node_id: str | None = None


@dataclass(frozen=True)
class ClusterSnapshot:
    """Everything that a decision rests on."""

    now: datetime
    nodes: tuple[Node, ...]
    """With what is free, less what has started and is not counted yet."""

    queued: Sequence[QueuedRun] = ()
    running: Sequence[RunningRun] = ()
    released: Sequence[ReleasedCapacity] = ()
    projects: Mapping[str, Project] = field(default_factory=dict)
    avoid: AvoidedNodes = field(default_factory=AvoidedNodes)
    backfill_timeout_s: float = 120.0
    """How long a run lets smaller ones pass before room is held for it."""


@dataclass(frozen=True)
class StartDecision:
    """This run starts now."""

    run: Run
    processes: int
    avoid: frozenset[str] = frozenset()
    """Nodes where it is not to run."""

    packmates: tuple[Run, ...] = ()
    """Runs that start in the same process."""


@dataclass(frozen=True)
class WaitDecision:
    """This run waits: its place among those that do, and why."""

    run: Run
    position: int
    why: str


@dataclass(frozen=True)
class PreemptDecision:
    """This run leaves with a checkpoint, to make room."""

    run: Run
    preempted_for: Run


Decision = StartDecision | WaitDecision | PreemptDecision


def schedule_runs(situation: ClusterSnapshot) -> list[Decision]:
    """What becomes of every waiting run."""
    return list(_Round(situation).decisions())


class _Round:
    """One look at the queue, from its head to its end."""

    def __init__(self, situation: ClusterSnapshot) -> None:
        self._situation = situation
        self._avoid = _avoided(situation)
        self._nodes = _usable(situation.nodes, self._avoid)
        """What is free for the next run in line."""

        self._shares = _Shares(situation)
        self._leaving = {held.run.id for held in situation.running if held.is_stopping}
        self._position = 0

    def decisions(self) -> Iterator[Decision]:
        """Of every run in line."""
        for waiting in self._in_line():
            yield from self._of(waiting)

    def _in_line(self) -> Iterator[QueuedRun]:
        """By priority, then by share, which changes as runs start, then by age."""
        by_priority: dict[int, dict[str, deque[QueuedRun]]] = {}
        for waiting in sorted(self._situation.queued, key=lambda one: one.run.created_at):
            lines = by_priority.setdefault(waiting.run.priority, {})
            lines.setdefault(waiting.run.project, deque()).append(waiting)
        for priority in sorted(by_priority, reverse=True):
            lines = by_priority[priority]
            while lines:
                project = min(lines, key=lambda name: (self._shares.of(name), _age(lines[name])))
                yield lines[project].popleft()
                if not lines[project]:
                    del lines[project]

    def _of(self, waiting: QueuedRun) -> Iterator[Decision]:
        run, asked = waiting.run, waiting.run.spec.resources
        why = waiting.blocked_by or self._shares.objection(run)
        if why is not None:
            yield from self._wait(waiting, why)
            return
        room = count_slots(asked, self._nodes, total=False)
        processes = choose_num_processes(run.spec, slots=room, allows_fewer=waiting.allows_fewer)
        if processes is None:
            yield from self._without_room(waiting)
            return
        self._nodes = reserve(self._nodes, asked, processes=processes)
        self._shares.take(run.project, asked, processes)
        avoid = self._avoid.for_gpus if asked.num_gpus else self._avoid.for_all
        yield StartDecision(run, processes, avoid, waiting.packmates)

    def _without_room(self, waiting: QueuedRun) -> Iterator[Decision]:
        run, asked = waiting.run, waiting.run.spec.resources
        possible = count_slots(asked, self._nodes, total=True)
        if possible < asked.processes:
            has = "none" if possible == 0 else f"room for {possible}"
            yield from self._wait(waiting, f"{describe_resources(asked)}; the cluster has {has}")
            return
        soon = self._expected()
        fits_soon = count_slots(asked, soon, total=False) >= asked.processes
        victims = [] if fits_soon else self._victims(run, soon)
        leaving = [held.run for held in self._situation.running if held.run.id in self._leaving]
        self._leaving |= {victim.run.id for victim in victims}
        for victim in victims:
            yield from (PreemptDecision(one, run) for one in (victim.run, *victim.packmates))
        for_it = [left for left in leaving if left.preempted_for == run.id]
        if victims or fits_soon or self._has_waited_long(run):
            self._nodes = hold(self._nodes, asked)
        why = _why(run, [*for_it, *(victim.run for victim in victims)])
        yield from self._wait(waiting, why)

    def _expected(self) -> tuple[Node, ...]:
        """What will be free when all have left that are leaving, and what was left is counted."""
        nodes = self._nodes
        for left in self._situation.released:
            nodes = release(nodes, left.resources, processes=left.processes, node_id=left.node_id)
        for held in self._situation.running:
            if held.run.id in self._leaving:
                nodes = _with_room_of(held, nodes)
        return nodes

    def _victims(self, run: Run, soon: tuple[Node, ...]) -> list[RunningRun]:
        """The least, then the youngest of smaller priority that make room if they leave."""
        asked = run.spec.resources
        candidates = [
            held
            for held in self._situation.running
            if held.run.priority < run.priority
            and held.run.task == "train"
            and held.run.id not in self._leaving
        ]
        candidates.sort(key=lambda held: held.run.updated_at, reverse=True)
        candidates.sort(key=lambda held: held.run.priority)
        chosen: list[RunningRun] = []
        for held in candidates:
            chosen.append(held)
            soon = _with_room_of(held, soon)
            if count_slots(asked, soon, total=False) >= asked.processes:
                return _needed(chosen, asked, self._expected())
        return []

    def _has_waited_long(self, run: Run) -> bool:
        waited = self._situation.now - max(run.updated_at, run.not_before or run.updated_at)
        return waited.total_seconds() >= self._situation.backfill_timeout_s

    def _wait(self, waiting: QueuedRun, why: str) -> Iterator[WaitDecision]:
        for run in (waiting.run, *waiting.packmates):
            self._position += 1
            yield WaitDecision(run, self._position, why)


class _Shares:
    """How much each project has."""

    def __init__(self, situation: ClusterSnapshot) -> None:
        self._projects = situation.projects
        self._all_cpus = sum(node.total_cpus for node in situation.nodes) or 1.0
        self._all_gpus = sum(node.total_gpus for node in situation.nodes)
        self._runs: dict[str, int] = {}
        self._cpus: dict[str, float] = {}
        self._gpus: dict[str, float] = {}
        for held in situation.running:
            self.take(held.run.project, held.run.spec.resources, held.processes)

    def take(self, project: str, asked: Resources, processes: int) -> None:
        """Count a run."""
        self._runs[project] = self._runs.get(project, 0) + 1
        self._cpus[project] = self._cpus.get(project, 0.0) + asked.num_cpus * processes
        self._gpus[project] = self._gpus.get(project, 0.0) + asked.num_gpus * processes

    def of(self, project: str) -> float:
        """The larger of its parts of all CPUs and all GPUs, for its weight."""
        of_gpus = self._gpus.get(project, 0.0) / self._all_gpus if self._all_gpus else 0.0
        of_cpus = self._cpus.get(project, 0.0) / self._all_cpus
        return max(of_gpus, of_cpus) / self._project(project).weight

    def objection(self, run: Run) -> str | None:
        """What keeps a run of its project from starting, room or not."""
        project, asked = self._project(run.project), run.spec.resources
        runs = self._runs.get(run.project, 0)
        if project.max_runs is not None and runs >= project.max_runs:
            return f"project {project.name} to have fewer than {project.max_runs} runs at a time"
        gpus = self._gpus.get(run.project, 0.0) + asked.num_gpus * asked.processes
        if project.max_gpus is not None and asked.num_gpus and gpus > project.max_gpus:
            return f"project {project.name} to stay within its {project.max_gpus} GPUs"
        return None

    def _project(self, name: str) -> Project:
        return self._projects.get(name, Project(name))


def _avoided(situation: ClusterSnapshot) -> AvoidedNodes:
    """The nodes to avoid, as long as every run could run without them."""
    by_all = situation.avoid.for_all
    for avoid in (situation.avoid, AvoidedNodes(by_all, by_all)):
        rest = _usable(situation.nodes, avoid)
        asked = (waiting.run.spec.resources for waiting in situation.queued)
        if all(count_slots(one, rest, total=True) >= one.processes for one in asked):
            return avoid
    return AvoidedNodes()


def _usable(nodes: tuple[Node, ...], avoid: AvoidedNodes) -> tuple[Node, ...]:
    return exclude_gpus(exclude(nodes, avoid.for_all), avoid.for_gpus)


def _age(line: deque[QueuedRun]) -> datetime:
    return line[0].run.created_at


def _why(run: Run, leaving: Sequence[Run]) -> str:
    what = describe_resources(run.spec.resources)
    if not leaving:
        return f"{what} to become free"
    names = dict.fromkeys(name_visible_to(left, of=run) for left in leaving)
    return f"{what}; room is made by {', '.join(list(names)[:3])}"


def _with_room_of(held: RunningRun, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    return release(nodes, held.run.spec.resources, processes=held.processes, node_id=held.node_id)


def _needed(chosen: list[RunningRun], asked: Resources, soon: tuple[Node, ...]) -> list[RunningRun]:
    """Those without whom there is not room enough: the first ones may have become superfluous."""
    needed = list(chosen)
    for held in chosen[:-1]:
        rest = [other for other in needed if other is not held]
        nodes = soon
        for other in rest:
            nodes = _with_room_of(other, nodes)
        if count_slots(asked, nodes, total=False) >= asked.processes:
            needed = rest
    return needed
