"""Failures in packs: of one member, of all members, and of the GPU."""

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
import torch

from configs.catalog import parse_spec
from configs.protocol.names import Env, ExitCode, RunFile
from configs.protocol.pack import PackJob, PackMember
from tests.support.training.digits import write_digits
from tests.support.training.pack_failures import get_learning_rate, make_sticky_error
from tests.support.training.runs import TIMEOUT_S, load_weights, make_spec, read_records
from workers.attempt import lifecycle
from workers.attempt.stop import Termination
from workers.jobs.train import train
from workers.jobs.train_pack import train_pack
from workers.process import compat
from workers.telemetry.identity import AttemptIdentity
from workers.training.loop import TrainLoop
from workers.training.runner import Runner

STEPS = 3
RATES = {"a": 1e-3, "b": 2e-3, "c": 3e-3}
GIB = 1 << 30

Fails = Callable[[str, int], Exception | None]
"""The error that a member's turn raises at a step, counted from 1; None for no error."""


class ProcessExited(BaseException):
    """Raised instead of exiting the process."""

    def __init__(self, code: ExitCode) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass
class SimulatedGpu:
    """Implements `GpuContext`."""

    usable: bool = True
    foreign: int = 0
    released: int = 0

    def is_usable(self) -> bool:
        return self.usable

    def release_memory(self) -> None:
        self.released += 1

    def foreign_bytes(self) -> int:
        return self.foreign

    def exit_process(self, code: ExitCode) -> NoReturn:
        raise ProcessExited(code)


def raise_out_of_memory() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory.")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=8 * STEPS, val=4)


def specs(digits: Path) -> dict[str, dict[str, Any]]:
    """Specs of three members that differ by their learning rate."""
    schedule = {"epochs": 1, "max_grad_norm": 10.0}
    return {
        name: make_spec(digits, schedule=schedule | {"optimizer": {"kind": "adamw", "lr": rate}})
        for name, rate in RATES.items()
    }


@pytest.fixture
def pack(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ExitCode]:
    """Trains the three members in this process."""
    compat.apply_patches()
    run_iter = Runner.run_iter

    def start(*, fails: Fails = lambda _name, _step: None, gpu: Any = None) -> ExitCode:
        def run_iter_or_fail(runner: Runner, micro_batches: Any) -> None:
            (name,) = (name for name, rate in RATES.items() if rate == get_learning_rate(runner))
            if (error := fails(name, runner.iter + 1)) is not None:
                raise error
            run_iter(runner, micro_batches)

        monkeypatch.setattr(Runner, "run_iter", run_iter_or_fail)
        job = make_pack_job(tmp_path, specs(digits))
        parsed = [parse_spec(spec) for spec in specs(digits).values()]
        return train_pack(job, parsed, termination=Termination(), gpu=gpu or SimulatedGpu())

    return start


def make_pack_job(folder: Path, members: dict[str, dict[str, Any]]) -> PackJob:
    """A pack job whose members have folders of their names."""
    entries = []
    for number, (name, spec) in enumerate(members.items()):
        run_dir = folder / name
        run_dir.mkdir()
        (run_dir / RunFile.SPEC).write_text(json.dumps(spec))
        entries.append(
            PackMember(run_id=f"r{number:012d}", attempt=1, run_dir=str(run_dir), name=name)
        )
    return PackJob(id="pack-1", members=tuple(entries))


def find_marked(mark: dict[Env, str]) -> list[psutil.Process]:
    """Running processes with `mark` in their environment."""
    living = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if mark.items() <= process.environ().items():
                living.append(process)
    return living


def outcomes(folder: Path) -> dict[str, str]:
    """Failure reason or result of each member that has an outcome."""
    outcomes_by_member = {}
    for name in RATES:
        outcomes = [record for record in read_records(folder / name) if record["kind"] == "outcome"]
        assert len(outcomes) <= 1
        if outcomes:
            outcomes_by_member[name] = outcomes[0]["reason"] or outcomes[0]["result"]
    return outcomes_by_member


