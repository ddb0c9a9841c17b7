"""What another user of the machine reads in the command lines of processes."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest

import service.doctor
from configs.mlflow_access import MlflowVariable
from configs.protocol.names import RunFile
from service.doctor import run_checks
from service.stack.components import ComponentName
from service.stack.lifecycle import ComponentState, ComponentStatus
from service.usecases.attempts.packs import start_pack
from service.usecases.attempts.start import start_attempt
from service.usecases.context import Context
from tests.support.factories import make_bckd_spec
from tests.support.service.stage import Stage
from tests.support.stack.configs import make_stack_config

PASSWORD = "s3cr3t@9"
PLAIN = "https://mlflow.example.org/team"
FULL = "https://ada:s3cr3t%409@mlflow.example.org/team"


@pytest.fixture
def run_id(stage: Stage) -> str:
    """A queued run."""
    stage.add_dataset()
    stage.add_teacher()
    return str(stage.launch(spec=make_bckd_spec(), baseline="off")["id"])


@pytest.fixture
def ctx(stage: Stage) -> Context:
    """A context in which MLflow's address has a password."""
    return replace(stage.ctx, mlflow_url=FULL)


def test_the_job_of_a_run_reads_the_password_of_mlflow_from_its_folder(
    stage: Stage, ctx: Context, run_id: str
) -> None:
    start_attempt(run_id, processes=1, ctx=ctx)

    (request,) = stage.cluster.job_requests.values()
    assert PLAIN in request.command
    assert not any("s3cr3t" in text for text in (*request.command, *request.environment.values()))
    file = ctx.files.run_dir(run_id) / RunFile.MLFLOW_URL
    assert file.read_text(encoding="utf-8") == FULL
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_job_of_a_pack_reads_the_password_of_mlflow_from_the_folders_of_its_runs(
    stage: Stage, ctx: Context, run_id: str
) -> None:
    with ctx.store.snapshot() as uow:
        run = uow.runs.get(run_id)
    start_pack([run], avoid=frozenset(), ctx=ctx)

    (request,) = stage.cluster.job_requests.values()
    job_file = Path(request.command[-1]).read_text(encoding="utf-8")
    assert PLAIN in job_file
    assert "s3cr3t" not in job_file
    assert (ctx.files.run_dir(run_id) / RunFile.MLFLOW_URL).read_text(encoding="utf-8") == FULL


def test_an_address_without_password_leaves_no_file(stage: Stage, run_id: str) -> None:
    start_attempt(run_id, processes=1, ctx=replace(stage.ctx, mlflow_url=PLAIN))

    assert not (stage.ctx.files.run_dir(run_id) / RunFile.MLFLOW_URL).exists()


def test_an_address_that_lost_its_password_replaces_the_former_one(
    stage: Stage, run_id: str
) -> None:
    file = stage.ctx.files.run_dir(run_id) / RunFile.MLFLOW_URL
    stage.ctx.files.write(file, FULL, is_secret=True)

    start_attempt(run_id, processes=1, ctx=replace(stage.ctx, mlflow_url=PLAIN))

    assert file.read_text(encoding="utf-8") == PLAIN


def test_the_doctor_gives_the_password_of_mlflow_to_the_worker_as_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_stack_config(tmp_path, mlflow_url=FULL)
    status = ComponentStatus(
        *(ComponentName.MLFLOW, "MLflow", ComponentState.ELSEWHERE, FULL, None, None, 0),
        *(tmp_path / "log", "answers"),
        is_responding=True,
    )
    calls: list[tuple[tuple[str, ...], dict[str, str]]] = []

    def run_worker(_command: Path, *, options: tuple[str, ...], env: dict[str, str]) -> tuple[()]:
        calls.append((options, env))
        return ()

    monkeypatch.setattr(service.doctor, "run_worker_doctor", run_worker)
    monkeypatch.setattr(service.doctor, "get_stack_status", lambda _config: (status,))
    monkeypatch.setattr(service.doctor, "_check_service", lambda *_, **_options: ())

    list(run_checks(config, database_url="sqlite://", service_url="http://127.0.0.1:8700"))

    ((options, env),) = calls
    assert options[-2:] == ("--mlflow-url", PLAIN)
    assert (env[MlflowVariable.USERNAME], env[MlflowVariable.PASSWORD]) == ("ada", PASSWORD)
