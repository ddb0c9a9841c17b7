"""The plan of a run: everything that is found about its spec before it is queued."""

from collections.abc import Iterator
from dataclasses import dataclass

from configs.protocol.comparison import NoiseFloor
from configs.spec.compute import Resources
from configs.spec.detector import YoloxHead
from configs.spec.jobs import JobSpec
from configs.spec.references import DatasetFiles, NamedDataset
from configs.spec.run import RunSpec
from service.domain.baselines import PlannedBaseline, PlannedControl
from service.domain.estimates import RunEstimate
from service.domain.planning.device_findings import device_findings
from service.domain.planning.findings import Facts, Finding, error, warning
from service.domain.planning.model_findings import model_findings
from service.domain.planning.references import references_of
from service.domain.planning.tag_findings import tag_findings
from service.domain.planning.unlabelled_findings import unlabelled_findings
from service.domain.planning.weight_findings import weight_findings
from service.domain.ports import Node
from service.domain.scheduling.capacity import count_slots, describe_resources
from service.domain.states import RunState

_LAST_STAGE = 4
_LAST_STRIDE = 32


@dataclass(frozen=True)
class Plan:
    """The result of a dry run."""

    spec: JobSpec
    findings: tuple[Finding, ...]
    waiting_for: str | None
    """The id of the run whose checkpoint is the model; None if there is none, or it is trained."""

    baseline: PlannedBaseline | None = None
    """The baseline that it would get; None if it needs none."""

    controls: tuple[PlannedControl, ...] = ()
    noise: NoiseFloor | None = None
    """How much runs like it scatter over seeds; None if it is not known yet."""

    estimate: RunEstimate | None = None
    """Its length; None for jobs that do not train, and without its dataset."""


def make_plan(spec: JobSpec, facts: Facts) -> Plan:
    """Check a spec against what is known of the things that it names."""
    findings = [
        *_dataset_findings(spec, facts),
        *unlabelled_findings(spec, facts),
        *model_findings(spec, facts),
        *_resource_findings(spec.resources, facts.nodes),
        *device_findings(spec),
        *_batch_findings(spec),
        *weight_findings(spec, facts),
        *tag_findings(spec.tags),
    ]
    run = facts.teacher_run
    waiting_for = run.id if run is not None and run.state is not RunState.SUCCEEDED else None
    return Plan(spec, tuple(findings), waiting_for)


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
            f"No dataset is called {name!r}. {facts.dataset_hint}".rstrip(),
        )
    elif facts.dataset is not None and not facts.dataset.manifest.has_labels:
        yield error(
            f"{references.dataset_field}.name",
            "dataset_without_labels",
            f"The dataset {facts.dataset.name!r} has images without labels, which only "
            "data.unlabelled can name. Name one with boxes and validation images here.",
        )


def _batch_findings(spec: JobSpec) -> Iterator[Finding]:
    """Whether features of stride 32 have more than one value for each channel to normalize."""
    if not isinstance(spec, RunSpec):
        return
    backbone = spec.student.backbone
    num_shards = spec.resources.processes * spec.compute.grad_accumulation_steps
    is_trained = getattr(backbone, "frozen_stages", 0) < _LAST_STAGE
    # Swin has no batch normalization.
    is_backbone_normalized = is_trained and not getattr(backbone, "norm_eval", True)
    is_normalized = is_backbone_normalized or isinstance(spec.student.head, YoloxHead)
    sizes = [spec.data.batch_size]
    if spec.data.unlabelled is not None:
        sizes.append(spec.data.unlabelled.images_per_batch)
    is_single = num_shards in sizes and max(spec.data.image_size) <= _LAST_STRIDE
    if is_normalized and is_single and not spec.compute.sync_bn:
        yield error(
            "data.batch_size",
            "batch_too_small",
            "Batch normalization needs more than one value of each channel, and one image of "
            f"{_LAST_STRIDE} pixels has a single one at stride {_LAST_STRIDE}: load at least two "
            "images at once, or enlarge data.image_size.",
        )


def _resource_findings(resources: Resources, nodes: tuple[Node, ...] | None) -> Iterator[Finding]:
    if nodes is None:
        yield warning(
            "resources",
            "cluster_unreachable",
            "Ray does not answer, so resources were not checked.",
        )
        return
    slots = count_slots(resources, nodes, total=True)
    if slots >= resources.processes:
        return
    capacity = (
        ", ".join(f"{node.total_cpus:g} CPUs and {node.total_gpus:g} GPUs" for node in nodes)
        or "no node"
    )
    shortage = "" if resources.processes == 1 else f" has room for {slots}: it"
    yield error(
        _infeasible_field(resources, nodes, slots=slots),
        "resources_infeasible",
        f"The run needs {describe_resources(resources)}, but the cluster{shortage} has {capacity}.",
    )


def _infeasible_field(resources: Resources, nodes: tuple[Node, ...], *, slots: int) -> str:
    if slots > 0:
        return "resources.processes"
    max_gpus = max((node.total_gpus for node in nodes), default=0)
    return "resources.num_gpus" if resources.num_gpus > max_gpus else "resources.num_cpus"