def test_a_sticky_error_is_reported_for_its_member_only(
    pack: Callable[..., ExitCode], tmp_path: Path
) -> None:
    with pytest.raises(ProcessExited) as ended:
        pack(fails=lambda name, step: make_sticky_error() if (name, step) == ("b", 2) else None)

    assert ended.value.code is ExitCode.INTERRUPTED
    assert outcomes(tmp_path) == {"b": "bug"}


STICKY_PACK = """
import sys
from pathlib import Path

import yaml

from configs.catalog import parse_spec
from configs.protocol.names import RunFile
from configs.protocol.pack import PackJob
from tests.support.training.pack_failures import get_learning_rate, make_sticky_error
from workers.attempt.stop import Termination
from workers.jobs.train_pack import train_pack
from workers.process import compat
from workers.training.runner import Runner

run_iter = Runner.run_iter

def run_iter_or_fail(runner, micro_batches):
    if (get_learning_rate(runner), runner.iter) == (2e-3, 1):
        raise make_sticky_error()
    run_iter(runner, micro_batches)

if __name__ == "__main__":
    compat.apply_patches()
    Runner.run_iter = run_iter_or_fail
    job = PackJob.model_validate_json(sys.argv[1])
    files = [Path(member.run_dir) / RunFile.SPEC for member in job.members]
    specs = [parse_spec(yaml.safe_load(file.read_text())) for file in files]
    train_pack(job, specs, termination=Termination())
"""


@pytest.mark.slow  # a new interpreter; the outcome itself is held by the next test
def test_the_process_exits_after_the_outcome_was_spooled_and_without_loaders(
    digits: Path, tmp_path: Path
) -> None:
    members = specs(digits)
    for spec in members.values():
        spec["data"] = spec["data"] | {"num_workers": 1}
    job = make_pack_job(tmp_path, members)
    mark = {Env.ATTEMPT: f"sticky-{tmp_path.name}-{os.getpid()}"}
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])} | mark

    ended = subprocess.run(
        [sys.executable, "-c", STICKY_PACK, job.model_dump_json()],
        env=env,
        check=False,
        timeout=TIMEOUT_S,
    )

    assert ended.returncode == ExitCode.INTERRUPTED
    assert outcomes(tmp_path) == {"b": "bug"}
    assert not find_marked(mark)


def test_an_error_that_turns_out_to_be_sticky_is_one(
    pack: Callable[..., ExitCode], tmp_path: Path
) -> None:
    failed = RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    with pytest.raises(ProcessExited):
        pack(
            fails=lambda name, step: failed if (name, step) == ("b", 2) else None,
            gpu=SimulatedGpu(usable=False),
        )

    assert outcomes(tmp_path) == {"b": "node_lost"}


