"""Which run is a baseline, how its spec is derived, and how a verdict reads."""

from typing import Any, get_args

import pytest
from rich.text import Text

from configs.catalog import parse_spec, preset_names, spec_from_preset
from configs.derived_specs import baseline_spec, is_distilled
from configs.protocol.comparison import Comparison, Difference
from configs.spec.base import TeacherControl
from configs.spec.jobs import ExportSpec
from configs.spec.references import NamedTeacher
from configs.spec.run import RunSpec
from service.adapters.clock import FixedClock
from service.api.schemas.runs import PlannedBaselineView, PlannedControlView, PlanView
from service.api.views import to_comparison_view
from service.cli.comparisons import format_baseline, format_planned_baseline, format_verdict
from service.cli.runs import ControlName, list_controls
from service.domain.baselines import (
    baseline_digest,
    choose_new_seeds,
    make_baseline,
    needs_baseline,
    with_digests,
)
from service.domain.states import RunState
from service.usecases.baselines.comparisons import comparison_metrics, comparison_tags
from tests.support.factories import NO_HASH, make_bckd_spec, make_run, make_spec
from tests.support.service.run_views import make_run_view

OTHER_HASH = "1" * 64
DISTILLED = parse_spec(make_bckd_spec())


@pytest.mark.parametrize(
    ("spec", "mode", "is_needed"),
    [
        (DISTILLED, "auto", True),
        (DISTILLED, "off", False),
        (parse_spec(make_spec()), "auto", False),
        (ExportSpec(model=NamedTeacher(name="big"), tags={}), "auto", False),
    ],
    ids=["taught", "refused", "alone", "a job"],
)
def test_only_a_distilled_run_has_a_baseline(spec: Any, mode: Any, is_needed: bool) -> None:
    assert needs_baseline(spec, mode) is is_needed


def test_a_baseline_of_a_run_with_the_longest_name_has_a_name_that_fits() -> None:
    run = make_run(name="n" * 200, spec=DISTILLED, preset="digits/bckd", priority=3, project="p")

    baseline_run = make_baseline(run, DISTILLED, run_id="r" + "1" * 12, at=FixedClock().now())

    assert len(baseline_run.name) == 200
    assert baseline_run.name.endswith(", baseline")
    assert (baseline_run.preset, baseline_run.project) == (None, "p")
    assert baseline_run.queue.priority == 3
    assert baseline_run.spec == baseline_spec(DISTILLED)


def test_a_baseline_is_found_by_the_digest_that_it_has_itself() -> None:
    baseline_run = with_digests(make_run(spec=baseline_spec(DISTILLED)), dataset_digest=NO_HASH)
    distilled = with_digests(make_run(spec=DISTILLED), dataset_digest=NO_HASH)

    own, of_distilled = baseline_run.lineage, distilled.lineage
    assert own.spec_digest == baseline_digest(DISTILLED, dataset_digest=NO_HASH)
    assert own.spec_digest != baseline_digest(DISTILLED, dataset_digest=OTHER_HASH)
    assert own.seed_group_key == of_distilled.seed_group_key
    assert own.seedless_digest != of_distilled.seedless_digest


@pytest.mark.parametrize(
    "name", [preset for preset in preset_names() if is_distilled(spec_from_preset(preset))]
)
def test_the_baseline_of_every_preset_is_a_spec_that_can_be_read_again(name: str) -> None:
    spec = baseline_spec(spec_from_preset(name))

    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("experiment", ["digits", "bccd"])
def test_the_baseline_of_each_experiment_is_that_of_its_distilled_student(experiment: str) -> None:
    base, distilled = (
        spec_from_preset(f"{experiment}/{preset}") for preset in ("baseline", "bckd")
    )

    digests = {baseline_digest(spec, dataset_digest=NO_HASH) for spec in (base, distilled)}

    assert len(digests) == 1


@pytest.mark.parametrize(
    ("first", "count", "existing", "missing"),
    [(0, 3, (), [0, 1, 2]), (0, 3, (1,), [0, 2]), (5, 2, (0, 5), []), (5, 3, (0, 5), [6])],
)
def test_the_seeds_that_are_missing_follow_the_first(
    first: int, count: int, existing: tuple[int, ...], missing: list[int]
) -> None:
    assert choose_new_seeds(first, wanted=count, existing=existing) == missing


