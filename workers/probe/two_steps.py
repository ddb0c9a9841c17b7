"""Traces of two training steps on one batch: fingerprints that differ if a single bit does."""

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from configs.spec.run import RunSpec
from workers.data.batches import Batch
from workers.errors import NanLoss
from workers.probe.builder import StudentFactory
from workers.probe.learning_rates import learning_rates
from workers.probe.weights import build_moving_weights
from workers.training.hooks.seeding import seed_all
from workers.training.runner import Runner


@dataclass(frozen=True)
class TwoStepTrace:
    """Results of two steps; the fingerprint of a failed step is its error message."""

    losses: dict[str, float]
    """Losses of the first step by term."""

    gradient: str
    """Fingerprint of the first step's gradient, before clipping."""

    norm: float
    """The larger norm of the two gradients, before clipping."""

    first_update: str
    """Fingerprint of the weights after the first step."""

    later_update: str
    """Fingerprint of the weights after a second step on the same batch with the full learning rate,
    which momentum and small weight decays need to take effect."""


class TraceCache:
    """Traces two steps of each spec, once."""

    def __init__(
        self, factory: StudentFactory, *, on_trace: Callable[[], None] = lambda: None
    ) -> None:
        self._factory = factory
        self._on_trace = on_trace
        self._traces: dict[str, TwoStepTrace] = {}

    def get(self, spec: RunSpec) -> TwoStepTrace:
        """The trace of a run from its initial weights."""
        key = spec.model_dump_json()
        if key not in self._traces:
            self._traces[key] = self._trace(spec)
        return self._traces[key]

    def nondeterministic_fields(self, spec: RunSpec) -> frozenset[str]:
        """Fields that differ between two traces of one run; empty with deterministic kernels."""
        first, second = self.get(spec), self._trace(spec)
        return frozenset(
            field.name
            for field in dataclasses.fields(TwoStepTrace)
            if getattr(first, field.name) != getattr(second, field.name)
        )

    def _trace(self, spec: RunSpec) -> TwoStepTrace:
        self._on_trace()
        with deterministic_kernels(self._factory.device):
            return trace_two_steps(self._factory, spec)


def trace_two_steps(factory: StudentFactory, spec: RunSpec) -> TwoStepTrace:
    """Run two steps on the first batch, with the random states that training would have."""
    runner, batch = factory.runner(spec), factory.batch(spec)
    config = factory.config(spec)
    rates = learning_rates(config, steps_per_epoch=factory.steps_per_epoch(spec))
    gradients = _Gradients(runner)
    weights = build_moving_weights(factory, spec)
    runner.model.use_weights(weights.at(0))
    losses, first_update = _record_step(runner, batch, seed=spec.seed, number=1, rate=next(rates))
    gradient, norm = gradients.fingerprint, gradients.norm
    runner.model.use_weights(weights.at(1))
    _, later_update = _record_step(
        runner, batch, seed=spec.seed, number=2, rate=config.optimizer.lr
    )
    return TwoStepTrace(losses, gradient, max(norm, gradients.norm), first_update, later_update)


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """SHA-256 of the values of tensors; 0 and -0 are equal."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update((tensor.detach() + 0.0).cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def deterministic_kernels(device: torch.device) -> Iterator[None]:
    """Use deterministic kernels where torch has some; CPU kernels always are.

    This does not affect mmcv's operators: the backward pass of a deformable convolution sums in the
    order in which its threads finish.
    """
    if device.type != "cuda":
        yield
        return
    was_enabled = torch.are_deterministic_algorithms_enabled()
    was_warning = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=was_enabled, warn_only=was_warning)


class _Gradients:
    """Records the gradient of a model's last step before it is clipped."""

    def __init__(self, runner: Runner) -> None:
        self._scaler = runner.train_step.scaler
        self._fingerprints: dict[str, tuple[str, float]] = {}
        for name, parameter in runner.model.named_parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(partial(self._record, name))

    def _record(self, name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None
        norm = float(parameter.grad.double().norm()) / self._scaler.get_scale()
        self._fingerprints[name] = (fingerprint([parameter.grad]), norm)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the gradients of all parameters."""
        lines = [f"{name} {digest}" for name, (digest, _) in sorted(self._fingerprints.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def norm(self) -> float:
        """L2 norm over all parameters."""
        return math.hypot(*(norm for _, norm in self._fingerprints.values()))


def _record_step(
    runner: Runner, batch: list[Batch], *, seed: int, number: int, rate: float
) -> tuple[dict[str, float], str]:
    """Run a step; returns its losses and the fingerprint of the weights."""
    for group in runner.optimizer.param_groups:
        group["lr"] = rate
    try:
        losses = _run_step(runner, batch, seed=seed, number=number)
    except NanLoss as error:
        return {}, str(error)
    return losses, fingerprint(runner.model.parameters())


def _run_step(runner: Runner, batch: list[Batch], *, seed: int, number: int) -> dict[str, float]:
    """Run a step; repeat it while fp16 skips it to reduce the loss scale."""
    scaler = runner.train_step.scaler
    while True:
        scale = scaler.get_scale()
        seed_all(seed, number - 1, 0)
        outputs: dict[str, Any] = runner.train_step.step(batch, number=number)
        if scaler.get_scale() >= scale:
            return dict(outputs["log_vars"])
