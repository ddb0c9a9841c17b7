"""The dry run: what stands against a spec before anything is queued."""

from collections.abc import Iterator
from dataclasses import dataclass

from configs.protocol.report import NoiseFloor
from configs.spec.compute import Resources
from configs.spec.jobs import JobSpec
from configs.spec.run import DatasetFiles, NamedDataset
from service.domain.baselines import PlannedBaseline
from service.domain.planning.device_findings import device_findings
from service.domain.planning.findings import Facts, Finding, error, warning
from service.domain.planning.model_findings import model_findings
from service.domain.planning.references import references_of
from service.domain.ports import Node
from service.domain.scheduling.capacity import count_slots, describe_resources
from service.domain.states import RunState


@dataclass(frozen=True)
class Plan:
    """A spec and what was found."""

    spec: JobSpec
    findings: tuple[Finding, ...]
    waiting_for: str | None
    """The run whose checkpoint is the model, if it is not trained yet."""

    baseline: PlannedBaseline | None = None
    """The twin that it would have; none: it has none."""

    noise: NoiseFloor | None = None
    """What runs like it differ by if they differ in their seed alone; none: not known yet."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What keeps the run from being queued."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def make_plan(spec: JobSpec, facts: Facts) -> Plan:
    """Everything that speaks against running `spec`."""
    findings = [
        *_dataset_findings(spec, facts),
        *model_findings(spec, facts),
        *_resource_findings(spec.resources, facts.nodes),
        *device_findings(spec),
    ]
    run = facts.teacher_run
    waits = run.id if run is not None and run.state is not RunState.SUCCEEDED else None
    return Plan(spec, tuple(findings), waits)


def _dataset_findings(spec: JobSpec, facts: Facts) -> Iterator[Finding]:
    references = references_of(spec)
    if isinstance(references.dataset, DatasetFiles):
        yield error(
            f"{references.dataset_field}.root",
            "not_by_path",
            "Register the dataset (POST /v1/datasets) and name it.",
        )
    elif isinstance(references.dataset, NamedDataset) and facts.dataset is None:
        name = references.dataset.name
        yield error(
            f"{references.dataset_field}.name",
            "dataset_not_found",
            f"No dataset is called {name!r}; `tandem data list` shows those there are.",
        )


def _resource_findings(asked: Resources, nodes: tuple[Node, ...] | None) -> Iterator[Finding]:
    if nodes is None:
        yield warning(
            "resources",
            "cluster_unreachable",
            "Ray does not answer, so resources were not checked.",
        )
        return
    room = count_slots(asked, nodes, total=True)
    if room >= asked.processes:
        return
    has = (
        ", ".join(f"{node.total_cpus:g} CPUs and {node.total_gpus:g} GPUs" for node in nodes)
        or "no node"
    )
    short = "" if asked.processes == 1 else f" has room for {room}: it"
    yield error(
        _field_too_large(asked, nodes, room=room),
        "resources_infeasible",
        f"Asked is room for {describe_resources(asked)}, but the cluster{short} has {has}.",
    )


def _field_too_large(asked: Resources, nodes: tuple[Node, ...], *, room: int) -> str:
    if room > 0:
        return "resources.processes"
    most_gpus = max((node.total_gpus for node in nodes), default=0)
    return "resources.num_gpus" if asked.num_gpus > most_gpus else "resources.num_cpus"
