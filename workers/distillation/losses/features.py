"""Distillation of feature maps: fine-grained imitation, PKD and CWD.

Shapes: B images, C channels, H x W locations of one feature level; R = B x C channels of all
images, P = H x W. The student's map already has the teacher's channels and size. The teacher's
tensors never get a gradient.
"""

from torch import Tensor
from torch.nn import functional

from workers.distillation.losses.correlation import standardize
from workers.distillation.losses.softened import softened_divergence


def fine_grained_loss(
    student_BCHW: Tensor, teacher_BCHW: Tensor, *, mask_BHW: Tensor, total: float | Tensor
) -> Tensor:
    """Imitation near objects (Wang et al., CVPR 2019, arXiv 1906.03609), a scalar.

    Half of the squared difference, summed over the channels at the locations in `mask_BHW` (bool)
    and divided by `total`: the number of such locations on all levels and processes, at least 1.
    """
    squared_BCHW = (student_BCHW.float() - teacher_BCHW.detach().float()).square()
    return (squared_BCHW.sum(dim=1) * mask_BHW).sum() / (2.0 * total)


def pkd_loss(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """PKD (Cao et al., NeurIPS 2022, arXiv 2207.02039), a scalar.

    One minus the Pearson correlation of student and teacher, averaged over the channels: half of
    the mean squared error of the normalized maps.
    """
    student_BCHW = standardize(student_BCHW.float(), dim=(0, 2, 3))
    teacher_BCHW = standardize(teacher_BCHW.detach().float(), dim=(0, 2, 3))
    return functional.mse_loss(student_BCHW, teacher_BCHW) / 2.0


def cwd_loss(student_BCHW: Tensor, teacher_BCHW: Tensor, *, temperature: float) -> Tensor:
    """CWD (Shu et al., ICCV 2021, arXiv 2011.13256), a scalar.

    Each channel of an image is a distribution over its locations: KL(teacher || student) times T^2,
    averaged over images and channels.
    """
    divergence_R = softened_divergence(
        _flatten_maps(student_BCHW), _flatten_maps(teacher_BCHW), temperature=temperature
    )
    # `softened_divergence` averages over the locations, CWD sums.
    return divergence_R.mean() * student_BCHW[0, 0].numel()


def _flatten_maps(maps_BCHW: Tensor) -> Tensor:
    """Flatten (B, C, H, W) to (R, P)."""
    return maps_BCHW.flatten(2).flatten(0, 1)
