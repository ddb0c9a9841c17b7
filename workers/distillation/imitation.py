"""Losses on feature maps of one level; the student's has been brought to the teacher's channels.

Shapes: B images, C channels, H x W places. The teacher's side never gets a gradient.
"""

from torch import Tensor
from torch.nn import functional

_SMALLEST_STD = 1e-6


def fine_grained_loss(
    student_BCHW: Tensor, teacher_BCHW: Tensor, *, mask_BHW: Tensor, total: float
) -> Tensor:
    """Fine-grained imitation (Wang et al., CVPR 2019, arXiv 1906.03609), equation 3.

    Squared differences near objects, over twice the number of such places at all levels (`total`).
    """
    squared_BCHW = (student_BCHW.float() - teacher_BCHW.detach().float()).square()
    return (squared_BCHW * mask_BHW.unsqueeze(1)).sum() / (2.0 * total)


def pkd_loss(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """PKD (Cao et al., NeurIPS 2022, arXiv 2207.02039): half the mean squared difference of
    features whose channels have mean 0 and deviation 1 over images and places."""
    student, teacher = _standardized(student_BCHW), _standardized(teacher_BCHW.detach())
    return functional.mse_loss(student, teacher) / 2.0


def cwd_loss(student_BCHW: Tensor, teacher_BCHW: Tensor, *, temperature: float) -> Tensor:
    """CWD (Shu et al., ICCV 2021, arXiv 2011.13256), equation 4: the divergence of each channel's
    distribution over the places, times T^2, averaged over images and channels."""
    student = functional.log_softmax(student_BCHW.float().flatten(2) / temperature, dim=2)
    teacher = functional.log_softmax(teacher_BCHW.detach().float().flatten(2) / temperature, dim=2)
    divergence_BC = (teacher.exp() * (teacher - student)).sum(dim=2)
    return divergence_BC.mean() * temperature**2


def _standardized(features_BCHW: Tensor) -> Tensor:
    features = features_BCHW.float()
    centred = features - features.mean(dim=(0, 2, 3), keepdim=True)
    variance = centred.square().mean(dim=(0, 2, 3), keepdim=True)
    # The square root has no gradient at 0, where a channel is constant.
    return centred / (variance + _SMALLEST_STD**2).sqrt().add(_SMALLEST_STD)
