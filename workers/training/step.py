"""One optimizer step: forward and backward of each micro-batch, then one update."""

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from configs.spec.compute import Precision
from workers import distributed
from workers.data.batches import Batch
from workers.distillation.log_vars import LogVars
from workers.errors import NanLoss
from workers.process.device import matmul_precision

_MIN_SCALE = 2.0**-10
"""If fp16 gradients overflow at this loss scale, a smaller one is not going to help."""

_FP16_ADVICE = (
    "fp16 holds nothing larger than 65504, and the forward pass may have overflowed: "
    "compute.precision bf16 or tf32 has the range of fp32."
)


class TrainStep:
    """Updates a model; raises `NanLoss` instead if losses or gradients are not finite."""

    def __init__(
        self,
        model: Any,
        optimizer: torch.optim.Optimizer,
        *,
        device: torch.device,
        precision: Precision,
        max_grad_norm: float | None,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._max_grad_norm = max_grad_norm
        self._precision: Precision = precision
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def step(self, micro_batches: Sequence[Batch], *, number: int) -> dict[str, Any]:
        """Update the model by the mean loss of the micro-batches, which are on its device.

        `number` counts steps from 1 and is used in messages. Returns mmdet's `log_vars` (means over
        micro-batches and processes) and `num_samples` (images of all processes). Raises `NanLoss`
        before anything is changed. Gradients are freed in any case: models that take turns on one
        device must not hold any between two steps.
        """
        try:
            with matmul_precision(self._precision):
                return self._accumulate_and_update(micro_batches, number=number)
        finally:
            self._optimizer.zero_grad(set_to_none=True)

    def _accumulate_and_update(
        self, micro_batches: Sequence[Batch], *, number: int
    ) -> dict[str, Any]:
        log_vars: list[LogVars] = []
        images = 0
        for position, micro_batch in enumerate(micro_batches):
            is_last = position == len(micro_batches) - 1
            with contextlib.nullcontext() if is_last else self._no_sync():
                outputs = self._model.train_step(micro_batch, self._optimizer)
                self.scaler.scale(outputs["loss"] / len(micro_batches)).backward()
            log_vars.append(outputs["log_vars"])
            images += outputs["num_samples"]
        # fp16 gradients may overflow: the scaler leaves such a step out and lowers its scale.
        norm = None if self.scaler.is_enabled() else self._total_norm()
        losses = self._read_finite_losses(log_vars, norm, number=number)
        self._update(norm, number=number)
        return {"log_vars": losses, "num_samples": images * distributed.get_world_size()}

    def _read_finite_losses(
        self, log_vars: list[LogVars], norm: Tensor | None, *, number: int
    ) -> dict[str, float]:
        """Mean losses over micro-batches and processes; `NanLoss` unless all values are finite.

        The only values that the host reads of a step in fp32: it waits once, and the device updates
        the weights while the next batch is prepared.
        """
        means_T = torch.stack([terms.values_T for terms in log_vars]).mean(dim=0)
        if norm is None:
            values = distributed.all_reduce_mean(means_T)
        else:
            *values, norm_value = distributed.all_reduce_mean(torch.cat([means_T, norm[None]]))
        losses = dict(zip(log_vars[0].names, values, strict=True))
        check_finite(losses, step=number, is_fp16=self.scaler.is_enabled())
        if norm is not None and not math.isfinite(norm_value):
            raise NanLoss(f"At step {number}: the gradient's norm is {norm_value}.")
        return losses

    def _update(self, norm: Tensor | None, *, number: int) -> None:
        self.scaler.unscale_(self._optimizer)
        if self._max_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(
                self._parameters_with_gradient(),
                self._max_grad_norm,
                self._total_norm() if norm is None else norm,
            )
        self.scaler.step(self._optimizer)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < _MIN_SCALE:
            raise NanLoss(
                f"At step {number}: gradients overflow in fp16, however small they are scaled; "
                "use compute.precision bf16, tf32 or fp32."
            )

    def _total_norm(self) -> Tensor:
        """L2 norm of all gradients, a scalar on their device."""
        gradients = [p.grad for p in self._parameters_with_gradient() if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def _parameters_with_gradient(self) -> list[torch.nn.Parameter]:
        return [p for p in self._model.parameters() if p.grad is not None]

    def _no_sync(self) -> contextlib.AbstractContextManager[None]:
        """Skip DDP's all-reduce: gradients are reduced once a step, with its last micro-batch."""
        if distributed.get_world_size() == 1:
            return contextlib.nullcontext()
        return self._model.no_sync()


def check_finite(losses: dict[str, float], *, step: int, is_fp16: bool) -> None:
    """Raise `NanLoss` if a loss is infinite or NaN.

    This holds for fp16, too: a smaller loss scale cannot help where the forward pass overflows.
    """
    not_finite = sorted(name for name, value in losses.items() if not math.isfinite(value))
    if not_finite:
        values = ", ".join(f"{name} = {losses[name]}" for name in not_finite)
        advice = f" {_FP16_ADVICE}" if is_fp16 else ""
        raise NanLoss(f"At step {step}: {values}.{advice}")
