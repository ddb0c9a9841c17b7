"""One MLflow run through outages, deletions, races and replays, on a real server."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from configs.protocol.names import MLFLOW_EXPERIMENT, RunFile, Tag
from configs.protocol.records import Record, Tracked
from configs.spec.jobs import JobSpec, ReportSpec
from configs.spec.references import DatasetFiles
from service.stack.ports import choose_free_port
from tests.support.stack.mlflow_runs import find_mlflow_run
from tests.support.stack.mlflow_server import MlflowServer
from tests.support.waiting import wait_until
from tests.support.workers.fake_service import FakeService, serve
from tests.support.workers.records import (
    DIGEST,
    NOON,
    TickingClock,
    make_artifact,
    make_metrics,
    make_outcome,
    make_run_spec,
    make_started,
)
from tests.support.workers.report_inputs import make_run_inputs
from workers.telemetry.identity import AttemptIdentity
from workers.telemetry.mlflow_sink import MlflowSink, TrackedRun, flatten_params
from workers.telemetry.reporter import SpoolReporter, flush_run
from workers.telemetry.shipper import SinkProtocolError, SinkUnavailable
from workers.telemetry.spool import Spool

pytestmark = pytest.mark.e2e


wait_for = partial(wait_until, timeout_s=60, interval_s=0.05)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A folder whose name is the run's id, which no other test uses."""
    folder = tmp_path / f"r-{tmp_path.name}"
    folder.mkdir()
    return folder


# A record at a time


def test_one_run_is_found_again_by_its_tag(server: MlflowServer, run_dir: Path) -> None:
    make_sink(server, run_dir).deliver(0, [make_started(), make_metrics(1)])

    make_sink(server, run_dir).deliver(0, [make_started(), make_metrics(1), make_metrics(2)])

    run = find_run(server, run_dir)
    assert run.info.run_name == "baseline"
    assert run.data.tags[Tag.PRESET] == "quick/instant"
    assert run.data.tags["team"] == "vision"
    assert list_steps(server, run) == [1, 2]


def test_a_users_tag_cannot_hide_the_run(server: MlflowServer, run_dir: Path) -> None:
    spec = make_run_spec(tags={str(Tag.RUN_ID): "mine"})

    for _ in range(2):
        make_sink(server, run_dir, spec=spec).deliver(0, [make_metrics(1)])

    assert find_run(server, run_dir).data.tags[Tag.RUN_ID] == run_dir.name


def test_a_run_that_was_made_twice_is_the_earliest_for_everybody(
    server: MlflowServer, run_dir: Path
) -> None:
    experiment = client(server).get_experiment_by_name(MLFLOW_EXPERIMENT)
    assert experiment is not None
    tags = {str(Tag.RUN_ID): run_dir.name}
    run_ids = [
        client(server).create_run(experiment.experiment_id, start_time=ms, tags=tags)
        for ms in (2_000, 1_000, 3_000)
    ]
    found_ids: list[str] = []

    for _ in range(2):
        make_sink(server, run_dir, on_found=found_ids.append).deliver(0, [make_metrics(1)])

    assert found_ids == [run_ids[1].info.run_id] * 2


def test_the_run_that_is_known_already_is_kept_whatever_comes_to_light_later(
    server: MlflowServer, run_dir: Path
) -> None:
    found_ids: list[str] = []
    make_sink(server, run_dir, on_found=found_ids.append).deliver(0, [make_metrics(1)])
    experiment_id = find_run(server, run_dir).info.experiment_id
    client(server).create_run(experiment_id, start_time=1, tags={str(Tag.RUN_ID): run_dir.name})

    make_sink(server, run_dir, known_id=found_ids[0], on_found=found_ids.append).deliver(
        1, [make_metrics(2)]
    )

    assert found_ids[1] == found_ids[0]


