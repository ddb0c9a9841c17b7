"""Patches with which mmcv 1.7.2 and mmdet 2.28.2 run on current torch and numpy."""

from functools import partial

import numpy as np
from mmcv.parallel import MMDistributedDataParallel
from mmcv.runner import checkpoint as mmcv_checkpoint


def apply_patches() -> None:
    """Apply all patches; may be called more than once."""
    restore_numpy_aliases()
    patch_distributed_forward()
    load_downloads_weights_only()


def restore_numpy_aliases() -> None:
    """numpy 1.24 removed `np.int` and `np.float`, which mmdet's datasets and samplers use."""
    for name, builtin in (("int", int), ("float", float)):
        if name not in vars(np):
            setattr(np, name, builtin)


def patch_distributed_forward() -> None:
    """torch 2.1 removed an attribute, False by default, that mmcv's DDP `forward` reads."""
    if not hasattr(MMDistributedDataParallel, "_use_replicated_tensor_module"):
        MMDistributedDataParallel._use_replicated_tensor_module = False


def load_downloads_weights_only() -> None:
    """torch.hub would execute code in a file; mmcv downloads backbones through it."""
    if not isinstance(mmcv_checkpoint.load_url, partial):
        mmcv_checkpoint.load_url = partial(mmcv_checkpoint.load_url, weights_only=True)
