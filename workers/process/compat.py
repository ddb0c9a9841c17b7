"""The one place that lets mmcv 1.7.2 and mmdet 2.28.2 run on today's torch and numpy."""

import warnings
from functools import partial

import numpy as np
from mmcv.parallel import MMDistributedDataParallel
from mmcv.runner import checkpoint as mmcv_checkpoint

IGNORED_WARNINGS = (
    # mmcv announces, at every import, a release of 2023.
    ("On January 1, 2023, MMCV will release v2.0.0", UserWarning),
    # mmcv's ops and mmdet's assigners call torch in ways it means to change one day.
    ("torch.meshgrid: in an upcoming release", UserWarning),
)
"""Warnings of the two that say nothing to our users: (beginning of the message, category)."""


def filter_warnings() -> None:
    """Keep the known noise out of logs."""
    for message, category in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message, category=category)


def apply_patches() -> None:
    """Every fix; harmless when repeated."""
    restore_numpy_aliases()
    patch_distributed_forward()
    load_downloads_weights_only()


def restore_numpy_aliases() -> None:
    """numpy 1.24 dropped `np.int` and `np.float`; mmdet's datasets and samplers still say them."""
    for name, builtin in (("int", int), ("float", float)):
        if name not in vars(np):
            setattr(np, name, builtin)


def patch_distributed_forward() -> None:
    """torch 2.1 dropped a switch that mmcv's distributed `forward` reads; it was off."""
    if not hasattr(MMDistributedDataParallel, "_use_replicated_tensor_module"):
        MMDistributedDataParallel._use_replicated_tensor_module = False


def load_downloads_weights_only() -> None:
    """torch.hub still runs code in a file; mmcv's backbones come through it."""
    if not isinstance(mmcv_checkpoint.load_url, partial):
        mmcv_checkpoint.load_url = partial(mmcv_checkpoint.load_url, weights_only=True)
