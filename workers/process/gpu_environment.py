"""Environment of processes that use a GPU; it is read when CUDA is first used."""

from collections.abc import Mapping

_ALLOCATOR = "PYTORCH_ALLOC_CONF"
_ALLOCATOR_NAMES = (_ALLOCATOR, "PYTORCH_CUDA_ALLOC_CONF")
"""torch 2.14 reads both. What an operator has put under either is left as it is."""

_CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"

GPU_VARIABLES = (*_ALLOCATOR_NAMES, _CUBLAS_WORKSPACE)
"""All that is looked at here."""


def gpu_environment(present: Mapping[str, str]) -> dict[str, str]:
    """The variables to set beside those that are `present`, which are never changed.

    Segments that grow: images of ever new sizes otherwise leave gaps that no tensor fits into.
    A fixed workspace of cuBLAS: else its results may differ from call to call.
    """
    missing = {}
    if not any(name in present for name in _ALLOCATOR_NAMES):
        missing[_ALLOCATOR] = "expandable_segments:True"
    if _CUBLAS_WORKSPACE not in present:
        missing[_CUBLAS_WORKSPACE] = ":4096:8"
    return missing
