"""The section on the configuration: what the pair differs in, and the main settings."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from configs.protocol.inheritance import InheritedWeights
from configs.protocol.names import RunFile
from configs.protocol.report import Report, ReportInputs, ReportRun
from configs.spec.data import Unlabelled
from configs.spec.dataset import DatasetManifest
from configs.spec.references import NamedDataset
from configs.spec.run import RunSpec
from configs.spec.schedule import Ema, Schedule, StepPolicy
from configs.spec.search import Choice, Parameter
from workers.report.blocks import Block, Cell, Column, Placeholder, Row, Section, Table
from workers.report.sections.headline import main_comparison
from workers.report.wording import (
    MISSING,
    format_count,
    format_scalar,
    join_items,
    method_title,
    schedule_title,
    student_title,
    teacher_title,
)

_NOT_COMPARED = ("tags", "resources", "checkpoints")
"""Fields that do not affect results."""


def configuration_section(
    inputs: ReportInputs, report: Report, dataset: DatasetManifest
) -> Section:
    """Build the section with the differences of the main pair and the main settings."""
    return Section("configuration", "Configuration", tuple(_blocks(inputs, report, dataset)))


def find_differences(baseline: RunSpec, distilled: RunSpec) -> list[tuple[str, str, str]]:
    """Fields that differ, by dotted name, with both values; seeds and resources do not count."""
    before, after = flatten_spec(baseline), flatten_spec(distilled)
    return [
        (path, before.get(path, MISSING), after.get(path, MISSING))
        for path in sorted(before.keys() | after.keys())
        if before.get(path, MISSING) != after.get(path, MISSING)
    ]


def flatten_spec(spec: RunSpec) -> dict[str, str]:
    """The fields of a spec by dotted name, as text; fields without a value are left out."""
    return dict(_flatten(spec.model_dump(mode="json", exclude={*_NOT_COMPARED, "seed"}), ""))


def _flatten(document: Mapping[str, object], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in document.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{path}.")
        elif value is not None:
            yield path, _format_value(value)


def _format_value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_format_value, value))
    return format_scalar(value) if isinstance(value, bool | int | float) else str(value)


def _blocks(inputs: ReportInputs, report: Report, dataset: DatasetManifest) -> Iterator[Block]:
    pair = _main_pair(inputs, report)
    if pair is not None:
        yield _differences_table(*pair)
    run = _main_run(inputs, report)
    if run is None:
        yield Placeholder("There are no runs yet.")
        return
    rows = [Row((Cell(name), Cell(value))) for name, value in _settings(run, inputs, dataset)]
    yield Table((Column("setting"), Column("value")), tuple(rows), title="Main settings")


def _main_run(inputs: ReportInputs, report: Report) -> ReportRun | None:
    """The run that the settings are those of: of the main comparison, or else the first."""
    main = main_comparison(report)
    by_id = {run.id: run for run in inputs.runs}
    return next(iter(inputs.runs), None) if main is None else by_id[main.runs[0]]


def _main_pair(inputs: ReportInputs, report: Report) -> tuple[ReportRun, ReportRun] | None:
    """Baseline and distilled run of the main comparison."""
    main = main_comparison(report)
    if main is None:
        return None
    by_id = {run.id: run for run in inputs.runs}
    return by_id[main.baselines[0]], by_id[main.runs[0]]


def _differences_table(baseline: ReportRun, distilled: ReportRun) -> Table:
    columns = (Column("field"), Column("baseline"), Column("with distillation"))
    differences = find_differences(baseline.spec, distilled.spec)
    rows = [Row(tuple(map(Cell, difference))) for difference in differences]
    return Table(columns, tuple(rows), title="What differs between baseline and distilled student")


def _settings(
    run: ReportRun, inputs: ReportInputs, dataset: DatasetManifest
) -> Iterator[tuple[str, str]]:
    spec = run.spec
    yield "preset", inputs.preset or "none: launched from a complete spec"
    yield "student", student_title(spec)
    yield "its initial weights", _weights(run)
    yield "neck and head", _neck_and_head(spec)
    yield "teacher", teacher_title(spec)
    yield "method", method_title(spec)
    yield (
        "dataset",
        f"{dataset.name}, {format_count(len(dataset.classes), 'class', plural='classes')}",
    )
    yield "training images", _limited(dataset.train.num_images, spec.data.train_images)
    yield "validation images", _limited(dataset.val.num_images, spec.evaluation.val_images)
    yield "detections of an image", f"up to {spec.evaluation.max_detections}"
    if spec.data.unlabelled is not None:
        yield "images without labels", _unlabelled(spec.data.unlabelled)
    yield "image size", " by ".join(map(str, spec.data.image_size))
    yield "mixed images", _mixed_images(spec)
    yield "batch size", str(spec.data.batch_size)
    steps = run.execution.steps
    yield "schedule", schedule_title(spec) + (f", {steps} steps" if steps else "")
    yield "optimizer", _optimizer(spec.schedule)
    if spec.schedule.ema is not None:
        yield "weights of the student", _averaging(spec.schedule.ema)
    yield "learning rate", _learning_rate(spec.schedule)
    yield "evaluation", f"every {format_count(spec.evaluation.every_epochs, 'epoch')}"
    yield "precision", spec.compute.precision
    yield "repeatability", _repeatability(spec)
    yield "seeds", join_items(sorted({other.spec.seed for other in inputs.runs}))
    if inputs.sweep is not None:
        for path, parameter in inputs.sweep.space.items():
            yield f"searched: {path}", _parameter(parameter)


def _repeatability(spec: RunSpec) -> str:
    if spec.resources.num_gpus == 0:
        return "exact: a CPU is deterministic"
    if spec.compute.deterministic:
        return "deterministic algorithms: exact on the same kind of GPU and software"
    return (
        "not exact: nondeterministic kernels and the fastest algorithms of cuDNN are allowed "
        "(compute.deterministic is false), so a repeated or resumed run ends with other digits"
    )


def _weights(run: ReportRun) -> str:
    backbone = run.spec.student.backbone
    if backbone.pretrained is None:
        return f"random{_inherited(run)}"
    frozen = getattr(backbone, "frozen_stages", -1)
    suffix = f", first {format_count(frozen, 'stage')} frozen" if frozen > 0 else ""
    return f"backbone from ImageNet{suffix}{_inherited(run)}"


def _inherited(run: ReportRun) -> str:
    """What was taken from the teacher, as its run wrote it down."""
    if not run.spec.student.inherit:
        return ""
    file = Path(run.folder) / RunFile.INHERITED_WEIGHTS
    try:
        summary = InheritedWeights.model_validate_json(file.read_bytes()).summary
    except (OSError, ValidationError):
        summary = join_items(run.spec.student.inherit)
    return f"; from the teacher {summary}. The baseline has none of them, so the gain includes them"


def _neck_and_head(spec: RunSpec) -> str:
    head, neck = spec.student.head, spec.student.neck
    pyramid = "FPN" if neck.kind == "fpn" else "YOLOX PAFPN"
    return (
        f"{pyramid} with {neck.channels} channels, {head.kind.upper()} head with "
        f"{head.convs} convolutions of {head.channels} channels"
    )


def _limited(available: int, limit: int | None) -> str:
    if limit is None or limit >= available:
        return str(available)
    return f"the first {limit} of {available}"


def _optimizer(schedule: Schedule) -> str:
    optimizer = schedule.optimizer
    clipping = schedule.max_grad_norm
    suffix = "" if clipping is None else f", gradients clipped to norm {format_scalar(clipping)}"
    name = {"sgd": "SGD", "adamw": "AdamW"}[optimizer.kind]
    return f"{name}, weight decay {format_scalar(optimizer.weight_decay)}{suffix}"


def _mixed_images(spec: RunSpec) -> str:
    mixtures = {"mosaic": spec.data.mosaic, "mixup": spec.data.mixup}
    texts = [
        f"{name} of {mixture.probability:.0%} up to {mixture.stop_epochs} epochs before the end"
        for name, mixture in mixtures.items()
        if mixture is not None
    ]
    return " and ".join(texts) or "none"


def _unlabelled(images: Unlabelled) -> str:
    dataset = images.dataset
    name = dataset.name if isinstance(dataset, NamedDataset) else dataset.root
    return (
        f"{images.images_per_batch} of {name} in each batch, labeled by the teacher. The baseline "
        "has none of them, so the gain includes them"
    )


def _averaging(ema: Ema) -> str:
    decay, steps = format_scalar(ema.decay), ema.warmup_steps
    return f"moving average, decay {decay} after a warmup over {steps} steps"


def _learning_rate(schedule: Schedule) -> str:
    policy = schedule.policy
    decay = "cosine decay"
    if isinstance(policy, StepPolicy):
        milestones = join_items(policy.milestones)
        decay = f"times {format_scalar(policy.gamma)} after epochs {milestones}"
    warmup = schedule.warmup
    start = "" if warmup is None else f", warmup over {warmup.iterations} steps"
    return f"{format_scalar(schedule.optimizer.lr)}, {decay}{start}"


def _parameter(parameter: Parameter) -> str:
    if isinstance(parameter, Choice):
        return _join_values(parameter.values)
    scale = " (logarithmic)" if parameter.kind == "loguniform" else ""
    return f"{format_scalar(parameter.low)} to {format_scalar(parameter.high)}{scale}"


def _join_values(values: Sequence[bool | float | str]) -> str:
    return join_items((format_scalar(value) for value in values), conjunction="or")