def test_two_sinks_that_begin_together_agree_on_one_run(
    server: MlflowServer, run_dir: Path
) -> None:
    sinks = [make_sink(server, run_dir) for _ in range(2)]
    threads = [
        threading.Thread(
            target=wait_until_accepted,
            args=(sink, [make_metrics(step)]),
            kwargs={"pause_s": 0.3 * (step + 1)},
        )
        for step, sink in enumerate(sinks)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Who comes next, as a resumed attempt does, finds the same one.
    make_sink(server, run_dir).deliver(0, [make_metrics(2)])

    assert list_steps(server, find_run(server, run_dir)) == [0, 1, 2]


def test_a_server_that_never_heard_of_the_run_wants_it_from_the_beginning(
    server: MlflowServer, run_dir: Path
) -> None:
    """Its database was lost, or the run resumes with the address of another server."""
    sink = make_sink(server, run_dir, known_id="a run elsewhere")

    assert sink.deliver(500, [make_metrics(500)]) == 0
    assert sink.deliver(0, [make_metrics(0)]) == 1

    assert list_steps(server, find_run(server, run_dir)) == [0]


def test_points_that_are_delivered_again_change_nothing(
    server: MlflowServer, run_dir: Path
) -> None:
    records = [make_metrics(step, at=NOON.replace(microsecond=123_456)) for step in range(1500)]

    for _ in range(3):
        make_sink(server, run_dir).deliver(0, records)

    history = client(server).get_metric_history(find_run(server, run_dir).info.run_id, "loss")
    assert sorted(point.step for point in history) == list(range(1500))
    assert {point.timestamp for point in history} == {round(NOON.timestamp() * 1000) + 123}


def test_params_are_the_spec_and_the_first_ones_stand(server: MlflowServer, run_dir: Path) -> None:
    spec = make_run_spec()
    make_sink(server, run_dir, spec=spec).deliver(0, [])

    other_spec = make_run_spec(seed=7)
    make_sink(server, run_dir, spec=other_spec).deliver(0, [make_metrics(1)])

    run = find_run(server, run_dir)
    assert run.data.params == flatten_params(spec)
    assert run.data.params["seed"] == "0"
    assert list_steps(server, run) == [1]


def test_the_dataset_is_an_input_once(server: MlflowServer, run_dir: Path) -> None:
    sink = make_sink(server, run_dir)

    sink.deliver(0, [make_started(attempt=1), make_started(attempt=2)])

    run = find_run(server, run_dir)
    assert run.inputs is not None
    (dataset_input,) = run.inputs.dataset_inputs
    assert dataset_input.dataset.name == "pets"
    assert dataset_input.dataset.digest == DIGEST[:36]
    assert "/data/pets" in dataset_input.dataset.source
    assert [tag.value for tag in dataset_input.tags] == ["train/validation"]
    assert run.data.tags[Tag.DATASET_DIGEST] == DIGEST
    assert run.data.tags[Tag.HOST] == "node-1"


def test_the_dataset_of_a_report_is_that_of_its_inputs(server: MlflowServer, run_dir: Path) -> None:
    inputs = make_run_inputs(run_dir, dataset=DatasetFiles(root="/data/cells"))
    (run_dir / RunFile.REPORT_INPUTS).write_text(inputs.model_dump_json())
    spec = ReportSpec(run="r" + "0" * 12, tags={})
    # MLflow keeps the first source of a name and a digest, which other tests use as well.
    record = make_started().model_copy(update={"dataset_name": "cells"})

    make_sink(server, run_dir, spec=spec).deliver(0, [record])

    run = find_run(server, run_dir)
    assert run.inputs is not None
    (dataset_input,) = run.inputs.dataset_inputs
    assert "/data/cells" in dataset_input.dataset.source


def test_files_keep_their_folder(server: MlflowServer, run_dir: Path) -> None:
    for path in (RunFile.CONFIG, RunFile.BEST):
        (run_dir / path).parent.mkdir(exist_ok=True)
        (run_dir / path).write_text(f"I am {path}")

    make_sink(server, run_dir).deliver(
        0, [make_artifact(RunFile.CONFIG), make_artifact(RunFile.BEST)]
    )

    run_id = find_run(server, run_dir).info.run_id
    assert list_names(server, run_id) == ["checkpoints", "config.py"]
    assert list_names(server, run_id, RunFile.CHECKPOINTS) == ["checkpoints/best.pth"]


def test_a_file_that_vanished_is_said_and_the_rest_goes_on(
    server: MlflowServer, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run_dir / "here.txt").write_text("here")

    make_sink(server, run_dir).deliver(
        0, [make_artifact("gone.txt"), make_artifact("here.txt"), make_metrics(1)]
    )

    run = find_run(server, run_dir)
    assert "gone.txt is missing" in caplog.text
    assert list_names(server, run.info.run_id) == ["here.txt"]
    assert list_steps(server, run) == [1]


@pytest.mark.parametrize(
    ("closes_run", "status"), [(True, "FINISHED"), (False, "RUNNING")], ids=["alone", "service"]
)
def test_the_final_status_is_set_by_one_side_only(
    server: MlflowServer, run_dir: Path, closes_run: bool, status: str
) -> None:
    make_sink(server, run_dir, closes_run=closes_run).deliver(0, [make_started(), make_outcome()])

    assert find_run(server, run_dir).info.status == status


def test_a_run_that_goes_on_is_shown_as_running_again(server: MlflowServer, run_dir: Path) -> None:
    make_sink(server, run_dir).deliver(0, [make_started(), make_outcome()])
    run = find_run(server, run_dir)

    make_sink(server, run_dir, known_id=run.info.run_id).deliver(2, [make_metrics(1)])

    assert run.info.status == "FINISHED"
    assert run.info.end_time == make_outcome().at.timestamp() * 1000
    assert find_run(server, run_dir).info.status == "RUNNING"


def test_what_is_brought_later_leaves_the_status_alone(server: MlflowServer, run_dir: Path) -> None:
    make_sink(server, run_dir, closes_run=False).deliver(0, [make_started()])
    run_id = find_run(server, run_dir).info.run_id
    client(server).set_terminated(run_id, "KILLED")

    late = make_sink(server, run_dir, closes_run=False, is_live=False)
    late.deliver(0, [make_started(), make_metrics(1), make_outcome()])

    assert find_run(server, run_dir).info.status == "KILLED"


def test_a_run_that_was_deleted_is_made_anew_with_everything(
    server: MlflowServer, run_dir: Path
) -> None:
    (run_dir / RunFile.SPEC).write_text(make_run_spec().model_dump_json())
    reporter = open_reporter(server, run_dir)
    reporter.start()
    reporter.report_metrics(step=1, values={"loss": 1.0})
    wait_for(lambda: reporter.pending == {"MLflow": 0})
    first = find_run(server, run_dir).info.run_id

    client(server).delete_run(first)
    reporter.report_metrics(step=2, values={"loss": 0.5})

    assert reporter.close(timeout_s=30)
    run = find_run(server, run_dir)
    assert run.info.run_id != first
    assert list_steps(server, run) == [1, 2]
    assert [r.mlflow_run_id for r in read_spool(run_dir) if isinstance(r, Tracked)] == [
        first,
        run.info.run_id,
    ]


def test_an_experiment_that_was_deleted_is_left_to_people(
    server: MlflowServer, run_dir: Path
) -> None:
    make_sink(server, run_dir).deliver(0, [])
    experiment_id = find_run(server, run_dir).info.experiment_id
    client(server).delete_experiment(experiment_id)

    try:
        with pytest.raises(SinkProtocolError, match="mlflow experiments restore"):
            make_sink(server, run_dir).deliver(0, [])
    finally:
        client(server).restore_experiment(experiment_id)


# A whole run, with the service as a second place


def test_both_places_have_everything_and_random_states_are_untouched(
    server: MlflowServer, run_dir: Path
) -> None:
    python, numpy = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]

    with serve(FakeService()) as service:
        with open_reporter(server, run_dir, service_url=service.url) as reporter:
            report_run(reporter, run_dir)
        records = service.records

    assert random.getstate() == python
    assert np.random.get_state()[1].tolist() == numpy  # type: ignore[index]
    assert records == read_spool(run_dir)
    run = find_run(server, run_dir)
    assert [r.mlflow_run_id for r in records if isinstance(r, Tracked)] == [run.info.run_id]
    assert list_steps(server, run) == list(range(50))
    assert list_names(server, run.info.run_id) == ["config.py"]


