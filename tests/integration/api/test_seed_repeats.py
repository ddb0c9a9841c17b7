"""Repeats with further seeds: launched and reused pairs, and verdicts over all of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from rich.text import Text

from configs.conclusions import conclude
from configs.protocol.comparison import Comparison, NoiseFloor
from configs.protocol.names import RunFile
from configs.protocol.report import Report, ReportInputs
from configs.spec.jobs import ReportSpec
from service.cli.comparisons import format_gains, format_verdict
from service.cli.repeat import format_pair
from service.client import TandemClient
from service.client_transport import TandemApiError
from service.domain.ports import Node
from service.usecases.baselines.comparisons import comparison_tags
from service.usecases.report_inputs import build_report_inputs
from tests.support.factories import make_bckd_spec, make_spec
from tests.support.service.baseline_pairs import (
    end_job,
    launch_pair,
    make_comparison,
    make_report,
    start_attempt,
    train_run,
)
from tests.support.service.stage import SLOW_ON_POSTGRESQL, Stage
from tests.support.workers.saved_detections import RunFolders
from workers.report.results.report import build_report


@pytest.fixture
def client(stage: Stage) -> Iterator[TandemClient]:
    with TandemClient("http://localhost", transport=stage.transport) as tandem_client:
        yield tandem_client


def succeed(stage: Stage, *pairs: tuple[str, str]) -> None:
    for run_id, baseline_id in pairs:
        train_run(stage, baseline_id, 0.307)
        train_run(stage, run_id, 0.33, has_mlflow_run=True)


def train_over_seeds(stage: Stage, *runs: str, **changes: Any) -> Comparison:
    baselines = tuple(stage.run(run)["baseline_run_id"] for run in runs)
    fields = {"runs": runs, "baselines": baselines, "seed_spread": "pairs"}
    return make_comparison(runs[0], baselines[0], **(fields | changes))


def make_one_pair(stage: Stage, run: str) -> Comparison:
    baseline = stage.run(run)["baseline_run_id"]
    return make_comparison(run, baseline, seed_spread="unknown", verdict="cannot_tell", images=500)


class TestRepeat:
    def test_missing_pairs_are_launched_with_the_following_seeds(
        self, stage: Stage, client: TandemClient
    ) -> None:
        run_id, baseline_id = launch_pair(stage, seed=4)

        repeated = client.repeat(run_id, seeds=3)

        first, *new = repeated.pairs
        assert (first.seed, first.run_id, first.baseline_run_id, first.is_new) == (
            4,
            run_id,
            baseline_id,
            False,
        )
        assert [(pair.seed, pair.is_new) for pair in new] == [(5, True), (6, True)]
        for pair in new:
            run, baseline = stage.run(pair.run_id), stage.run(pair.baseline_run_id)
            assert run["spec"] == stage.run(run_id)["spec"] | {"seed": pair.seed}
            assert baseline["spec"]["seed"] == pair.seed
            assert run["baseline_run_id"] == pair.baseline_run_id
            assert run["name"].endswith(f", seed {pair.seed}")
        assert format_pair(first).endswith("exist already.")
        assert f"launched {new[0].run_id}" in format_pair(new[0])

    def test_a_repeated_request_launches_nothing(self, stage: Stage, client: TandemClient) -> None:
        run_id, _ = launch_pair(stage)
        first = client.repeat(run_id, seeds=3)

        for repeated in (
            client.repeat(run_id, seeds=3),
            client.repeat(first.pairs[2].run_id, seeds=2),
        ):
            assert [pair.run_id for pair in repeated.pairs] == [pair.run_id for pair in first.pairs]
            assert not any(pair.is_new for pair in repeated.pairs)
        response = stage.http.post(f"/v1/runs/{run_id}:repeat", json={"seeds": 3})
        assert response.status_code == 200
        assert len(stage.http.get("/v1/runs").json()["items"]) == 6

    def test_a_run_of_the_same_seed_counts_once_and_one_that_ended_badly_does_not(
        self, stage: Stage, client: TandemClient
    ) -> None:
        run_id, _ = launch_pair(stage)
        stage.launch(spec=make_bckd_spec())
        cancelled = stage.launch(spec=make_bckd_spec(seed=1))
        stage.http.post(f"/v1/runs/{cancelled['id']}:cancel")

        repeated = client.repeat(run_id, seeds=2)

        assert [(pair.seed, pair.is_new) for pair in repeated.pairs] == [(0, False), (1, True)]
        assert repeated.pairs[0].run_id == run_id
        assert repeated.pairs[1].run_id != cancelled["id"]
        assert repeated.pairs[1].baseline_run_id == cancelled["baseline_run_id"]

    def test_packed_each_new_pair_is_one_job(self, stage: Stage, client: TandemClient) -> None:
        run_id, _ = launch_pair(stage)
        stage.cluster.cluster_nodes = (Node(8.0, 0.0, 8.0, 0.0, "n1"),)

        repeated = client.repeat(run_id, seeds=3, pack=True)
        stage.run_loops()

        packs = [job for job in stage.cluster.job_requests if job.startswith("p")]
        assert len(packs) == 2
        assert {stage.run(pair.run_id)["state"] for pair in repeated.pairs} == {"starting"}

    def test_a_pair_that_was_launched_packed_is_repeated_packed(
        self, stage: Stage, client: TandemClient
    ) -> None:
        stage.add_dataset()
        stage.add_teacher()
        stage.cluster.cluster_nodes = (Node(8.0, 0.0, 8.0, 0.0, "n1"),)
        run = stage.launch(spec=make_bckd_spec(), pack=True)

        client.repeat(run["id"], seeds=2)
        stage.run_loops()

        assert len([job for job in stage.cluster.job_requests if job.startswith("p")]) == 2

    @pytest.mark.parametrize("seeds", [1, 33])
    def test_seeds_are_two_to_thirty_two(self, stage: Stage, seeds: int) -> None:
        run_id, _ = launch_pair(stage)

        response = stage.http.post(f"/v1/runs/{run_id}:repeat", json={"seeds": seeds})

        assert response.status_code == 422

    def test_runs_that_cannot_be_repeated_are_refused_with_a_hint(
        self, stage: Stage, client: TandemClient
    ) -> None:
        run_id, baseline_id = launch_pair(stage)
        baseline_only = stage.launch(spec=make_spec(seed=8))["id"]
        single = stage.launch(spec=make_bckd_spec(seed=9), baseline="off")["id"]
        cancelled = stage.launch(spec=make_bckd_spec(seed=7))
        stage.http.post(f"/v1/runs/{cancelled['baseline_run_id']}:cancel")
        succeed(stage, (run_id, baseline_id))
        job = stage.run(run_id)["report_run_id"]
        expected = {
            baseline_id: f"`tandem repeat {run_id}`",
            baseline_only: "nothing to compare",
            single: "without --no-baseline",
            cancelled["id"]: f"`tandem retry {cancelled['baseline_run_id']}`",
            job: "does not train",
        }

        for refused_run_id, hint in expected.items():
            with pytest.raises(TandemApiError, match="cannot be repeated") as refusal:
                client.repeat(refused_run_id, seeds=3)
            assert hint in str(refusal.value)
        response = stage.http.post(f"/v1/runs/{single}:repeat", json={"seeds": 3})
        assert (response.status_code, response.json()["code"]) == (409, "nothing_to_repeat")
        assert response.json()["advice"]

    def test_a_run_whose_dataset_was_replaced_is_refused(
        self, stage: Stage, client: TandemClient
    ) -> None:
        run_id, _ = launch_pair(stage)
        stage.execute_sql(
            'UPDATE datasets SET manifest = replace(manifest, \'"digest":"0\', \'"digest":"1\')'
        )

        with pytest.raises(TandemApiError, match="its dataset has changed"):
            client.repeat(run_id, seeds=3)


class TestRenewal:
    @SLOW_ON_POSTGRESQL
    def test_a_report_has_all_pairs_of_its_family_that_have_succeeded(
        self, any_stage: Stage
    ) -> None:
        first = launch_pair(any_stage)
        further_runs = [any_stage.launch(spec=make_bckd_spec(seed=seed)) for seed in (1, 2, 3)]
        equal = any_stage.launch(spec=make_bckd_spec())
        other_family = any_stage.launch(spec=make_bckd_spec(distillation={"method": "pkd"}))
        second, third, unfinished = ((run["id"], run["baseline_run_id"]) for run in further_runs)
        succeed(any_stage, first, second, third)
        train_run(any_stage, unfinished[1], 0.3)
        for run in (equal, other_family):
            train_run(any_stage, run["id"], 0.33)

        all_inputs = [
            build_report_inputs(ReportSpec(run=run, tags={}), ctx=any_stage.ctx)
            for run in (second[0], equal["id"], other_family["id"])
        ]

        distilled_ids = [
            [run.id for run in inputs.runs if run.role == "distilled"] for inputs in all_inputs
        ]
        assert distilled_ids == [
            [second[0], first[0], third[0]],
            [equal["id"], second[0], third[0]],
            [other_family["id"]],
        ]
        family = [run for run in all_inputs[0].runs if run.role == "distilled"]
        assert len({run.seedless_digest for run in family}) == 1
        assert all(run.baseline for run in family)

    def test_a_further_pair_renews_the_verdict_of_the_earlier_ones(
        self, stage: Stage, client: TandemClient
    ) -> None:
        first = launch_pair(stage)
        succeed(stage, first)
        make_report(stage, stage.run(first[0])["report_run_id"], make_one_pair(stage, first[0]))
        before = client.run(first[0]).comparison
        assert before is not None
        assert (before.verdict, before.seed_spread) == ("cannot_tell", "unknown")
        assert f"tandem repeat {first[0]} --seeds 3" in before.conclusion
        new = client.repeat(first[0], seeds=2).pairs[1]
        succeed(stage, (new.run_id, new.baseline_run_id))
        report = stage.run(new.run_id)["report_run_id"]

        make_report(stage, report, train_over_seeds(stage, first[0], new.run_id))

        for run_id in (first[0], new.run_id):
            repeated_run = client.run(run_id)
            assert repeated_run.comparison is not None
            assert (repeated_run.comparison.verdict, repeated_run.comparison.seed_spread) == (
                "helps",
                "pairs",
            )
            assert "over 2 seeds" in repeated_run.comparison.conclusion
            assert repeated_run.report_run_id == report
            tags = stage.tracker.tags[f"m-{run_id}"]
            assert tags["tandem.verdict"] == "helps"
            assert tags["tandem.conclusion"] == repeated_run.comparison.conclusion

    def test_a_report_that_is_read_late_does_not_replace_one_with_more_pairs(
        self, stage: Stage
    ) -> None:
        first = launch_pair(stage)
        other = stage.launch(spec=make_bckd_spec(seed=1))
        second = (other["id"], other["baseline_run_id"])
        succeed(stage, first, second)
        late, early = (stage.run(run)["report_run_id"] for run in (first[0], second[0]))
        make_report(stage, early, train_over_seeds(stage, first[0], second[0]))

        make_report(stage, late, make_one_pair(stage, first[0]))

        assert stage.run(first[0])["comparison"]["verdict"] == "helps"

    def test_an_equal_run_has_the_verdict_of_its_family(self, stage: Stage) -> None:
        stage.cluster.cluster_nodes = (Node(8.0, 0.0, 8.0, 0.0, "n1"),)
        first = launch_pair(stage)
        equal = stage.launch(spec=make_bckd_spec())["id"]
        other = stage.launch(spec=make_bckd_spec(seed=1))
        second = (other["id"], other["baseline_run_id"])
        succeed(stage, first)
        train_run(stage, equal, 0.33)
        make_report(stage, stage.run(equal)["report_run_id"], make_one_pair(stage, equal))
        succeed(stage, second)

        make_report(
            stage,
            stage.run(second[0])["report_run_id"],
            train_over_seeds(stage, first[0], second[0]),
        )

        assert stage.run(equal)["comparison"]["seed_spread"] == "pairs"


NOISE = NoiseFloor(runs=4, freedom=3, deviation=0.001, floor=0.0045)


@pytest.mark.parametrize(("pairs", "noise"), [(1, None), (1, NOISE), (3, None)])
def test_shell_api_report_and_mlflow_have_the_same_conclusion(
    stage: Stage, client: TandemClient, pairs: int, noise: NoiseFloor | None
) -> None:
    """Uses files of real runs and the report that a worker would write."""
    first = launch_pair(stage)
    further_runs = [stage.launch(spec=make_bckd_spec(seed=seed)) for seed in range(1, pairs)]
    runs = [first, *((run["id"], run["baseline_run_id"]) for run in further_runs)]
    succeed(stage, *runs)
    files = RunFolders(stage.home / "runs")
    for seed, (run_id, baseline_id) in enumerate(runs):
        files.write_run(run_id, student=0.85 + 0.01 * seed, teacher=0.95, seed=seed)
        files.write_run(baseline_id, student=0.3, teacher=0.95, seed=seed + 10)
    report_id = stage.run(first[0])["report_run_id"]
    start_attempt(stage, report_id)
    inputs = build_report_inputs(ReportSpec(run=first[0], tags={}), ctx=stage.ctx)
    report = build_report(ReportInputs.model_validate(inputs.model_copy(update={"noise": noise})))
    file = stage.home / "runs" / report_id / RunFile.REPORT_JSON
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(report.model_dump_json())
    end_job(stage, report_id, "succeeded", exit_code=0)

    view = client.run(first[0]).comparison

    assert view is not None
    (comparison,) = report.comparisons
    sentence = conclude(comparison)
    assert Report.model_validate_json(file.read_text()).conclusion == sentence
    assert view.conclusion == sentence
    assert comparison_tags(comparison)["tandem.conclusion"] == sentence
    assert stage.tracker.tags[f"m-{first[0]}"]["tandem.conclusion"] == sentence
    assert Text.from_markup(format_verdict(view)).plain.startswith(sentence)
    is_known = pairs > 1 or noise is not None
    assert (view.verdict == "helps") == is_known
    assert ("is not known from one seed" in sentence) != is_known
    assert [pair.seed for pair in view.gains] == list(range(pairs))
    assert (format_gains(view) is None) == (pairs == 1)
