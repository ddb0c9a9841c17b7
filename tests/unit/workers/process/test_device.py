"""Selection of a device, errors of a broken one, and precision settings for fp32."""

from collections.abc import Iterator

import pytest
import torch

from configs.protocol.failure import FailureReason
from configs.spec.compute import Compute, Resources
from workers.errors import GpuUnavailable, InvalidSpec
from workers.process.device import matmul_precision, prepare_device

GPU = Resources(num_gpus=1)


@pytest.fixture(autouse=True)
def _flags_are_restored() -> Iterator[None]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark)
    threads = torch.get_num_threads()
    yield
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=False)


def tf32_is_allowed() -> set[bool]:
    return {torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32}


class AGpu:
    """Replaces torch.cuda by a GPU that computes on the CPU, and may be broken or old."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.capability = (9, 0)
        self.error: Exception | None = None
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Test GPU")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: self.capability)
        monkeypatch.setattr(torch, "ones", self._ones)
        self._real_ones = torch.full

    def _ones(self, size: int, *, device: torch.device) -> torch.Tensor:
        if self.error is not None:
            raise self.error
        return self._real_ones((size,), 1.0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> AGpu:
    return AGpu(monkeypatch)


def prepare(compute: Compute | None = None) -> torch.device:
    return prepare_device(GPU, compute or Compute(), assigned=torch.device("cuda", 0))


def test_a_run_without_a_gpu_is_on_the_cpu_and_fp32_is_fp32() -> None:
    torch.backends.cudnn.allow_tf32 = True

    assert prepare_device(Resources(num_cpus=2)) == torch.device("cpu")

    assert torch.get_num_threads() == 2
    assert tf32_is_allowed() == {False}


def test_fp32_is_fp32_on_a_gpu_too_and_its_algorithms_repeat_themselves(gpu: AGpu) -> None:
    assert prepare() == torch.device("cuda", 0)

    assert tf32_is_allowed() == {False}
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert torch.are_deterministic_algorithms_enabled()


def test_algorithms_that_need_not_repeat_themselves_are_faster_ones(gpu: AGpu) -> None:
    prepare(Compute(deterministic=False))

    assert not torch.backends.cudnn.deterministic
    assert torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()


def test_tf32_is_allowed_inside_of_its_precision_only() -> None:
    prepare_device(Resources())

    with matmul_precision("tf32"):
        assert tf32_is_allowed() == {True}
        with matmul_precision("fp32"):
            assert tf32_is_allowed() == {False}
        assert tf32_is_allowed() == {True}

    assert tf32_is_allowed() == {False}


def test_a_gpu_without_tf32_refuses_it_by_name(gpu: AGpu) -> None:
    gpu.capability = (7, 5)

    with pytest.raises(InvalidSpec, match=r"Test GPU \(compute capability 7\.5\)"):
        prepare(Compute(teacher_precision="tf32"))


def test_a_gpu_that_the_cluster_gave_and_cuda_cannot_use_is_the_nodes_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")

    with pytest.raises(GpuUnavailable, match="GPU 0"):
        prepare_device(GPU)

    assert GpuUnavailable.reason is FailureReason.NODE_LOST


@pytest.mark.parametrize("visible", ["", None])
def test_a_process_without_a_gpu_has_an_invalid_spec(
    monkeypatch: pytest.MonkeyPatch, visible: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    with pytest.raises(InvalidSpec, match="num_gpus"):
        prepare_device(GPU)


def test_a_gpu_that_runs_no_kernel_is_the_nodes_fault(gpu: AGpu) -> None:
    gpu.error = RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")

    with pytest.raises(GpuUnavailable, match="busy or unavailable"):
        prepare()


def test_a_gpu_without_memory_for_one_number_is_out_of_memory(gpu: AGpu) -> None:
    gpu.error = torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        prepare()
