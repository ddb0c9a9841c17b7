"""Checks of a GPU after a failure, with a simulated CUDA."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from configs.protocol.failure import FailureReason
from configs.protocol.names import ExitCode
from workers.attempt.failures import diagnose_failure
from workers.process.gpu_context import CudaContext

GIB = 1 << 30
OOM = torch.OutOfMemoryError("CUDA out of memory.")


@dataclass
class SimulatedCuda:
    """Replaces torch.cuda by an 80 GiB GPU."""

    reserved: int = 0
    used_by_other_processes: int = 0
    is_up: bool = True
    failing_calls: frozenset[str] = frozenset()
    calls: list[str] = field(default_factory=list)

    def is_initialized(self) -> bool:
        return self.is_up

    def synchronize(self) -> None:
        self._call("synchronize")

    def empty_cache(self) -> None:
        self._call("empty_cache")

    def memory_reserved(self) -> int:
        self._call("memory_reserved")
        return self.reserved

    def mem_get_info(self) -> tuple[int, int]:
        self._call("mem_get_info")
        return 80 * GIB - self.reserved - self.used_by_other_processes, 80 * GIB

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing_calls:
            raise RuntimeError("CUDA error: device-side assert triggered")


@pytest.mark.parametrize(
    ("foreign_bytes", "reason"),
    [
        (0, FailureReason.CUDA_OUT_OF_MEMORY),
        (700 << 20, FailureReason.CUDA_OUT_OF_MEMORY),
        (GIB + 1, FailureReason.NODE_LOST),
        (40 * GIB, FailureReason.NODE_LOST),
    ],
    ids=["nobody", "our own context", "a little more", "half the card"],
)
def test_memory_that_others_hold_is_the_nodes_fault(
    foreign_bytes: int, reason: FailureReason
) -> None:
    cuda = SimulatedCuda(reserved=30 * GIB, used_by_other_processes=foreign_bytes)

    cause = diagnose_failure(OOM, foreign_bytes=CudaContext(cuda).foreign_bytes)

    assert cause.reason is reason


def test_the_message_says_how_much_other_processes_hold() -> None:
    cuda = SimulatedCuda(used_by_other_processes=40 * GIB)

    cause = diagnose_failure(OOM, foreign_bytes=CudaContext(cuda).foreign_bytes)

    assert "40.0 GiB of the GPU are held by another process" in cause.message


def test_only_a_lack_of_memory_makes_anybody_ask_for_memory() -> None:
    cuda = SimulatedCuda(used_by_other_processes=40 * GIB)

    cause = diagnose_failure(KeyError("x"), foreign_bytes=CudaContext(cuda).foreign_bytes)

    assert cause.reason is FailureReason.BUG
    assert cuda.calls == []


def test_a_gpu_whose_calls_fail_is_unusable_and_raises_nothing() -> None:
    cuda = SimulatedCuda(failing_calls=frozenset({"synchronize", "empty_cache", "mem_get_info"}))
    context = CudaContext(cuda)

    context.release_memory()

    assert not context.is_usable()
    assert context.foreign_bytes() == 0


def test_a_process_without_a_context_makes_none() -> None:
    cuda = SimulatedCuda(is_up=False)
    context = CudaContext(cuda)

    context.release_memory()

    assert context.is_usable()
    assert context.foreign_bytes() == 0
    assert cuda.calls == []


def test_memory_is_released() -> None:
    cuda = SimulatedCuda()

    CudaContext(cuda).release_memory()

    assert cuda.calls == ["empty_cache"]


def test_an_abandoned_process_runs_nothing_any_more(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    script = (
        "import atexit, sys\n"
        "from pathlib import Path\n"
        "from configs.protocol.names import ExitCode\n"
        "from workers.process.gpu_context import CudaContext\n"
        "atexit.register(lambda: Path(sys.argv[1]).touch())\n"
        "CudaContext().exit_process(ExitCode.INTERRUPTED)\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])}

    result = subprocess.run([sys.executable, "-c", script, str(trace)], env=env, check=False)

    assert result.returncode == ExitCode.INTERRUPTED
    assert not trace.exists()
