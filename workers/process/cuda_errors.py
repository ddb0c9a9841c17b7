"""Classifies errors of CUDA and of libraries on top of it by cause, and by whether they are sticky.

Codes and descriptions are those of the CUDA 13 runtime (`driver_types.h`, `cudaGetErrorString`).
An error is sticky if it leaves the process without a usable CUDA context: each later call fails in
the same way, so the process has to end. An error code takes precedence over the message.
"""

import re
from dataclasses import dataclass
from typing import Final

import torch

from configs.protocol.failure import FailureReason


@dataclass(frozen=True)
class CudaFailure:
    """A class of errors with the same cause."""

    reason: FailureReason
    is_sticky: bool = False
    advice: str = ""


OUT_OF_MEMORY: Final = CudaFailure(FailureReason.CUDA_OUT_OF_MEMORY)
HOST_OUT_OF_MEMORY: Final = CudaFailure(FailureReason.HOST_OUT_OF_MEMORY)

NOT_BUILT_FOR_GPU: Final = CudaFailure(
    FailureReason.NODE_LOST,
    advice=(
        "This node's software was not compiled for its GPU: add the GPU's compute capability to "
        "CUDA_ARCHITECTURES and build the image again."
    ),
)
"""Retried, because another node of the cluster may have a GPU that is supported."""

NOT_SUPPORTED: Final = CudaFailure(
    FailureReason.NODE_LOST,
    advice=(
        "This node's GPU or driver does not support the call; if it has no virtual memory "
        "management, set PYTORCH_ALLOC_CONF=expandable_segments:False there."
    ),
)

DRIVER_FAILED: Final = CudaFailure(
    FailureReason.NODE_LOST,
    is_sticky=True,
    advice="Run `tandem-worker doctor` on the node; its NVIDIA driver needs attention.",
)

GPU_FAILED: Final = CudaFailure(FailureReason.NODE_LOST, is_sticky=True)

LIBRARY_FAILED: Final = CudaFailure(FailureReason.NODE_LOST)
"""cuDNN and cuBLAS do not say why a kernel failed, so whether it is sticky is unknown."""

KERNEL_FAULT: Final = CudaFailure(
    FailureReason.BUG,
    is_sticky=True,
    advice="CUDA_LAUNCH_BLOCKING=1 in the worker's environment makes the traceback exact.",
)

_BY_CODE: Final[dict[int, tuple[CudaFailure, str]]] = {
    2: (OUT_OF_MEMORY, "out of memory"),
    3: (DRIVER_FAILED, "initialization error"),
    34: (DRIVER_FAILED, "CUDA driver is a stub library"),
    35: (DRIVER_FAILED, "CUDA driver version is insufficient for CUDA runtime version"),
    36: (DRIVER_FAILED, "API call is not supported in the installed CUDA driver"),
    46: (DRIVER_FAILED, "CUDA-capable device(s) is/are busy or unavailable"),
    49: (DRIVER_FAILED, "incompatible driver context"),
    98: (NOT_BUILT_FOR_GPU, "invalid device function"),
    100: (DRIVER_FAILED, "no CUDA-capable device is detected"),
    101: (DRIVER_FAILED, "invalid device ordinal"),
    102: (DRIVER_FAILED, "device doesn't have valid Grid license"),
    103: (DRIVER_FAILED, "integrity checks failed"),
    127: (DRIVER_FAILED, "startup failure in cuda runtime"),
    200: (NOT_BUILT_FOR_GPU, "device kernel image is invalid"),
    201: (KERNEL_FAULT, "invalid device context"),
    209: (NOT_BUILT_FOR_GPU, "no kernel image is available for execution on the device"),
    214: (GPU_FAILED, "uncorrectable ECC error encountered"),
    218: (NOT_BUILT_FOR_GPU, "a PTX JIT compilation failed"),
    220: (GPU_FAILED, "uncorrectable NVLink error detected during the execution"),
    221: (NOT_BUILT_FOR_GPU, "PTX JIT compiler library not found"),
    222: (NOT_BUILT_FOR_GPU, "the provided PTX was compiled with an unsupported toolchain."),
    223: (NOT_BUILT_FOR_GPU, "PTX JIT compilation was disabled"),
    226: (GPU_FAILED, "Invalid access of peer GPU memory over nvlink or a hardware error"),
    302: (DRIVER_FAILED, "shared object symbol not found"),
    303: (DRIVER_FAILED, "shared object initialization failed"),
    304: (DRIVER_FAILED, "OS call failed or operation not supported on this OS"),
    700: (KERNEL_FAULT, "an illegal memory access was encountered"),
    702: (GPU_FAILED, "the launch timed out and was terminated"),
    709: (GPU_FAILED, "context is destroyed"),
    710: (KERNEL_FAULT, "device-side assert triggered"),
    714: (GPU_FAILED, "hardware stack error"),
    715: (GPU_FAILED, "an illegal instruction was encountered"),
    716: (KERNEL_FAULT, "misaligned address"),
    717: (KERNEL_FAULT, "operation not supported on global/shared address space"),
    718: (GPU_FAILED, "invalid program counter"),
    719: (GPU_FAILED, "unspecified launch failure"),
    721: (KERNEL_FAULT, "tensor memory not completely freed"),
    801: (NOT_SUPPORTED, "operation not supported"),
    802: (DRIVER_FAILED, "system not yet initialized"),
    803: (DRIVER_FAILED, "system has unsupported display driver / cuda driver combination"),
    804: (DRIVER_FAILED, "forward compatibility was attempted on non supported HW"),
    805: (
        DRIVER_FAILED,
        "MPS client failed to connect to the MPS control daemon or the MPS server",
    ),
    806: (
        DRIVER_FAILED,
        "the remote procedural call between the MPS server and the MPS client failed",
    ),
    807: (DRIVER_FAILED, "MPS server is not ready to accept new MPS client requests"),
    808: (
        DRIVER_FAILED,
        "the hardware resources required to create MPS client have been exhausted",
    ),
    809: (
        DRIVER_FAILED,
        "the hardware resources required to support device connections have been exhausted",
    ),
    810: (DRIVER_FAILED, "the MPS client has been terminated by the server"),
    911: (GPU_FAILED, "an async error has occured in external entity outside of CUDA"),
    999: (GPU_FAILED, "unknown error"),
}
"""Other codes mean wrong use of the API: a bug after which the context is still usable."""

