"""Numbers of a report from its inputs and the files of runs."""

from pathlib import Path

import pytest

from configs.metric_keys import Metric
from configs.protocol.names import RunFile
from configs.protocol.report import Report, ReportInputs, ReportRun
from configs.protocol.sweep_log import SweepEntry, TrialEnded, TrialSuggested
from configs.spec.references import DatasetFiles
from tests.support.workers.report_inputs import (
    CLS,
    LOC,
    SWEEP,
    make_baseline_run,
    make_distilled_run,
    make_run_id,
    make_run_inputs,
    make_sweep_inputs,
    make_sweep_report,
    make_sweep_spec,
)
from tests.support.workers.saved_detections import RunFolders
from workers.report.results.report import build_report


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> RunFolders:
    """Runs 0 and 1: baselines with two seeds; 2 and 3: distilled runs; 4: a low score."""
    runs = RunFolders(tmp_path_factory.mktemp("runs"))
    for number, student in enumerate((0.3, 0.35, 0.85, 0.9, 0.1)):
        runs.write_run(make_run_id(number), student=student, teacher=0.95, seed=number)
    return runs


def build_inputs(runs: RunFolders, *report_runs: ReportRun, **changes: object) -> ReportInputs:
    data = DatasetFiles(root=str(runs.data))
    return make_run_inputs(runs.folder, runs=report_runs, dataset=data, **changes)


def test_a_distilled_run_is_compared_with_its_baseline(runs: RunFolders) -> None:
    baseline, distilled = make_baseline_run(runs.folder), make_distilled_run(runs.folder, number=2)

    report = build_report(build_inputs(runs, baseline, distilled))

    (comparison,) = report.comparisons
    assert (comparison.runs, comparison.baselines) == ((make_run_id(2),), (make_run_id(0),))
    assert comparison.parts["bbox_mAP"].difference > 0.2
    assert comparison.verdict == "helps"
    assert comparison.teacher_map == 0.397
    assert report.best_trial is None


def test_seeds_of_a_trial_are_one_comparison_each_with_the_baseline_of_its_seed(
    runs: RunFolders,
) -> None:
    report_runs = (
        make_baseline_run(runs.folder, number=0, seed=0),
        make_baseline_run(runs.folder, number=1, seed=1),
        make_distilled_run(runs.folder, number=3, seed=1, trial=0, baseline=make_run_id(1)),
        make_distilled_run(runs.folder, number=2, seed=0, trial=0, baseline=make_run_id(0)),
    )

    (comparison,) = build_report(build_inputs(runs, *report_runs)).comparisons

    assert comparison.trial == 0
    assert comparison.runs == (make_run_id(2), make_run_id(3))
    assert comparison.baselines == (make_run_id(0), make_run_id(1))


def test_runs_without_a_finished_baseline_or_without_files_get_no_interval(
    runs: RunFolders,
) -> None:
    report_runs = (
        make_baseline_run(runs.folder),
        make_baseline_run(runs.folder, number=1, result="failed"),
        make_distilled_run(runs.folder, number=2, baseline=None),
        make_distilled_run(runs.folder, number=3, baseline=make_run_id(1)),
        make_distilled_run(runs.folder, number=4, result="stopped"),
        make_distilled_run(runs.folder, number=7),
    )

    assert build_report(build_inputs(runs, *report_runs)).comparisons == ()


def test_a_damaged_file_costs_its_own_comparison_only(
    runs: RunFolders, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / make_run_id(5)).mkdir()
    (tmp_path / make_run_id(5) / RunFile.MATCHES).write_bytes(b"PK half a file")
    report_runs = (
        make_baseline_run(runs.folder),
        make_distilled_run(runs.folder, number=2),
        make_distilled_run(tmp_path, number=5, name="half"),
    )

    report = build_report(build_inputs(runs, *report_runs))

    assert [comparison.runs for comparison in report.comparisons] == [(make_run_id(2),)]
    assert "Cannot compare half" in caplog.text