def test_a_lost_position_file_doubles_nothing(server: MlflowServer, run_dir: Path) -> None:
    with open_reporter(server, run_dir) as reporter:
        report_run(reporter, run_dir)
    before = read_spool(run_dir)
    (run_dir / "spool.mlflow.position").unlink()

    assert flush_run(run_dir, timeout_s=60)

    run = find_run(server, run_dir)
    assert list_steps(server, run) == list(range(50))
    assert run.info.status == "FINISHED"
    assert read_spool(run_dir) == before


@pytest.mark.slow  # other tests have it away before and after
def test_a_server_killed_in_the_middle_is_a_delay(
    server: MlflowServer, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_reporter(server, run_dir) as reporter:
        for step in range(25):
            reporter.report_metrics(step=step, values={"loss": 1.0 / (step + 1)})
        wait_for(lambda: reporter.pending == {"MLflow": 0})
        with stop_server(server):
            for step in range(25, 50):
                reporter.report_metrics(step=step, values={"loss": 1.0 / (step + 1)})
            wait_for(lambda: "MLflow is unavailable" in caplog.text)

    assert list_steps(server, find_run(server, run_dir)) == list(range(50))
    assert [text for text in caplog.messages if text.startswith("MLflow is")][1:] == [
        "MLflow is available again."
    ]


def test_a_server_that_comes_only_after_the_run_gets_everything(
    server: MlflowServer, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.disconnect()
    try:
        start_s = time.monotonic()
        reporter = open_reporter(server, run_dir)
        reporter.start()
        report_run(reporter, run_dir)
        has_arrived = reporter.close(timeout_s=1)
        spent_s = time.monotonic() - start_s
    finally:
        server.connect()

    assert not has_arrived
    assert spent_s < 10
    assert reporter.pending == {"MLflow": 52}
    assert f"tandem-worker flush --run-dir {run_dir}" in caplog.text
    assert flush_run(run_dir, timeout_s=60)
    run = find_run(server, run_dir)
    assert list_steps(server, run) == list(range(50))
    assert list_names(server, run.info.run_id) == ["config.py"]
    assert run.info.status == "FINISHED"


def test_a_server_that_is_away_is_noticed_at_once(run_dir: Path) -> None:
    sink = make_sink(f"http://127.0.0.1:{choose_free_port()}", run_dir)
    start_s = time.monotonic()

    with pytest.raises(SinkUnavailable):
        sink.deliver(0, [make_metrics(1)])

    assert time.monotonic() - start_s < 5


@contextmanager
def stop_server(server: MlflowServer) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


def client(server: MlflowServer) -> MlflowClient:
    return MlflowClient(server.url)


def make_sink(  # noqa: PLR0913 - one argument for each way in which sinks differ
    server: MlflowServer | str,
    run_dir: Path,
    *,
    spec: JobSpec | None = None,
    closes_run: bool = True,
    is_live: bool = True,
    known_id: str | None = None,
    on_found: Callable[[str], None] = lambda mlflow_run_id: None,
) -> MlflowSink:
    tracked_run = TrackedRun(
        run_id=run_dir.name,
        name="baseline",
        preset="quick/instant",
        spec=spec or make_run_spec(tags={"team": "vision"}),
        run_dir=run_dir,
    )
    found_ids = [known_id] if known_id is not None else []

    def make_note(mlflow_run_id: str) -> None:
        found_ids.append(mlflow_run_id)
        on_found(mlflow_run_id)

    return MlflowSink(
        server if isinstance(server, str) else server.url,
        tracked_run,
        sets_final_status=closes_run,
        is_live=is_live,
        get_known_run_id=lambda: found_ids[-1] if found_ids else None,
        on_run_found=make_note,
    )


def wait_until_accepted(sink: MlflowSink, records: list[Record], *, pause_s: float) -> None:
    for _ in range(20):
        try:
            sink.deliver(0, records)
        except SinkUnavailable:
            time.sleep(pause_s)
            continue
        return


def open_reporter(
    server: MlflowServer, run_dir: Path, *, service_url: str | None = None, attempt: int = 1
) -> SpoolReporter:
    identity = AttemptIdentity(
        run_id=run_dir.name, attempt=attempt, service_url=service_url, mlflow_url=server.url
    )
    (run_dir / RunFile.SPEC).write_text(make_run_spec().model_dump_json())
    return SpoolReporter.open(
        run_dir, identity=identity, spec=make_run_spec(), clock=TickingClock()
    )


def report_run(reporter: SpoolReporter, run_dir: Path) -> None:
    (run_dir / RunFile.CONFIG).write_text("epochs = 2")
    for step in range(50):
        reporter.report_metrics(step=step, values={"loss": 1.0 / (step + 1)})
    reporter.report_artifact(RunFile.CONFIG)
    reporter.report_outcome("succeeded", best_map=0.4, best_epoch=2)


def find_run(server: MlflowServer, run_dir: Path) -> Run:
    return find_mlflow_run(server.url, run_dir.name)


def list_steps(server: MlflowServer, run: Run) -> list[int]:
    """Read the steps in the order of their times, to detect duplicates and misplaced points."""
    history = client(server).get_metric_history(run.info.run_id, "loss")
    return [point.step for point in sorted(history, key=lambda point: point.timestamp)]


def list_names(server: MlflowServer, run_id: str, folder: str | None = None) -> list[str]:
    return [file.path for file in client(server).list_artifacts(run_id, folder)]


def read_spool(run_dir: Path) -> list[Record]:
    spool = Spool(run_dir / RunFile.SPOOL)
    records = spool.read(0, limit=10_000)
    spool.close()
    return records