_DESCRIPTION_PREFIX = r"(?:CUDA (?:driver )?error: |\bError \d+: |Cuda failure (?:\d+ )?')"
"""Of torch's runtime and driver calls, torch's device count, and NCCL."""

_BY_TEXT: Final = (
    (
        OUT_OF_MEMORY,
        r"CUDA out of memory|cudaErrorMemoryAllocation|_STATUS_ALLOC_FAILED"
        r"|INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED|cuMem\w+\b.*out of memory"
        r"|expandable_segments: memory mapping failed with OOM"
        # Creating a handle allocates memory, and so does the workspace of a convolution.
        r"|CU(BLAS|DNN|SOLVER|SPARSE)_STATUS_NOT_INITIALIZED"
        r"|(FIND|GET) was unable to find an engine|Unable to find a valid cuDNN algorithm",
    ),
    (HOST_OUT_OF_MEMORY, r"INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
    (
        KERNEL_FAULT,
        r"device-side assert|illegal memory access|misaligned address",
    ),
    (
        NOT_BUILT_FOR_GPU,
        r"implementation for device cuda|not compiled with (GPU|CUDA) support"
        r"|Torch not compiled with CUDA enabled|no kernel image is available"
        r"|not compatible with the current PyTorch installation|_ARCH_MISMATCH",
    ),
    (
        DRIVER_FAILED,
        r"No CUDA GPUs are available|Unexpected error from cudaGetDeviceCount|CUDA unknown error"
        r"|Found no NVIDIA driver|NVIDIA driver on your system is too old|busy or unavailable"
        r"|Driver/library version mismatch|INCOMPATIBLE_CUDA|system not yet initialized"
        r"|CUDNN_STATUS_(SUBLIBRARY|VERSION|SERIALIZATION_VERSION)_|_STATUS_LICENSE_ERROR"
        r"|unsupported display driver|forward compatibility was attempted",
    ),
    (
        GPU_FAILED,
        r"uncorrectable|\bECC\b|unspecified launch failure|\bXid\b|NVLink error|GPU is lost"
        r"|fallen off the bus|hardware stack error|launch timed out and was terminated"
        r"|unhandled cuda error|ncclUnhandledCudaError",
    ),
    (LIBRARY_FAILED, r"CU\w+_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)"),
)


def _compile_patterns() -> tuple[tuple[re.Pattern[str], CudaFailure], ...]:
    """The longest description first, because one may be a prefix of another."""
    rows = sorted(_BY_CODE.values(), key=lambda row: len(row[1]), reverse=True)
    descriptions = [
        (re.compile(_DESCRIPTION_PREFIX + re.escape(description)), failure)
        for failure, description in rows
    ]
    return (*descriptions, *((re.compile(pattern), failure) for failure, pattern in _BY_TEXT))


_PATTERNS: Final = _compile_patterns()


def classify_cuda_error(error: BaseException) -> CudaFailure | None:
    """The class of one error, without its causes; None if it is not an error of CUDA."""
    if isinstance(error, torch.OutOfMemoryError):
        return OUT_OF_MEMORY
    code = getattr(error, "error_code", None)
    if isinstance(error, torch.AcceleratorError) and code is not None:
        row = _BY_CODE.get(code)
        return None if row is None else row[0]
    text = str(error)
    return next((failure for pattern, failure in _PATTERNS if pattern.search(text)), None)
