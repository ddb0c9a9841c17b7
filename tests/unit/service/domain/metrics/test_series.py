"""Metric series of active runs and sweeps."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from configs.protocol.records import Progress
from configs.protocol.sweep_log import (
    SweepEntry,
    TrialEnded,
    TrialJudged,
    TrialSuggested,
    replay_trials,
)
from configs.spec.sweep import Objective
from service.domain.metrics.runs import ActiveRun, run_series
from service.domain.metrics.series import Series
from service.domain.metrics.sweeps import ActiveSweep, sweep_series
from service.domain.states import RunState

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MAP = "val/bbox_mAP"

Labels = tuple[str, ...]


def group_by_name(series: list[Series]) -> dict[str, dict[Labels, float]]:
    """Group by name, with the labels that not every run or sweep has."""
    return {
        entry.name: {tuple(labels)[3:]: value for labels, value in entry.values} for entry in series
    }


def read_run_series(**changes: Any) -> dict[str, dict[Labels, float]]:
    return group_by_name(run_series([make_active_run(**changes)], now=NOW))


def make_active_run(**changes: Any) -> ActiveRun:
    fields: dict[str, Any] = {
        "id": "r1",
        "name": "n",
        "project": "p",
        "state": RunState.RUNNING,
        "attempt": 1,
        "progress": None,
        "latest": {},
        "pending_records": {},
        "last_seen_at": NOW,
    }
    return ActiveRun(**(fields | changes))


def make_progress(step: int, steps: int, eta_s: float | None = None) -> Progress:
    return Progress(
        at=NOW,
        attempt=1,
        phase="training",
        epoch=1,
        epochs=2,
        step=step,
        steps=steps,
        eta_s=eta_s,
    )


class TestRuns:
    """Series of one run, with any of its values missing."""

    def test_a_run_of_which_nothing_is_known_has_an_attempt_and_a_silence(self) -> None:
        series = read_run_series(attempt=2, last_seen_at=NOW - timedelta(seconds=5))

        assert {name: values for name, values in series.items() if values} == {
            "run_attempts": {(): 2},
            "run_heartbeat_age_seconds": {(): 5.0},
        }

    @pytest.mark.parametrize(
        ("step", "steps", "share"), [(0, 8, {(): 0.0}), (2, 8, {(): 0.25}), (9, 8, {(): 1.0})]
    )
    def test_progress_is_a_share_of_the_steps(
        self, step: int, steps: int, share: dict[Labels, float]
    ) -> None:
        assert read_run_series(progress=make_progress(step, steps))["run_progress_ratio"] == share

    def test_without_steps_there_is_no_share(self) -> None:
        assert read_run_series(progress=make_progress(0, 0))["run_progress_ratio"] == {}

    @pytest.mark.parametrize(
        ("eta_s", "remaining"), [(None, {}), (0.0, {(): 0.0}), (9.5, {(): 9.5})]
    )
    def test_the_time_left_is_the_workers_estimate(
        self, eta_s: float | None, remaining: dict[Labels, float]
    ) -> None:
        assert read_run_series(progress=make_progress(1, 8, eta_s))["run_seconds_left"] == remaining

    def test_metrics_go_where_they_belong_and_the_others_nowhere(self) -> None:
        series = read_run_series(
            latest={
                "train/loss": 3.0,
                "train/loss_distill_cls": 1.5,
                "train/lr": 0.1,
                "train/images_per_s": 12.0,
                "val/bbox_mAP": 0.3,
                "val/bbox_mAP_50": 0.5,
                "teacher/bbox_mAP": 0.4,
                "loss_share/cls/all/share": 0.7,
                "inference/images_per_s": 99.0,
            }
        )

        assert series["run_loss"] == {("loss",): 3.0, ("loss_distill_cls",): 1.5}
        assert series["run_images_per_second"] == {(): 12.0}
        assert series["run_map"] == {
            ("bbox_mAP", "student"): 0.3,
            ("bbox_mAP_50", "student"): 0.5,
            ("bbox_mAP", "teacher"): 0.4,
        }

    def test_a_size_that_no_object_has_is_left_out(self) -> None:
        series = read_run_series(latest={"val/bbox_mAP": 0.0, "val/bbox_mAP_l": -1.0})

        assert series["run_map"] == {("bbox_mAP", "student"): 0.0}

    def test_what_each_place_lacks_is_told_also_when_it_is_nothing(self) -> None:
        series = read_run_series(pending_records={"service": 0, "mlflow": 120})

        assert series["run_pending_records"] == {("service",): 0, ("mlflow",): 120}

    def test_runs_are_told_apart_by_id_name_and_project(self) -> None:
        runs = [make_active_run(id="r1", name="same"), make_active_run(id="r2", name="same")]

        series = {entry.name: entry for entry in run_series(runs, now=NOW)}

        attempts = series["run_attempts"]
        assert attempts.labels == ("run", "name", "project")
        assert [labels for labels, _ in attempts.values] == [
            ("r1", "same", "p"),
            ("r2", "same", "p"),
        ]


class TestSweeps:
    """Series of one sweep, from its log."""

    def test_trials_are_counted_in_every_state_also_where_nobody_is(self) -> None:
        series = read_sweep_series({0: 0.3, 1: 0.5}, num_running=2)

        assert series["sweep_trials"] == {
            ("running",): 2,
            ("finished",): 2,
            ("stopped",): 0,
            ("failed",): 0,
            ("cancelled",): 0,
        }

    @pytest.mark.parametrize(("goal", "best"), [("max", 0.5), ("min", 0.3)])
    def test_the_best_follows_from_the_goal(self, goal: str, best: float) -> None:
        assert read_sweep_series({0: 0.3, 1: 0.5}, goal=goal)["sweep_best"] == {(): best}

    def test_a_trial_that_goes_on_may_be_the_best(self) -> None:
        entries: list[SweepEntry] = [
            TrialSuggested(number=0, values={}),
            TrialJudged(number=0, epoch=1, values={MAP: 0.6}, should_continue=True),
        ]

        series = group_by_name(sweep_series([make_active_sweep(entries)]))

        assert series["sweep_best"] == {(): 0.6}

    def test_before_the_first_evaluation_there_is_no_best(self) -> None:
        assert read_sweep_series({}, num_running=1)["sweep_best"] == {}


def read_sweep_series(
    finished: Mapping[int, float], *, num_running: int = 0, goal: str = "max"
) -> dict[str, dict[Labels, float]]:
    count = len(finished) + num_running
    entries: list[SweepEntry] = [
        TrialSuggested(number=number, values={}) for number in range(count)
    ]
    entries += [
        TrialEnded(number=number, result="finished", epoch=4, values={MAP: value})
        for number, value in finished.items()
    ]
    return group_by_name(sweep_series([make_active_sweep(entries, goal=goal)]))


def make_active_sweep(entries: Iterable[SweepEntry], *, goal: str = "max") -> ActiveSweep:
    objective = Objective.model_validate({"metric": MAP, "goal": goal})
    return ActiveSweep("s1", "n", "p", objective, replay_trials(entries))
