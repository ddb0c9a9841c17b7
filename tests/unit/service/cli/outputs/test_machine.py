"""Output of commands about this machine and its stack."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

import service.context
import service.doctor
import service.main
import service.stack.lifecycle as lifecycle
import service.usecases.fsck
import service.usecases.retention
from service.api.schemas.health import HealthView
from service.api.schemas.registry import DatasetView
from service.domain.errors.systems import DatabaseUnreachable
from service.domain.retention import Pruned, PrunedKind
from service.domain.states import RunState
from service.stack.components import ComponentName
from service.stack.lifecycle import ComponentProgress, ComponentState, ComponentStatus
from service.stack.trainer import CheckResult
from service.usecases.fsck import Fault
from tests.support.cli.outputs import CommandLine
from tests.support.factories import make_manifest
from tests.support.service.run_views import NOW

MLFLOW_PAGE = (
    "http://127.0.0.1:5500/#/experiments/1/runs?viewStateShareKey=runs"
    "&workflowType=machine_learning"
)
COMPONENTS = tuple(
    ComponentStatus(
        name=name,
        title=title,
        state=state,
        url=url,
        pid=pid,
        started_at=None,
        memory_bytes=memory,
        log=Path(f"/home/ada/.tandem/logs/{name}.log"),
        detail="",
    )
    for name, title, state, url, pid, memory in (
        (ComponentName.RAY, "Ray", ComponentState.UP, "http://127.0.0.1:8265", 4211, 3 << 28),
        (
            ComponentName.MLFLOW,
            "MLflow",
            ComponentState.ELSEWHERE,
            "https://mlflow.microscopy.example.org:8443/tracking/of/the/laboratory/of/blood-cells",
            None,
            0,
        ),
        (
            ComponentName.SERVICE,
            "service",
            ComponentState.UP,
            "http://127.0.0.1:8700",
            4302,
            1 << 28,
        ),
    )
)
HEALTH = HealthView(
    status="ready",
    mlflow_url=MLFLOW_PAGE,
    runs_by_state={RunState.RUNNING: 2, RunState.FAILED: 1},
)
RESULTS = (
    CheckResult("python", ok=True, detail="3.11.7"),
    CheckResult(
        "mmcv operators",
        ok=True,
        detail="compiled for CPU; nms, sigmoid_focal_loss, deform_conv2d, modulated_deform_conv2d, "
        "conv2d are correct to 0.0001 on the CPU; checked 2026-11-30 16:20 UTC, no library has "
        "changed since (`tandem doctor --full` runs it again)",
    ),
    CheckResult(
        "database",
        ok=False,
        detail="postgresql://tandem:***@database.example.org/tandem does not answer: the "
        "connection was refused.",
        advice="Start it, or correct TANDEM_DATABASE_URL; by default it is an SQLite file in "
        "TANDEM_HOME. Then run `tandem doctor` again.",
    ),
)
FAULTS = [
    Fault(
        "attempt_open",
        "r0123456789ab",
        "Attempt 1 has not ended, but the run is succeeded.",
        repair="The attempt is ended now.",
        apply_repair=lambda: None,
    ),
    Fault("ray", "Ray", "Ray does not answer at http://127.0.0.1:8265, so jobs are not compared."),
]


def test_status(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "get_stack_status", lambda _config: COMPONENTS)
    api = {"GET /readyz": HEALTH}

    command_line.check("status", "status", api=api)

    document = command_line.read_json("status", api=api)
    assert document["runs"] == {"running": 2, "failed": 1}
    assert document["components"][0]["name"] == "ray"


@pytest.mark.parametrize(
    ("command", "phase"), [("up", "ready"), ("down", "ended")], ids=["up", "down"]
)
def test_the_stack_starts_and_stops(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, command: str, phase: str
) -> None:
    def report(_config: object, *, on_progress: lifecycle.ProgressCallback) -> None:
        for component in COMPONENTS:
            progress = ComponentProgress(component.name, component.title, phase, 1.2)  # type: ignore[arg-type]
            on_progress(progress)

    monkeypatch.setattr(lifecycle, "start_stack", report)
    monkeypatch.setattr(lifecycle, "stop_stack", report)

    digits = DatasetView(
        name="digits-tiny", root="/digits", manifest=make_manifest(), registered_at=NOW
    )

    command_line.check(command, command, api={"GET /v1/datasets": [digits], "GET /readyz": HEALTH})


def test_serve_without_its_database(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it prints its log, whose lines begin with the time."""

    def serve(_settings: object) -> None:
        raise DatabaseUnreachable("The database did not answer: the connection was refused.")

    monkeypatch.setattr(service.main, "serve", serve)

    outputs = command_line.check("serve", "serve")

    assert {output.exit_code for output in outputs.values()} == {1}


def test_doctor(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.doctor, "run_checks", lambda _config, **_options: RESULTS)

    outputs = command_line.check("doctor", "doctor")

    assert {output.exit_code for output in outputs.values()} == {1}
    assert len(command_line.read_json("doctor", exit_code=1)) == len(RESULTS)


def test_doctor_of_a_machine_without_a_stack(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = [
        replace(status, state=ComponentState.DOWN, is_responding=False) for status in COMPONENTS
    ]
    results = (RESULTS[0], *service.doctor.list_unstarted(down))
    monkeypatch.setattr(service.doctor, "run_checks", lambda _config, **_options: results)

    outputs = command_line.check("doctor_without_stack", "doctor")

    assert {output.exit_code for output in outputs.values()} == {0}
    assert command_line.read_json("doctor")[1]["skipped"]


@pytest.mark.parametrize(("options", "reuses_proof"), [((), True), (("--full",), False)])
def test_only_a_full_doctor_tests_unchanged_libraries_again(
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    reuses_proof: bool,
) -> None:
    calls: list[object] = []

    def run_checks(_config: object, **settings: object) -> tuple[CheckResult, ...]:
        calls.append(settings["reuses_proof"])
        return ()

    monkeypatch.setattr(service.doctor, "run_checks", run_checks)

    command_line.run("doctor", *options)

    assert calls == [reuses_proof]


def test_fsck(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.usecases.fsck, "find_faults", lambda _ctx: iter(FAULTS))
    monkeypatch.setattr(service.context, "open_context", lambda _settings: nullcontext())

    command_line.check("fsck", "fsck")
    command_line.check("fsck_repair", "fsck", "--repair")
    assert len(command_line.read_json("fsck", exit_code=1)) == len(FAULTS)


def test_prune(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [
        Pruned(PrunedKind.METRICS, 5000),
        Pruned(PrunedKind.METRICS, 1234),
        Pruned(PrunedKind.FOLDERS, 0, num_protected=2),
        Pruned(PrunedKind.FOLDERS, 3, 5 * 2**30),
        Pruned(PrunedKind.TOKENS, 0),
    ]
    monkeypatch.setattr(service.usecases.retention, "prune", lambda _ctx, **_options: iter(steps))
    monkeypatch.setattr(service.context, "open_context", lambda _settings: nullcontext())

    command_line.check("prune", "prune")
    command_line.check("prune_dry_run", "prune", "--dry-run")
    metrics, folders = command_line.read_json("prune")
    assert (metrics["kind"], metrics["number"]) == ("metric_values", 6234)
    assert (folders["number"], folders["size_bytes"], folders["protected"]) == (3, 5 * 2**30, 2)
    steps.clear()
    command_line.check("prune_nothing", "prune")
