"""The configuration: what baseline and distilled student differ in, and the main settings."""

from pathlib import Path
from typing import Any

import pytest

from configs.catalog import parse_spec
from configs.protocol.inheritance import InheritedWeights
from configs.protocol.names import RunFile
from tests.support.factories import make_bckd_spec, make_spec
from tests.support.workers.report_inputs import (
    make_manifest,
    make_run_inputs,
    make_run_report,
    make_sweep_inputs,
    make_sweep_report,
)
from workers.report.blocks import Placeholder, Section, Table
from workers.report.sections.configuration import configuration_section, find_differences


def read_settings(section: Section) -> dict[str, str]:
    table = section.blocks[-1]
    assert isinstance(table, Table)
    return {row.cells[0].text: row.cells[1].text for row in table.rows}


def test_a_pair_differs_in_the_teacher_and_the_method_only() -> None:
    baseline, distilled = parse_spec(make_spec(seed=1)), parse_spec(make_bckd_spec(seed=2))

    differences = {path: values for path, *values in find_differences(baseline, distilled)}

    assert differences["distillation.method"] == ["none", "bckd"]
    assert differences["teacher.name"] == ["\N{EN DASH}", "big"]
    assert {path.split(".")[0] for path in differences} == {"distillation", "teacher"}


def test_main_settings_are_those_of_the_main_run(tmp_path: Path) -> None:
    section = configuration_section(
        make_run_inputs(tmp_path, preset="quick/instant_bckd"), make_run_report(), make_manifest()
    )

    settings = read_settings(section)
    differences = section.blocks[0]
    assert isinstance(differences, Table)
    assert [column.title for column in differences.columns][1:] == ["baseline", "with distillation"]
    assert settings["preset"] == "quick/instant_bckd"
    assert settings["teacher"] == "big"
    assert settings["method"] == "BCKD"
    assert settings["dataset"] == "digits, 10 classes"
    assert settings["its initial weights"] == "random"
    assert settings["schedule"] == "12 epochs (1x), 1200 steps"
    assert settings["seeds"] == "0"


def test_the_settings_say_what_was_taken_from_the_teacher(tmp_path: Path) -> None:
    inputs = make_run_inputs(tmp_path)
    student = inputs.runs[0].spec.student.model_copy(update={"inherit": ("neck",)})
    specs = (run.spec.model_copy(update={"student": student}) for run in inputs.runs)
    pairs = zip(inputs.runs, specs, strict=True)
    runs = tuple(run.model_copy(update={"spec": spec}) for run, spec in pairs)
    for run in runs:
        inherited = InheritedWeights(
            parts=("neck",), tensors=("neck.a.bias",), unmatched=("neck.b",)
        )
        Path(run.folder).mkdir(parents=True, exist_ok=True)
        file = Path(run.folder) / RunFile.INHERITED_WEIGHTS
        file.write_text(inherited.model_dump_json())

    section = configuration_section(
        inputs.model_copy(update={"runs": runs}), make_run_report(), make_manifest()
    )

    weights = read_settings(section)["its initial weights"]
    assert weights.startswith("random; from the teacher 1 of 2 tensors of neck; not taken: ")
    assert weights.endswith("so the gain includes them")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "exact: a CPU"),
        ({"resources": {"num_gpus": 1}}, "deterministic algorithms"),
        (
            {"resources": {"num_gpus": 1}, "compute": {"deterministic": False}},
            "not exact: nondeterministic kernels and the fastest algorithms of cuDNN",
        ),
    ],
)
def test_the_settings_say_whether_a_run_repeats(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    inputs = make_run_inputs(tmp_path)
    specs = [parse_spec(run.spec.model_dump(mode="json") | changes) for run in inputs.runs]
    pairs = zip(inputs.runs, specs, strict=True)
    runs = tuple(run.model_copy(update={"spec": spec}) for run, spec in pairs)

    section = configuration_section(
        inputs.model_copy(update={"runs": runs}), make_run_report(), make_manifest()
    )

    assert read_settings(section)["repeatability"].startswith(expected)


def test_a_sweep_shows_the_range_of_each_parameter(tmp_path: Path) -> None:
    inputs = make_sweep_inputs(tmp_path)

    section = configuration_section(inputs, make_sweep_report(inputs), make_manifest())

    settings = read_settings(section)
    assert settings["searched: distillation.cls_weight"] == "0.1 to 10 (logarithmic)"


def test_without_runs_it_says_so(tmp_path: Path) -> None:
    inputs = make_run_inputs(tmp_path, runs=())

    section = configuration_section(inputs, make_run_report(comparisons=()), make_manifest())

    assert section.blocks == (Placeholder("There are no runs yet."),)
