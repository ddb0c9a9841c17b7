"""Stories of a run's life that tests of their own tell on SQLite, told again on PostgreSQL."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Stage, open_stage
from tests.integration import test_jobs as jobs
from tests.integration import test_run_life as life
from tests.postgres import Postgres

STORIES = (
    life.test_a_run_is_queued_submitted_runs_and_succeeds,
    life.test_a_delivery_that_comes_twice_counts_once,
    life.test_records_of_an_attempt_that_is_over_are_refused,
    life.test_a_killed_worker_is_tried_again_until_the_budget_is_spent,
    life.test_cancel_while_running_tells_the_worker_first_and_ray_later,
    life.test_a_student_waits_for_its_teacher_and_gets_its_best_checkpoint,
    life.test_mlflow_is_told_the_end_as_soon_as_it_answers,
    life.test_the_same_idempotency_key_gives_the_same_run,
    life.test_runs_are_listed_in_pages_and_by_what_they_are,
    jobs.test_evaluations_and_exports_are_listed_apart_and_all_are_runs,
)


@pytest.fixture
def stage(postgres: Postgres, tmp_path: Path) -> Iterator[Stage]:
    url = postgres.fresh()
    with open_stage(tmp_path, database_url=url) as made:
        yield made
    postgres.drop(url)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__.removeprefix("test_"))
def test_it_goes_the_same_way(stage: Stage, story: Callable[[Stage], None]) -> None:
    story(stage)
