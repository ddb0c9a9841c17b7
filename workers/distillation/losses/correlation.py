"""Pearson correlations of student and teacher. The teacher's tensors never get a gradient.

Shapes: K positions, C classes.
"""

from torch import Tensor

_SMALLEST_STD = 1e-6


def standardize(values: Tensor, *, dim: int | tuple[int, ...]) -> Tensor:
    """Shift and scale to mean 0 and deviation 1 over some dimensions; constant values become 0."""
    mean = values.mean(dim=dim, keepdim=True)
    # Without Bessel's correction, which is undefined for a single value.
    std = values.std(dim=dim, keepdim=True, correction=0)
    return (values - mean) / (std + _SMALLEST_STD)


def correlation_losses(student_KC: Tensor, teacher_KC: Tensor, *, dim: int) -> Tensor:
    """DIST (Huang et al., NeurIPS 2022, arXiv 2205.10536, section 4), by position, (K,).

    `dim` 1 correlates over the classes, the paper's inter-class relation: each value is one minus
    the correlation at its position. `dim` 0 correlates over the positions, the intra-class
    relation: the mean of the values is one minus the correlation of a class, averaged over the
    classes. One minus a correlation is half of the mean squared difference of standardized values,
    of which each position has its part. A single value along `dim` gives 0, without a gradient.
    """
    if not len(student_KC):
        return student_KC.float().sum(dim=1)
    difference_KC = standardize(student_KC.float(), dim=dim) - standardize(
        teacher_KC.detach().float(), dim=dim
    )
    return difference_KC.square().mean(dim=1) / 2.0
