"""torch's optimizers without its compiler, whose import takes a second of CPU time; SGD is fused.

torch 2.14 wraps methods of optimizers in functions that import `torch._dynamo` to keep the compiler
out of them (`_compile.py:_disable_dynamo`, `optim/optimizer.py:_use_grad_for_differentiable`).
Tandem compiles nothing, so the methods are called without them.
"""

from collections.abc import Callable
from functools import wraps
from inspect import unwrap
from typing import Any

import torch
from mmcv.runner import OPTIMIZERS
from torch import Tensor
from torch.optim import Optimizer

_FUSED_OPTIONS = ("weight_decay", "momentum", "lr", "nesterov", "maximize")


def _unwrap_step(optimizer: type[Optimizer]) -> Callable[..., Any]:
    step = unwrap(optimizer.step)

    @wraps(step, assigned=("__name__", "__doc__"), updated=())
    def step_without_compiler(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return step(self, *args, **kwargs)

    return step_without_compiler


class UncompiledOptimizer(Optimizer):
    """Has the methods of every optimizer; a subclass adds `step`."""

    add_param_group = unwrap(Optimizer.add_param_group)
    load_state_dict = unwrap(Optimizer.load_state_dict)
    state_dict = unwrap(Optimizer.state_dict)
    zero_grad = unwrap(Optimizer.zero_grad)


@OPTIMIZERS.register_module(name="AdamW", force=True)
class UncompiledAdamW(UncompiledOptimizer, torch.optim.AdamW):
    """Equal to torch's; registered in its place."""

    step = _unwrap_step(torch.optim.AdamW)


@OPTIMIZERS.register_module(name="SGD", force=True)
class UncompiledSgd(UncompiledOptimizer, torch.optim.SGD):
    """Equal to torch's with `fused=True`; registered in place of torch's SGD.

    One operator updates all parameters, with one pass over each. State and groups are those of
    torch's default, whose checkpoints it continues. It has no dampening.
    """

    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Update every parameter that has a gradient."""
        with torch.no_grad():
            for group in self.param_groups:
                parameters = [p for p in group["params"] if p.grad is not None]
                if not parameters:
                    continue
                torch._fused_sgd_(
                    parameters,
                    [p.grad for p in parameters],
                    self._momentum_buffers(parameters) if group["momentum"] else [],
                    **{name: group[name] for name in _FUSED_OPTIONS},
                    dampening=0.0,
                    is_first_step=False,
                )

    def _momentum_buffers(self, parameters: list[Tensor]) -> list[Tensor]:
        """Buffers in the order of the parameters: zeros at first, of the parameter's layout."""
        for parameter in parameters:
            if self.state[parameter].get("momentum_buffer") is None:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return [self.state[parameter]["momentum_buffer"] for parameter in parameters]
