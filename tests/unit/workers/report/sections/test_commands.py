"""The commands that repeat a run or a sweep lead to the same spec."""

import shlex
from pathlib import Path

import pytest
from pydantic import JsonValue

from configs.catalog import spec_from_preset
from configs.protocol.report import ReportInputs
from configs.spec.search import Asha, Choice, LogUniform
from configs.spec.sweep import Budget, SweepSpec
from service.cli.parsing import parse_assignments, parse_changes, parse_kind
from tests.support.workers.report_inputs import (
    CLS,
    SWEEP,
    make_comparison,
    make_distilled_run,
    make_execution,
    make_run_id,
    make_run_inputs,
    make_run_report,
)
from workers.report.blocks import Commands, Placeholder
from workers.report.sections.commands import commands_section, find_changes

PRESET = "digits/bckd"


def make_preset_inputs(
    folder: Path, changes: dict[str, JsonValue], *, seeds: tuple[int, ...] = (0,), pack: int = 1
) -> ReportInputs:
    runs = tuple(
        make_distilled_run(
            folder,
            number=number + 1,
            execution=make_execution(pack_size=pack),
            spec=spec_from_preset(PRESET, {**changes, "seed": seed}),
        )
        for number, seed in enumerate(seeds)
    )
    return make_run_inputs(folder, runs=runs, preset=PRESET)


def read_commands(inputs: ReportInputs, *, num_runs: int = 1) -> list[str]:
    runs = tuple(make_run_id(number + 1) for number in range(num_runs))
    comparison = make_comparison(
        runs=runs, baselines=runs, seed_spread="noise_floor" if num_runs == 1 else "pairs"
    )
    section = commands_section(inputs, make_run_report(comparisons=(comparison,)))
    return [line for block in section.blocks if isinstance(block, Commands) for line in block.lines]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule.optimizer.lr": 1e-05, "distillation.loc_weight": 2.5},
        {"data.image_size": [64, 96], "schedule.max_grad_norm": None},
        {"distillation": {"method": "pkd", "weight": 3.0}, "compute.precision": "bf16"},
        {"student.backbone": {"kind": "resnet", "depth": 18}, "teacher": {"name": "other"}},
    ],
)
def test_a_run_s_command_leads_to_the_same_spec(
    tmp_path: Path, changes: dict[str, JsonValue]
) -> None:
    inputs = make_preset_inputs(tmp_path, changes, seeds=(7,))

    command, repeat = read_commands(inputs)

    tandem, run, preset, *assignments = shlex.split(command)
    assert [tandem, run, preset] == ["tandem", "run", PRESET]
    assert spec_from_preset(preset, parse_changes(assignments)) == inputs.runs[0].spec
    assert repeat == f"tandem repeat {inputs.runs[0].id} --seeds 2"


def test_several_seeds_of_a_pack_are_a_loop(tmp_path: Path) -> None:
    inputs = make_preset_inputs(tmp_path, {"schedule.epochs": 3}, seeds=(0, 2, 5), pack=2)

    command, repeat = read_commands(inputs, num_runs=3)

    assert command == (
        "for seed in 0 2 5; do tandem run digits/bckd seed=$seed schedule.epochs=3 --pack; done"
    )
    assert repeat.endswith("--seeds 4")


def test_a_spec_without_a_preset_has_no_command(tmp_path: Path) -> None:
    inputs = make_run_inputs(tmp_path, preset=None)

    blocks = commands_section(inputs, make_run_report()).blocks

    assert any(isinstance(block, Placeholder) for block in blocks)
    assert find_changes(inputs.runs[0].spec, preset="no/such") is None


def test_a_sweep_s_command_has_its_space_search_and_budget(tmp_path: Path) -> None:
    sweep = SweepSpec(
        base=spec_from_preset("digits/sweep", {"seed": 3}),
        space={
            CLS: LogUniform(low=0.25, high=4.0, when={}),
            "distillation.method": Choice(values=("bckd", "pkd"), when={}),
        },
        scheduler=Asha(grace_epochs=2, factor=2),
        budget=Budget(trials=12),
        probe=False,
        tags={},
    )
    inputs = make_run_inputs(tmp_path, preset="digits/sweep", sweep=sweep, sweep_id=SWEEP)

    command, extend = read_commands(inputs)

    tandem, verb, preset, *arguments = shlex.split(command)
    options = arguments.index("--trials")
    parsed = parse_assignments(arguments[:options])
    assert [tandem, verb, preset] == ["tandem", "sweep", "digits/sweep"]
    assert spec_from_preset(preset, parsed.changes) == sweep.base
    assert SweepSpec.model_validate({**sweep.model_dump(), "space": parsed.space}) == sweep
    scheduler = arguments[arguments.index("--scheduler") + 1]
    assert Asha.model_validate(parse_kind(scheduler)) == sweep.scheduler
    assert arguments[options + 1] == "12"
    assert "--no-probe" in arguments
    assert extend == f"tandem extend {SWEEP} --trials 12"
