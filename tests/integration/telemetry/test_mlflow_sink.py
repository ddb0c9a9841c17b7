"""All records of the spool arrive once, in one run, in a real MLflow server."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient

from configs.catalog import parse_spec
from configs.metric_keys import Metric, loss_share_metric
from configs.protocol.names import RunFile
from configs.spec.dataset import DatasetManifest
from tests.support.factories import make_manifest, make_spec
from tests.support.stack.mlflow_runs import find_mlflow_run, read_mlflow_steps
from tests.support.stack.mlflow_server import MlflowServer
from workers.machine.environment import ProcessInfo
from workers.telemetry.identity import AttemptIdentity
from workers.telemetry.reporter import SpoolReporter, flush_run

pytestmark = pytest.mark.e2e

SPEC = parse_spec(make_spec())
PROCESS_INFO = ProcessInfo(host="h", pid=1, device="cpu", versions={})
MANIFEST: DatasetManifest = make_manifest()
TIMEOUT_S = 60


def open_mlflow_reporter(server: MlflowServer, run_dir: Path, *, attempt: int = 1) -> SpoolReporter:
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / RunFile.SPEC).write_text(SPEC.model_dump_json())
    identity = AttemptIdentity(run_id=run_dir.name, attempt=attempt, mlflow_url=server.url)
    return SpoolReporter.open(run_dir, identity=identity, spec=SPEC)


def report_start(reporter: SpoolReporter) -> None:
    reporter.report_start(PROCESS_INFO, resumed_from_epoch=0, teacher_sha256=None, dataset=MANIFEST)


def test_a_run_has_its_params_dataset_metrics_files_and_end(
    server: MlflowServer, tmp_path: Path
) -> None:
    run_dir = tmp_path / "whole"
    with open_mlflow_reporter(server, run_dir) as reporter:
        report_start(reporter)
        reporter.report_metrics(step=10, values={"train/loss": 2.0})
        (run_dir / "pictures").mkdir()
        (run_dir / "pictures" / "a.txt").write_text("a picture")
        reporter.report_artifact("pictures/a.txt")
        reporter.report_outcome("succeeded", best_map=0.4)

    run = find_mlflow_run(server.url, "whole")
    assert run.info.status == "FINISHED"
    assert run.data.params["student.backbone.depth"] == "18"
    assert run.inputs is not None
    assert run.inputs.dataset_inputs[0].dataset.name == "pets"
    files = MlflowClient(server.url).list_artifacts(run.info.run_id, "pictures")
    assert [file.path for file in files] == ["pictures/a.txt"]


def test_a_replay_after_the_position_was_lost_doubles_nothing(
    server: MlflowServer, tmp_path: Path
) -> None:
    run_dir = tmp_path / "replayed"
    with open_mlflow_reporter(server, run_dir) as reporter:
        report_start(reporter)
        for step in (10, 20):
            reporter.report_metrics(step=step, values={"train/loss": 2.0})
    (run_dir / "spool.mlflow.position").unlink()

    with open_mlflow_reporter(server, run_dir, attempt=2) as reporter:
        reporter.report_metrics(step=20, values={"train/loss": 2.0})
        reporter.report_metrics(step=30, values={"train/loss": 1.0})

    assert read_mlflow_steps(server.url, "replayed", Metric.LOSS) == [10, 20, 30]


def test_loss_shares_are_not_logged(server: MlflowServer, tmp_path: Path) -> None:
    with open_mlflow_reporter(server, tmp_path / "shares") as reporter:
        share = loss_share_metric("loss_distill_cls", "share", level=0)
        reporter.report_metrics(step=10, values={Metric.LOSS: 2.0, share: 0.3})

    assert find_mlflow_run(server.url, "shares").data.metrics == {Metric.LOSS: 2.0}


def test_training_does_not_wait_for_a_server_that_is_away(
    server: MlflowServer, tmp_path: Path
) -> None:
    server.disconnect()
    run_dir = tmp_path / "patient"
    start_time = datetime.now(UTC)
    reporter = open_mlflow_reporter(server, run_dir)
    with reporter:
        report_start(reporter)
        for step in range(1, 51):
            reporter.report_metrics(step=step, values={"train/loss": 1.0})
        spent_s = (datetime.now(UTC) - start_time).total_seconds()
        reporter.report_outcome("succeeded")
        arrived = reporter.close(timeout_s=0.5)

    assert not arrived
    assert spent_s < 5
    server.connect()
    assert flush_run(run_dir, timeout_s=TIMEOUT_S)
    assert read_mlflow_steps(server.url, "patient", Metric.LOSS) == list(range(1, 51))
    assert find_mlflow_run(server.url, "patient").info.status == "FINISHED"


def test_a_run_of_a_project_is_in_the_projects_experiment(
    server: MlflowServer, tmp_path: Path
) -> None:
    run_dir = tmp_path / "of-a-project"
    run_dir.mkdir()
    identity = AttemptIdentity(run_id=run_dir.name, mlflow_url=server.url, project="road-signs")
    with SpoolReporter.open(run_dir, identity=identity, spec=SPEC) as reporter:
        reporter.report_metrics(step=1, values={"train/loss": 2.0})

    experiment = MlflowClient(server.url).get_experiment_by_name("tandem/road-signs")
    assert experiment is not None
    (run,) = MlflowClient(server.url).search_runs([experiment.experiment_id])
    assert run.data.tags["tandem.run_id"] == run_dir.name
