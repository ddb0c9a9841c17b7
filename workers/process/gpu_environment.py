"""Environment variables of processes that use a GPU; CUDA reads them when it is first used."""

from collections.abc import Mapping

_ALLOCATOR = "PYTORCH_ALLOC_CONF"
_ALLOCATOR_NAMES = (_ALLOCATOR, "PYTORCH_CUDA_ALLOC_CONF")
"""torch 2.14 reads both; if an operator has set either, neither is set here."""

_CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"

GPU_VARIABLES = (*_ALLOCATOR_NAMES, _CUBLAS_WORKSPACE)
"""All variables that this module considers."""


def gpu_environment(present: Mapping[str, str]) -> dict[str, str]:
    """The variables to set in addition to those that are `present`, which are never changed.

    Expandable segments: images of varying sizes would otherwise fragment the memory. A fixed cuBLAS
    workspace: otherwise results may differ from call to call.
    """
    missing = {}
    if not any(name in present for name in _ALLOCATOR_NAMES):
        missing[_ALLOCATOR] = "expandable_segments:True"
    if _CUBLAS_WORKSPACE not in present:
        missing[_CUBLAS_WORKSPACE] = ":4096:8"
    return missing