def make_comparison(**changes: Any) -> Comparison:
    fields: dict[str, Any] = {
        "runs": ("r" + "0" * 12,),
        "baselines": ("r" + "1" * 12,),
        "parts": {"bbox_mAP": Difference(run=0.33, baseline=0.307, difference=0.023)},
        "verdict": "cannot_tell",
        "seed_spread": "unknown",
        "basis": "one pair of runs",
    }
    return Comparison(**fields | changes)


def test_a_verdict_is_one_line() -> None:
    difference = Difference(run=0.33, baseline=0.307, difference=0.023, low=0.011, high=0.035)
    comparison = make_comparison(
        parts={"bbox_mAP": difference},
        verdict="helps",
        seed_spread="noise_floor",
        gap_closed=0.41,
        basis="[5 runs]",
    )

    view = to_comparison_view(comparison)

    assert view is not None
    assert Text.from_markup(format_verdict(view)).plain == (
        "Distillation helps: +2.3 mAP [+1.1, +3.5] with one seed and the known noise floor; "
        "closes 41 % of the gap to its teacher. [5 runs]"
    )


def test_a_verdict_without_an_interval_says_what_it_rests_on() -> None:
    view = to_comparison_view(make_comparison())

    assert view is not None
    assert Text.from_markup(format_verdict(view)).plain == (
        "One pair measured: +2.3 mAP (interval unknown) on these images for these two models. "
        "Whether distillation helps is not known from one seed: `tandem repeat r000000000000 "
        "--seeds 3` trains more pairs. one pair of runs"
    )


def test_a_comparison_without_map_is_none_to_show() -> None:
    assert to_comparison_view(make_comparison(parts={})) is None


def test_mlflow_is_told_an_interval_only_where_there_is_one() -> None:
    assert comparison_metrics(make_comparison()) == {"gain/bbox_mAP": 0.023}
    assert set(comparison_tags(make_comparison())) == {
        "tandem.verdict",
        "tandem.seed_spread",
        "tandem.conclusion",
        "tandem.baseline_run_id",
    }


def test_a_baseline_that_is_lost_says_what_mends_it() -> None:
    run_id = "r" + "1" * 12

    assert format_baseline(make_run_view()) is None
    assert format_baseline(make_run_view(baseline_run_id=run_id)) == run_id
    assert f"tandem retry {run_id}" in (
        format_baseline(make_run_view(baseline_run_id=run_id, is_baseline_lost=True)) or ""
    )


@pytest.mark.parametrize(
    ("baseline", "text"),
    [
        (PlannedBaselineView(run_id=None, state=None, best_map=None), "--no-baseline"),
        (
            PlannedBaselineView(run_id="r1", state=RunState.SUCCEEDED, best_map=0.312),
            "existing run r1 (succeeded, mAP 31.2)",
        ),
    ],
    ids=["booked", "reused"],
)
def test_a_plan_says_which_baseline_there_would_be(
    baseline: PlannedBaselineView, text: str
) -> None:
    planned = PlanView(
        spec=DISTILLED,
        estimate=None,
        findings=[],
        waiting_for=None,
        baseline=baseline,
        noise=None,
    )

    (line,) = format_planned_baseline(planned)

    assert text in line


@pytest.mark.parametrize(
    ("control", "text"),
    [
        (
            PlannedControlView(control="random_teacher", run_id=None, state=None, best_map=None),
            "The control random_teacher, another run of the same length, would be launched",
        ),
        (
            PlannedControlView(
                control="shuffled_teacher", run_id="r1", state=RunState.SUCCEEDED, best_map=0.312
            ),
            "The control shuffled_teacher would be the existing run r1 (succeeded, mAP 31.2)",
        ),
    ],
    ids=["new", "reused"],
)
def test_a_plan_says_which_controls_there_would_be(control: PlannedControlView, text: str) -> None:
    planned = PlanView(
        spec=DISTILLED,
        estimate=None,
        findings=[],
        waiting_for=None,
        baseline=None,
        controls=(control,),
        noise=None,
    )

    (line,) = format_planned_baseline(planned)

    assert text in line


def test_the_command_line_has_all_controls() -> None:
    assert list_controls(list(ControlName)) == get_args(TeacherControl)
    assert list_controls(None) == ()
