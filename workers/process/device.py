"""Selects and checks the device of an attempt, and sets its numerical precision."""

import contextlib
import os
from collections.abc import Iterator

import cv2
import torch

from configs.spec.compute import Compute, Precision, Resources
from workers.errors import GpuUnavailable, InvalidSpec

_DEFAULT_COMPUTE = Compute()

_TF32_CAPABILITY = (8, 0)
"""Compute capability from which tensor cores take TF32 (NVIDIA Ampere)."""


def prepare_device(
    resources: Resources,
    compute: Compute = _DEFAULT_COMPUTE,
    *,
    assigned: torch.device | None = None,
) -> torch.device:
    """Configure torch for this process and return the device that it computes on.

    Afterwards fp32 means IEEE fp32 outside of `matmul_precision`, also in convolutions, for which
    torch's default is TF32. `compute.deterministic` selects deterministic algorithms where torch
    has them; mmcv's deformable convolution has none for its backward pass. `assigned`: the device
    that the cluster gave this process, where a run has several.

    Raises `GpuUnavailable` if the assigned GPU does not work, and `InvalidSpec` if there is none,
    or one that lacks a precision of `compute`.
    """
    torch.set_num_threads(resources.num_cpus)
    cv2.setNumThreads(0)
    _allow_tf32(False)
    # The fastest algorithm may be another one each time, so a resumed run would go on differently.
    torch.backends.cudnn.benchmark = not compute.deterministic
    torch.backends.cudnn.deterministic = compute.deterministic
    if resources.num_gpus == 0:
        return torch.device("cpu")
    _check_gpu_visible()
    device = assigned or torch.device("cuda", torch.cuda.current_device())
    torch.cuda.set_device(device)
    _check_kernel_runs(device)
    _check_tf32_supported(compute, device)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(compute.deterministic, warn_only=True)
    return device


@contextlib.contextmanager
def matmul_precision(precision: Precision) -> Iterator[None]:
    """Allow TF32 in convolutions and matrix products inside the context only if it is "tf32".

    TF32 keeps fp32's range and 10 bits of its mantissa. The flags are read when a kernel is
    launched, so the backward pass has to be inside, too. May be nested.
    """
    was_allowed = torch.backends.cudnn.allow_tf32
    _allow_tf32(precision == "tf32")
    try:
        yield
    finally:
        _allow_tf32(was_allowed)


def _check_gpu_visible() -> None:
    if torch.cuda.is_available():
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if visible:  # Ray sets it in a process that it gave a GPU
        raise GpuUnavailable(
            f"The cluster gave this process GPU {visible}, but CUDA cannot use it: the driver is "
            "broken or too old. Run `tandem-worker doctor` on the node."
        )
    raise InvalidSpec(
        "resources.num_gpus is 1, but this process sees no GPU; set it to 0 or run `tandem doctor`."
    )


def _check_kernel_runs(device: torch.device) -> None:
    """A visible GPU may still fail: held by another process, ECC errors, fallen off the bus."""
    try:
        works = torch.ones(1, device=device).add_(1).item() == 2.0
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise GpuUnavailable(f"GPU {device} runs no kernel: {error}") from error
    if not works:
        raise GpuUnavailable(f"GPU {device} computes wrong results: 1 + 1 is not 2.")


def _check_tf32_supported(compute: Compute, device: torch.device) -> None:
    if "tf32" not in (compute.precision, compute.teacher_precision):
        return
    capability = torch.cuda.get_device_capability(device)
    if capability < _TF32_CAPABILITY:
        raise InvalidSpec(
            f"compute asks for tf32, and {torch.cuda.get_device_name(device)} (compute capability "
            f"{capability[0]}.{capability[1]}) has none: it requires 8.0. Use fp32 or fp16."
        )


def _allow_tf32(is_allowed: bool) -> None:
    # Not `fp32_precision`: once that is set, reading these two flags raises inside of torch.
    torch.backends.cudnn.allow_tf32 = is_allowed
    torch.backends.cuda.matmul.allow_tf32 = is_allowed