def test_no_reference_to_a_failed_member_remains_when_memory_is_released(
    pack: Callable[..., ExitCode], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: dict[str, weakref.ref[Any]] = {}
    alive: list[set[str]] = []

    class Watching(SimulatedGpu):
        def release_memory(self) -> None:
            gc.collect()
            alive.append({name for name, model in trained.items() if model() is not None})

    def note(runner: Runner, mode: str) -> None:
        if mode == "before_train_iter":
            (name,) = (name for name, rate in RATES.items() if rate == get_learning_rate(runner))
            trained[name] = weakref.ref(runner.model)
        call_hook(runner, mode)

    call_hook = Runner.call_hook
    monkeypatch.setattr(Runner, "call_hook", note)

    pack(
        fails=lambda name, step: raise_out_of_memory() if (name, step) == ("b", 2) else None,
        gpu=Watching(),
    )

    assert trained.keys() == RATES.keys()
    assert alive[0] == {"a", "c"}
    assert alive[-1] == set()


@pytest.mark.parametrize(
    "error",
    [
        raise_out_of_memory,
        lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
    ],
    ids=["torch's own", "cuBLAS's"],
)
def test_no_member_fails_for_good_if_all_lack_memory_together(
    pack: Callable[..., ExitCode], tmp_path: Path, error: Callable[[], Exception]
) -> None:
    gpu = SimulatedGpu()

    code = pack(fails=lambda _name, step: error() if step == 2 else None, gpu=gpu)

    assert code is ExitCode.INTERRUPTED
    assert outcomes(tmp_path) == dict.fromkeys(RATES, "pack_out_of_memory")
    assert gpu.released >= len(RATES)


@pytest.mark.parametrize(
    ("foreign", "reason"),
    [(0, "cuda_out_of_memory"), (40 * GIB, "node_lost")],
    ids=["the GPU to itself", "others on it"],
)
def test_the_last_member_fails_as_a_run_of_its_own_would(
    pack: Callable[..., ExitCode], tmp_path: Path, foreign: int, reason: str
) -> None:
    def fails(name: str, step: int) -> Exception | None:
        return raise_out_of_memory() if step == {"a": 3, "b": 1, "c": 2}[name] else None

    pack(fails=fails, gpu=SimulatedGpu(foreign=foreign))

    assert outcomes(tmp_path) == {
        "a": reason,
        "b": "pack_out_of_memory",
        "c": "pack_out_of_memory",
    }


def fail_batches(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> None:
    """Let the second batch fail before any turn, once for each error."""
    iter_batches, remaining = TrainLoop._iter_device_batches, list(errors)

    def fail_first(loop: TrainLoop) -> Iterator[Any]:
        for number, batch in enumerate(iter_batches(loop)):
            at_second = number + loop._sampler._first_step == 1
            if at_second and remaining:
                raise remaining.pop(0)
            yield batch

    monkeypatch.setattr(TrainLoop, "_iter_device_batches", fail_first)


def test_the_last_member_is_evicted_without_memory_for_a_batch(
    pack: Callable[..., ExitCode],
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    separate_run = tmp_path / "alone" / "a"
    separate_run.mkdir(parents=True)
    train(
        parse_spec(specs(digits)["a"]),
        identity=AttemptIdentity(run_id="a"),
        run_dir=separate_run,
        termination=Termination(),
    )
    fail_batches(monkeypatch, raise_out_of_memory())

    pack()

    assert outcomes(tmp_path) == {"a": "succeeded", "b": "succeeded", "c": "pack_out_of_memory"}
    packed, separate = load_weights(tmp_path / "a"), load_weights(separate_run)
    assert packed.keys() == separate.keys()
    assert all(packed[name].equal(separate[name]) for name in packed)


def test_no_member_fails_for_good_if_a_batch_never_fits(
    pack: Callable[..., ExitCode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_batches(monkeypatch, *(raise_out_of_memory() for _ in RATES))

    assert pack() is ExitCode.INTERRUPTED

    assert outcomes(tmp_path) == dict.fromkeys(RATES, "pack_out_of_memory")


def test_each_member_reports_a_killed_loader_as_a_run_of_its_own_would(
    pack: Callable[..., ExitCode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. Details are lost")
    fail_batches(monkeypatch, killed)

    assert pack() is ExitCode.INTERRUPTED

    assert outcomes(tmp_path) == dict.fromkeys(RATES, "node_lost")


def test_a_sticky_error_outside_of_a_turn_is_reported_for_no_member(
    pack: Callable[..., ExitCode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_batches(monkeypatch, make_sticky_error())

    with pytest.raises(ProcessExited) as ended:
        pack()

    assert ended.value.code is ExitCode.INTERRUPTED
    assert outcomes(tmp_path) == {}


def test_a_single_run_reports_a_sticky_error_before_its_process_exits(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_runner: Runner, **_: Any) -> None:
        raise make_sticky_error()

    monkeypatch.setattr(Runner, "run_iter", fail)
    monkeypatch.setattr(lifecycle, "CudaContext", SimulatedGpu)
    (tmp_path / "a").mkdir()

    with pytest.raises(ProcessExited) as ended:
        train(
            parse_spec(specs(digits)["a"]),
            identity=AttemptIdentity(run_id="a"),
            run_dir=tmp_path / "a",
            termination=Termination(),
        )

    assert ended.value.code is ExitCode.REFUSED
    assert outcomes(tmp_path) == {"a": "bug"}
