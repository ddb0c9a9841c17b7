"""Distillation of feature maps: fine-grained imitation, PKD and CWD.

Shapes: B images, C channels, H x W places of one feature level; R is a channel of an image, P a
place. The student's map comes already adapted to the teacher's channels and size. The teacher's
side never gets a gradient.
"""

from torch import Tensor
from torch.nn import functional

from workers.distillation.losses.softened import softened_divergence

_SMALLEST_STD = 1e-6


def fine_grained_loss(
    student_BCHW: Tensor, teacher_BCHW: Tensor, *, mask_BHW: Tensor, total: float
) -> Tensor:
    """Imitation near objects (Wang et al., CVPR 2019, arXiv 1906.03609), a scalar.

    Half of the squared difference, summed over the channels of the places in `mask_BHW` (bool),
    over `total`: the number of such places on all levels and workers, at least 1.
    """
    squared_BCHW = (student_BCHW.float() - teacher_BCHW.detach().float()).square()
    return (squared_BCHW.sum(dim=1) * mask_BHW).sum() / (2.0 * total)


def pkd_loss(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """PKD (Cao et al., NeurIPS 2022, arXiv 2207.02039), a scalar.

    One minus the Pearson correlation of student and teacher, averaged over the channels: half of
    the mean squared error of the normalised maps.
    """
    student_BCHW = _normalised(student_BCHW.float())
    teacher_BCHW = _normalised(teacher_BCHW.detach().float())
    return functional.mse_loss(student_BCHW, teacher_BCHW) / 2.0


def cwd_loss(student_BCHW: Tensor, teacher_BCHW: Tensor, *, temperature: float) -> Tensor:
    """CWD (Shu et al., ICCV 2021, arXiv 2011.13256), a scalar.

    Each channel of an image is a distribution over its places: KL(teacher || student) times T^2,
    averaged over images and channels.
    """
    divergence_R = softened_divergence(
        _places(student_BCHW), _places(teacher_BCHW), temperature=temperature
    )
    # The divergence is a mean over the places, CWD a sum.
    return divergence_R.mean() * student_BCHW[0, 0].numel()


def _normalised(maps_BCHW: Tensor) -> Tensor:
    """Each channel with mean 0 and standard deviation 1 over the batch and its places."""
    mean_1C11 = maps_BCHW.mean(dim=(0, 2, 3), keepdim=True)
    # Not Bessel's: a level of a single place has no sample deviation.
    std_1C11 = maps_BCHW.std(dim=(0, 2, 3), keepdim=True, correction=0)
    return (maps_BCHW - mean_1C11) / (std_1C11 + _SMALLEST_STD)


def _places(maps_BCHW: Tensor) -> Tensor:
    """(B, C, H, W) as (R, P)."""
    return maps_BCHW.flatten(2).flatten(0, 1)