def test_transfer_is_that_of_the_best_distilled_run(runs: RunFolders) -> None:
    report_runs = (
        make_baseline_run(runs.folder),
        make_distilled_run(runs.folder, number=3, best_map=0.38),
        make_distilled_run(runs.folder, number=4, best_map=0.30),
    )

    transfer = build_report(build_inputs(runs, *report_runs)).transfer

    assert transfer is not None
    assert transfer.run == make_run_id(3)
    assert transfer.images


def write_sweep(runs: RunFolders, *maps: float) -> ReportInputs:
    """Write a trial for each mAP, with run 2's detections; the last one stopped after 4 epochs."""
    report_runs, entries = [make_baseline_run(runs.folder)], list[SweepEntry]()
    for number, best in enumerate(maps):
        is_last = number == len(maps) - 1
        result = "stopped" if is_last else "finished"
        values = {CLS: 0.5 + number, LOC: 4.0, "schedule.optimizer.lr": 0.01}
        entries.append(TrialSuggested(number=number, values=values))
        entries.append(
            TrialEnded(
                number=number,
                result=result,
                epoch=4 if is_last else 12,
                values={Metric.MAP.value: best},
            )
        )
        report_runs.append(
            make_distilled_run(
                runs.folder,
                number=10 + number,
                trial=number,
                values=values,
                result=result,
                best_map=best,
            ).model_copy(update={"folder": str(runs.folder / make_run_id(2))})
        )
    return build_inputs(
        runs, *report_runs, sweep=make_sweep_spec(), sweep_id=SWEEP, entries=tuple(entries)
    )


def test_a_sweep_has_a_best_trial_ties_importance_and_what_it_saved(runs: RunFolders) -> None:
    report = build_report(write_sweep(runs, 0.33, 0.36, 0.355, 0.34, 0.30))

    assert report.best_trial == 1
    assert report.tied_with_best == (2,)
    assert report.importance == {CLS: 1.0}
    assert (report.epochs_trained, report.epochs_saved) == (4 * 12 + 4, 8)
    assert [comparison.trial for comparison in report.comparisons] == [0, 1, 2, 3]
    assert report.transfer is not None
    assert report.transfer.run == make_run_id(11)


def test_too_few_finished_trials_have_no_importance(runs: RunFolders) -> None:
    assert build_report(write_sweep(runs, 0.33, 0.36, 0.355, 0.30)).importance == {}


def test_a_callback_runs_between_comparisons(
    runs: RunFolders,
) -> None:
    steps: list[None] = []

    build_report(write_sweep(runs, 0.33, 0.36, 0.30), on_step=lambda: steps.append(None))

    assert len(steps) >= 3


def test_a_report_survives_a_json_round_trip(runs: RunFolders, tmp_path: Path) -> None:
    computed = build_report(write_sweep(runs, 0.33, 0.36, 0.355, 0.34, 0.30))
    example = make_sweep_report(make_sweep_inputs(tmp_path))

    for report in (computed, example):
        assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_difference_within_the_floor_is_no_tie_where_the_floor_is_unknown(
    runs: RunFolders,
) -> None:
    inputs = write_sweep(runs, 0.36, 0.36, 0.30).model_copy(update={"noise": None})

    report = build_report(inputs)

    assert report.noise is None
    assert report.tied_with_best == ()


def test_copied_errors_are_those_of_the_main_comparison(runs: RunFolders, tmp_path: Path) -> None:
    report_runs = (
        make_baseline_run(runs.folder),
        make_distilled_run(runs.folder, number=2, best_map=0.3),
    )

    copied = build_report(build_inputs(runs, *report_runs)).copied_errors

    assert copied is not None
    assert copied.runs == (make_run_id(2),)
    assert 0 < copied.missed.errors < copied.missed.baseline_errors
    assert build_report(make_run_inputs(tmp_path)).copied_errors is None
