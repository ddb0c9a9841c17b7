"""mmcv's compiled operators: whether they are there and can be loaded."""

from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec


class OperatorError(Exception):
    """An operator is missing, or computes wrong results."""


def compiled_targets() -> str:
    """Load mmcv's operators; return what they were compiled for: "CPU", or "CPU and CUDA 13.0".

    Raises `OperatorError` if `mmcv._ext` is not a compiled module, and ImportError if it was
    compiled for another torch. Imports neither `mmcv.ops` nor mmdet, which takes seconds.
    """
    spec = find_spec("mmcv._ext")
    if spec is None or not (spec.origin or "").endswith(tuple(EXTENSION_SUFFIXES)):
        raise OperatorError("mmcv._ext is not a compiled module: this is not mmcv-full")
    cuda = _cuda_version()
    return "CPU" if cuda == "not available" else f"CPU and CUDA {cuda}"


def _cuda_version() -> str:
    return str(import_module("mmcv._ext").get_compiling_cuda_version())
