"""Loss values that stay on the device until somebody looks at one."""

from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor

from workers import distributed


class LogVars(Mapping[str, float]):
    """mmdet's `log_vars`: the mean of each loss over the processes.

    The first look at a value is a read by the host and a collective. `TrainStep` takes `values_T`
    instead, and reads it with the other numbers of a step.
    """

    def __init__(self, terms: dict[str, Tensor]) -> None:
        """`terms` are scalars of this process, without a gradient."""
        self.names = list(terms)
        self.values_T = torch.stack(list(terms.values()))

    @cached_property
    def _means(self) -> dict[str, float]:
        return dict(zip(self.names, distributed.all_reduce_mean(self.values_T), strict=True))

    def __getitem__(self, name: str) -> float:
        return self._means[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
