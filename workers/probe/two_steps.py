"""What two steps of a run on one batch come to: fingerprints that differ if one bit does."""

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
from workers.training.hooks.seeding import seed_everything
from workers.training.runner import Runner


@dataclass(frozen=True)
class TwoStepTrace:
    """Two steps; a step that cannot be taken has its error's words for a fingerprint."""

    losses: dict[str, float]
    """Of the first step, by term."""

    gradient: str
    """Of the first step, before it is clipped."""

    norm: float
    """The larger one of the two gradients' norms."""

    first_update: str
    """Weights after the first step."""

    later_update: str
    """Weights after a second one on the same batch, with the whole learning rate: momentum and
    small decays need it to show."""


class TraceCache:
    """Looks at specs, once at each."""

    def __init__(
        self, factory: StudentFactory, *, on_trace: Callable[[], None] = lambda: None
    ) -> None:
        self._bench = factory
        self._on_look = on_trace
        self._known: dict[str, TwoStepTrace] = {}

    def get(self, spec: RunSpec) -> TwoStepTrace:
        """Two steps of a run, from its first weights."""
        key = spec.model_dump_json()
        if key not in self._known:
            self._known[key] = self._look(spec)
        return self._known[key]

    def nondeterministic_fields(self, spec: RunSpec) -> frozenset[str]:
        """Fields of `TwoStepTrace` that differ between two looks at one run; none where kernels give the
        same bits twice. Looks a second time at what is known already."""
        first, second = self.get(spec), self._look(spec)
        return frozenset(
            field.name
            for field in dataclasses.fields(TwoStepTrace)
            if getattr(first, field.name) != getattr(second, field.name)
        )

    def _look(self, spec: RunSpec) -> TwoStepTrace:
        self._on_look()
        with deterministic_kernels(self._bench.device):
            return trace_two_steps(self._bench, spec)


def trace_two_steps(factory: StudentFactory, spec: RunSpec) -> TwoStepTrace:
    """Two steps on the first batch, with the random states that training would have."""
    runner, batch = factory.runner(spec), factory.batch(spec)
    config = factory.config(spec)
    rates = learning_rates(config, steps_per_epoch=factory.steps_per_epoch(spec))
    gradients = _Gradients(runner)
    losses, first_update = _step(runner, batch, seed=spec.seed, number=1, rate=next(rates))
    gradient, norm = gradients.fingerprint, gradients.norm
    _, later_update = _step(runner, batch, seed=spec.seed, number=2, rate=config.optimizer.lr)
    return TwoStepTrace(losses, gradient, max(norm, gradients.norm), first_update, later_update)


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """The SHA-256 of tensors' values; 0 and -0 are one."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update((tensor.detach() + 0.0).cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def deterministic_kernels(device: torch.device) -> Iterator[None]:
    """Kernels that give the same bits twice, where torch has some; those of a CPU do anyway.

    mmcv's operators know nothing of it: a deformable convolution's backward pass adds in the order
    in which its threads come.
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
    """The gradient of a model's last step, taken down before anybody clips it."""

    def __init__(self, runner: Runner) -> None:
        self._scaler = runner.train_step.scaler
        self._seen: dict[str, tuple[str, float]] = {}
        for name, parameter in runner.model.named_parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(partial(self._see, name))

    def _see(self, name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None
        norm = float(parameter.grad.double().norm()) / self._scaler.get_scale()
        self._seen[name] = (fingerprint([parameter.grad]), norm)

    @property
    def fingerprint(self) -> str:
        """Of all parameters."""
        words = [f"{name} {digest}" for name, (digest, _) in sorted(self._seen.items())]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()

    @property
    def norm(self) -> float:
        """Over all parameters."""
        return math.hypot(*(norm for _, norm in self._seen.values()))


def _step(
    runner: Runner, batch: list[Batch], *, seed: int, number: int, rate: float
) -> tuple[dict[str, float], str]:
    """The losses and the weights' fingerprint."""
    for group in runner.optimizer.param_groups:
        group["lr"] = rate
    try:
        losses = _taken_step(runner, batch, seed=seed, number=number)
    except NanLoss as error:
        return {}, str(error)
    return losses, fingerprint(runner.model.parameters())


def _taken_step(runner: Runner, batch: list[Batch], *, seed: int, number: int) -> dict[str, float]:
    """A step that fp16 leaves out, to try smaller scales first, is taken again."""
    scaler = runner.train_step.scaler
    while True:
        scale = scaler.get_scale()
        seed_everything(seed, number - 1, 0)
        outputs: dict[str, Any] = runner.train_step.step(batch, number=number)
        if scaler.get_scale() >= scale:
            return dict(outputs["log_vars"])
