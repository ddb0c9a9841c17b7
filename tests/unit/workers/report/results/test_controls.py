"""Controls in a report: paired with the distilled runs of their seeds, and never the answer."""

from pathlib import Path

import pytest

from configs.derived_specs import control_spec
from configs.protocol.names import RunFile
from configs.protocol.report import Report, ReportRun
from configs.spec.base import TeacherControl
from tests.support.workers.report_inputs import (
    make_baseline_run,
    make_distilled_run,
    make_run_id,
    make_run_inputs,
)
from tests.support.workers.saved_detections import RunFolders
from workers.report.blocks import Paragraph
from workers.report.results.report import build_report
from workers.report.sections.controls import controls_section
from workers.report.sections.headline import main_comparison

BASELINES, DISTILLED, RANDOM, SHUFFLED = (
    (0, 0.3),
    (10, 0.85),
    (20, 0.35),
    (30, 0.95),
)
"""The number of the first run of each kind, and its recall."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> RunFolders:
    runs = RunFolders(tmp_path_factory.mktemp("runs"))
    for first, recall in (BASELINES, DISTILLED, RANDOM, SHUFFLED):
        for seed in range(3):
            number = first + seed
            runs.write_run(make_run_id(number), student=recall, teacher=0.95, seed=number)
    return runs


def make_runs(folder: Path, *, seeds: int, control_seeds: int) -> tuple[ReportRun, ...]:
    """Baselines, distilled runs and controls of both kinds, the latter two with fewer seeds."""
    members = [make_baseline_run(folder, number=seed, seed=seed) for seed in range(seeds)]
    members += [make_distilled(folder, DISTILLED[0], seed) for seed in range(seeds)]
    kinds: tuple[tuple[int, TeacherControl], ...] = (
        (RANDOM[0], "random_teacher"),
        (SHUFFLED[0], "shuffled_teacher"),
    )
    for first, kind in kinds:
        for seed in range(control_seeds):
            run = make_distilled(folder, first, seed)
            changes = {"role": "control", "spec": control_spec(run.spec, kind)}
            members.append(run.model_copy(update={**changes, "seedless_digest": kind}))
    return tuple(members)


def make_distilled(folder: Path, first: int, seed: int) -> ReportRun:
    return make_distilled_run(
        folder,
        number=first + seed,
        seed=seed,
        baseline=make_run_id(seed),
        seedless_digest="taught",
    )


def read_first_sentence(report: Report) -> str:
    section = controls_section(report)
    assert section is not None
    assert isinstance(section.blocks[0], Paragraph)
    return section.blocks[0].text


def test_each_kind_is_compared_over_the_seeds_that_both_have(runs: RunFolders) -> None:
    members = make_runs(runs.folder, seeds=3, control_seeds=3)

    report = build_report(make_run_inputs(runs.folder, runs=members))

    random, shuffled = report.controls
    assert (random.kind, shuffled.kind) == ("random_teacher", "shuffled_teacher")
    assert random.runs == tuple(map(make_run_id, (10, 11, 12)))
    assert random.controls == tuple(map(make_run_id, (20, 21, 22)))
    assert random.verdict == "helps"
    assert shuffled.verdict != "helps"
    total = random.difference.difference + random.control_gain.difference
    assert total == pytest.approx(random.gain.difference)
    assert "needs a teacher that knows something about the image" in read_first_sentence(report)


def test_seeds_without_a_control_are_left_out(runs: RunFolders) -> None:
    members = make_runs(runs.folder, seeds=3, control_seeds=2)

    report = build_report(make_run_inputs(runs.folder, runs=members))

    assert [len(control.runs) for control in report.controls] == [2, 2]
    assert report.controls[0].controls == (make_run_id(20), make_run_id(21))


def test_the_answer_is_that_of_the_distilled_runs(runs: RunFolders) -> None:
    members = make_runs(runs.folder, seeds=2, control_seeds=2)

    report = build_report(make_run_inputs(runs.folder, runs=members))

    main = main_comparison(report)
    assert main is not None
    assert main.runs == (make_run_id(10), make_run_id(11))
    assert {comparison.control for comparison in report.comparisons} == {
        None,
        "random_teacher",
        "shuffled_teacher",
    }
    assert report.conclusion.startswith("Distillation helps")
    assert report.transfer is not None
    assert report.transfer.run in main.runs


def test_one_seed_cannot_tell(runs: RunFolders) -> None:
    members = make_runs(runs.folder, seeds=1, control_seeds=1)

    report = build_report(make_run_inputs(runs.folder, runs=members))

    assert [control.verdict for control in report.controls] == ["cannot_tell"] * 2
    text = read_first_sentence(report)
    assert "Cannot tell how much of the gain" in text
    assert "one seed" in text


def test_without_finished_controls_there_is_no_section(runs: RunFolders, tmp_path: Path) -> None:
    members = make_runs(runs.folder, seeds=2, control_seeds=1)
    lost = [
        run.model_copy(update={"folder": str(tmp_path)}) if run.role == "control" else run
        for run in members
    ]

    report = build_report(make_run_inputs(runs.folder, runs=lost))

    assert not (tmp_path / RunFile.MATCHES).exists()
    assert report.controls == ()
    assert controls_section(report) is None


def test_a_report_of_controls_alone_says_what_they_are(runs: RunFolders) -> None:
    members = make_runs(runs.folder, seeds=2, control_seeds=2)
    controls = [run for run in members if run.role != "distilled"]

    report = build_report(make_run_inputs(runs.folder, runs=controls))

    assert report.controls == ()
    assert "distillation from " in report.conclusion.lower()
