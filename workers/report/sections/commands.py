"""The section with the commands that repeat a run or a sweep."""

import shlex
from collections.abc import Iterator, Mapping, Sequence

import yaml
from pydantic import JsonValue

from configs.catalog import SpecError, UnknownPreset, spec_from_preset
from configs.protocol.report import Report, ReportInputs, ReportRun
from configs.spec.run import RunSpec
from configs.spec.search import Choice, Integer, Parameter
from configs.spec.sweep import SweepSpec
from workers.report.blocks import Block, Commands, Paragraph, Placeholder, Section
from workers.report.sections.headline import main_comparison
from workers.report.wording import format_count

_KEY, _TITLE = "repeat", "Repeat it"
_DISCRIMINATORS = ("kind", "method")
"""Fields that decide which other fields their object has."""


def commands_section(inputs: ReportInputs, report: Report) -> Section:
    """Build the section with commands to paste into a shell."""
    return Section(_KEY, _TITLE, tuple(_blocks(inputs, report)))


def find_changes(spec: RunSpec, *, preset: str) -> dict[str, JsonValue] | None:
    """The fields, by dotted name, that turn a preset into a spec; the seed does not count.

    None if there is no such preset, or if changes of it do not lead to the spec.
    """
    try:
        base = spec_from_preset(preset, {"seed": spec.seed})
        changes = dict(_changes(base.model_dump(mode="json"), spec.model_dump(mode="json"), ""))
        is_equal = spec_from_preset(preset, {**changes, "seed": spec.seed}) == spec
    except (UnknownPreset, SpecError):
        return None
    return changes if is_equal else None


def format_assignment(path: str, value: JsonValue) -> str:
    """An assignment as the command line takes it, quoted for the shell."""
    return shlex.quote(f"{path}={_to_yaml(value)}")


def _blocks(inputs: ReportInputs, report: Report) -> Iterator[Block]:
    if inputs.sweep is not None:
        yield from _sweep_blocks(inputs.sweep, inputs)
        return
    runs = _main_runs(inputs, report)
    if not runs:
        yield Placeholder("There are no runs yet.")
        return
    changes = find_changes(runs[0].spec, preset=inputs.preset) if inputs.preset else None
    if inputs.preset is None or changes is None:
        yield Placeholder("These runs were launched from a complete spec, not from a preset.")
    else:
        yield Paragraph(
            "This trains the same runs, with equal numbers on the same kind of device, where the "
            "dataset and the teacher have the same names:"
        )
        controls = [control.kind for control in report.controls]
        yield Commands((_run_command(runs, inputs.preset, changes, controls=controls),))
    if runs[0].role == "distilled":
        seeds = len(runs) + 1
        yield Paragraph(
            f"This adds another pair, for a verdict over {format_count(seeds, 'seed')}, on the "
            "service that trained these:"
        )
        yield Commands((f"tandem repeat {runs[0].id} --seeds {seeds}",))


def _main_runs(inputs: ReportInputs, report: Report) -> list[ReportRun]:
    """The runs of the main comparison; without one, the first run."""
    main = main_comparison(report)
    if main is None:
        return list(inputs.runs[:1])
    by_id = {run.id: run for run in inputs.runs}
    return [by_id[run_id] for run_id in main.runs]


def _run_command(
    runs: list[ReportRun],
    preset: str,
    changes: Mapping[str, JsonValue],
    *,
    controls: Sequence[str],
) -> str:
    parts = ["tandem", "run", preset]
    parts += [format_assignment(path, value) for path, value in changes.items()]
    first = runs[0]
    if first.role == "distilled" and first.baseline is None:
        parts.append("--no-baseline")
    elif first.execution.pack_size > 1:
        parts.append("--pack")
    parts += [f"--control {control}" for control in controls]
    seeds = [run.spec.seed for run in runs]
    if len(seeds) == 1:
        return " ".join([*parts[:3], f"seed={seeds[0]}", *parts[3:]])
    command = " ".join([*parts[:3], "seed=$seed", *parts[3:]])
    return f"for seed in {' '.join(map(str, seeds))}; do {command}; done"


