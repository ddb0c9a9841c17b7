"""All patches of mmcv 1.7.2 and mmdet 2.28.2: for current torch and numpy, and for our heads."""

from collections.abc import Callable
from functools import partial

import numpy as np
from torch import Tensor

from workers.process.imports import defer_imports

with defer_imports(
    "matplotlib.pyplot",  # mmdet draws with it, Tandem does not
    "matplotlib.collections",
    "matplotlib.patches",
    "scipy.optimize",  # for DETR
    "sklearn.mixture",  # for PAA
    "torch.utils.cpp_extension",  # for packages that build on mmcv
    "torchvision",  # for the addresses of pretrained backbones
):
    import mmdet.datasets  # noqa: F401
    from mmcv.parallel import MMDistributedDataParallel
    from mmcv.runner import checkpoint as mmcv_checkpoint
    from mmdet.models.dense_heads import (
        atss_head,
        fcos_head,
        gfl_head,
        tood_head,
        vfnet_head,
        yolox_head,
    )


def apply_patches() -> None:
    """Apply the patches for current torch and numpy; may be called more than once."""
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


def patch_loss_normalizers(sum_over_batch: Callable[[Tensor], Tensor]) -> None:
    """Have mmdet's dense heads clamp their loss normalizers to 1 for the whole batch.

    `sum_over_batch` returns the normalizer of the whole batch from that of this process. mmdet's
    `reduce_mean`, which it replaces, divides by the number of processes before the clamp; the
    caller has to divide the loss instead.
    """
    for module in (atss_head, fcos_head, gfl_head, tood_head, vfnet_head, yolox_head):
        module.reduce_mean = sum_over_batch
