"""One optimizer step: forward and backward of each micro-batch, then one update."""

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import torch

from configs.spec.compute import Precision
from workers import distributed
from workers.data.batches import Batch
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
        log_vars: dict[str, float] = {}
        images = 0
        for position, micro_batch in enumerate(micro_batches):
            is_last = position == len(micro_batches) - 1
            with contextlib.nullcontext() if is_last else self._no_sync():
                outputs = self._model.train_step(micro_batch, self._optimizer)
                check_finite(outputs["log_vars"], step=number, is_fp16=self.scaler.is_enabled())
                self.scaler.scale(outputs["loss"] / len(micro_batches)).backward()
            for name, value in outputs["log_vars"].items():
                log_vars[name] = log_vars.get(name, 0.0) + value / len(micro_batches)
            images += outputs["num_samples"]
        self._update(number)
        return {"log_vars": log_vars, "num_samples": images * distributed.get_world_size()}

    def _update(self, number: int) -> None:
        self.scaler.unscale_(self._optimizer)
        norm = self._clip_gradients()
        if not self.scaler.is_enabled() and not math.isfinite(norm):
            raise NanLoss(f"At step {number}: the gradient's norm is {norm}.")
        self.scaler.step(self._optimizer)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < _MIN_SCALE:
            raise NanLoss(
                f"At step {number}: gradients overflow in fp16, however small they are scaled; "
                "use compute.precision bf16, tf32 or fp32."
            )

    def _clip_gradients(self) -> float:
        """Clip the gradients if the spec says so; returns their norm before that."""
        parameters = [p for p in self._model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self._max_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self._max_grad_norm, norm)
        return float(norm)

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