def _sweep_blocks(sweep: SweepSpec, inputs: ReportInputs) -> Iterator[Block]:
    changes = find_changes(sweep.base, preset=inputs.preset) if inputs.preset else None
    if inputs.preset is None or changes is None:
        yield Placeholder("This sweep was launched from a complete spec, not from a preset.")
        return
    parts = ["tandem", "sweep", inputs.preset]
    parts += [shlex.quote(f"{path}={_parameter(p)}") for path, p in sweep.space.items()]
    parts += [format_assignment(path, value) for path, value in changes.items()]
    parts += [format_assignment("seed", sweep.base.seed)] if sweep.base.seed else []
    yield Commands((" ".join([*parts, *_sweep_options(sweep)]),))
    if inputs.sweep_id is not None:
        yield Paragraph("This adds trials to it:")
        yield Commands((f"tandem extend {inputs.sweep_id} --trials {sweep.budget.trials}",))


def _sweep_options(sweep: SweepSpec) -> Iterator[str]:
    """The options of `tandem sweep`; those that have their default value are left out."""
    budget = sweep.budget
    yield f"--trials {budget.trials}"
    yield f"--algorithm {_kind(sweep.algorithm.model_dump(mode='json'))}"
    yield f"--scheduler {_kind(sweep.scheduler.model_dump(mode='json'))}"
    for objective in sweep.objectives:
        yield f"--objective {shlex.quote(f'{objective.metric}:{objective.goal}')}"
    for point in sweep.initial_points:
        text = " ".join(f"{path}={_to_yaml(value)}" for path, value in point.items())
        yield f"--initial-point {shlex.quote(text)}"
    optional = {
        "--repeats": None if sweep.repeats == 1 else sweep.repeats,
        "--pack": None if sweep.pack == "auto" else sweep.pack,
        "--concurrency": sweep.concurrency,
        "--hours": budget.hours,
        "--gpu-hours": budget.gpu_hours,
        "--seed": sweep.seed or None,
        "--noise-runs": sweep.noise_runs,
    }
    yield from (f"{name} {value}" for name, value in optional.items() if value is not None)
    yield from [] if sweep.baseline else ["--no-baseline"]
    yield from [] if sweep.probe else ["--no-probe"]


def _kind(document: Mapping[str, JsonValue]) -> str:
    """A kind with its settings, as in `asha:grace_epochs=2,factor=4`."""
    settings = [f"{key}={_to_yaml(value)}" for key, value in document.items() if key != "kind"]
    return ":".join([str(document["kind"]), *([",".join(settings)] if settings else [])])


def _parameter(parameter: Parameter) -> str:
    """A parameter, as in `loguniform:0.25,4@distillation.method=bckd`."""
    if isinstance(parameter, Choice):
        text = f"choice:{_join(parameter.values)}"
    else:
        kind = "int" if isinstance(parameter, Integer) else parameter.kind
        text = f"{kind}:{_join((parameter.low, parameter.high))}"
    return "@".join([text, *(f"{path}={_join(v)}" for path, v in parameter.when.items())])


def _join(values: tuple[JsonValue, ...]) -> str:
    return ",".join(map(_to_yaml, values))


def _changes(
    base: Mapping[str, JsonValue], target: Mapping[str, JsonValue], prefix: str
) -> Iterator[tuple[str, JsonValue]]:
    """Assignments that turn one document into the other; other kinds are replaced as a whole."""
    for key, value in target.items():
        before = base.get(key)
        if before == value:
            continue
        if isinstance(before, Mapping) and isinstance(value, Mapping) and _is_alike(before, value):
            yield from _changes(before, value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_alike(first: Mapping[str, JsonValue], second: Mapping[str, JsonValue]) -> bool:
    """Whether two objects have the same fields and are of the same kind."""
    return first.keys() == second.keys() and all(
        first.get(name) == second.get(name) for name in _DISCRIMINATORS
    )


def _to_yaml(value: JsonValue) -> str:
    """A value in YAML on one line: unlike JSON, it writes 1e-05 as a number that YAML reads."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("...\n").strip()
