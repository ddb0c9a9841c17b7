"""What the service learns of an attempt: its log, a full disk, a kill by the kernel."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.protocol.names import ExitCode, RunFile, attempt_log_path
from configs.protocol.records import Outcome
from tests.support.training.digits import write_digits
from tests.support.training.runs import TIMEOUT_S, make_spec, read_records, start, train
from tests.support.workers.fake_service import FakeService, serve
from workers.process.oom import write_start_record


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=24, val=4)


def test_the_service_has_the_complete_log_authenticated_by_a_token(
    digits: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / RunFile.TOKEN).write_text("a secret\n")
    spec = make_spec(digits, schedule=make_spec(digits)["schedule"] | {"epochs": 1})
    with serve(FakeService(token="a secret")) as service:
        code = start(spec, run_dir, "--service-url", service.url).wait(TIMEOUT_S)

    log = (run_dir / attempt_log_path(1)).read_bytes()
    assert code == ExitCode.SUCCEEDED
    assert bytes(service.log) == log
    assert log
    assert b"secret" not in log
    assert isinstance(service.records[-1], Outcome)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_reported_as_outcome_and_exit_code(digits: Path, small_disk: Path) -> None:
    with serve(FakeService()) as service:
        process = start(make_spec(digits), small_disk / "run", "--service-url", service.url)
        code = process.wait(TIMEOUT_S)

    last = service.records[-1]
    assert code == ExitCode.DISK_FULL
    assert isinstance(last, Outcome)
    assert last.reason == "disk_full"


def test_an_attempt_reports_that_the_kernel_killed_the_previous_one(
    digits: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    counter = tmp_path / "memory.events"
    counter.write_text("oom 1\noom_kill 1\n")
    mark = write_start_record(run_dir, attempt=1).model_dump()
    mark |= {"pid": 2**22 + 1, "counter": str(counter), "oom_kills": 0}
    (run_dir / RunFile.LOGS / "attempt-1.start.json").write_text(json.dumps(mark))
    refused = make_spec(
        digits, data=make_spec(digits)["data"] | {"dataset": {"root": str(tmp_path)}}
    )

    assert train(refused, run_dir, attempt=2) == ExitCode.REFUSED

    notes = [record["text"] for record in read_records(run_dir) if record["kind"] == "note"]
    assert notes == [
        "Attempt 1 was killed by the kernel for lack of memory (oom_kill rose from 0 to 1)."
    ]
