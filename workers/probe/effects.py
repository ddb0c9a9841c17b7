"""Whether a parameter of a sweep has an effect, and what it changes first."""

from collections.abc import Callable, Iterator
from functools import cached_property, partial

from configs.protocol.probe import ParameterEffect, Probe
from configs.spec.active_methods import moving_weights, terms_by_weight
from configs.spec.run import RunSpec
from configs.spec.search import BALANCE, RATIO, Scalar
from configs.spec.sweep import Space
from workers.distillation.methods.registry import resolve_methods
from workers.probe.builder import StudentFactory
from workers.probe.candidates import CandidateSpecs, build_candidate_specs
from workers.probe.learning_rates import learning_rates
from workers.probe.two_steps import TraceCache
from workers.probe.weights import simulate_weights

_CLIPPING = "schedule.max_grad_norm"
_WARMUP_STEPS = "schedule.warmup.iterations"
_TRACE_FIELDS = {
    "losses": "the losses",
    "gradient": "the gradient",
    "first_update": "the first update",
    "later_update": "a later update",
}
"""Compared fields of `TwoStepTrace` in the order in which they are computed, with descriptions."""

_UNKNOWN_WEIGHT = (
    "unknown: with the gradients of the first batch, the weight of every step is the same"
)

Differs = Callable[[list[RunSpec]], bool]


class EffectAnalyzer:
    """Compares runs that differ in one parameter, on one batch and over the schedule."""

    def __init__(
        self, factory: StudentFactory, *, base: RunSpec, probe: Probe, on_trace: Callable[[], None]
    ) -> None:
        """`probe` gives the unit losses from which `ratio` is converted to weights."""
        self._factory = factory
        self._base = base
        self._probe = probe
        self._trace_cache = TraceCache(factory, on_trace=on_trace)

    def analyze(self, space: Space, path: str) -> ParameterEffect:
        """Find what the parameter changes first, or that its values make no difference."""
        if path in (RATIO, BALANCE) and (missing := self._find_zero_weight()):
            return ParameterEffect(
                has_effect=False,
                detail=f"{missing} weights a term that is 0 on the batch, so no weight can give it "
                "a share of the loss",
            )
        candidates = build_candidate_specs(space, path, base=self._base, probe=self._probe)
        if len(candidates.specs) < 2:
            return ParameterEffect(has_effect=True, detail=f"unknown: {candidates.error}")
        specs = list(candidates.specs.values())
        for label, differs in self._stages():
            if differs(specs):
                return ParameterEffect(has_effect=True, detail=label)
        if any(self._traces_differ(specs, field=field) for field in _TRACE_FIELDS):
            return ParameterEffect(has_effect=True, detail=f"unknown: {self._explain_unknown()}")
        if path.rpartition(".")[0] in moving_weights(resolve_methods(specs[0].distillation)):
            return ParameterEffect(has_effect=True, detail=_UNKNOWN_WEIGHT)
        return ParameterEffect(has_effect=False, detail=self._explain_no_effect(path, candidates))

    def _stages(self) -> Iterator[tuple[str, Differs]]:
        """Yield the comparisons in the order in which a run computes their subjects."""
        yield "the student's shape", self._shapes_differ
        yield "the image preprocessing", self._images_differ
        for field, label in _TRACE_FIELDS.items():
            yield label, partial(self._reliably_differ, field=field)
        yield "the learning rate of a later step", self._rates_differ
        yield "the averaged weights", lambda specs: len({s.schedule.ema for s in specs}) > 1
        yield "the weight of a later step", self._weights_differ
        yield "the number of epochs", lambda specs: len({s.schedule.epochs for s in specs}) > 1

    def _shapes_differ(self, specs: list[RunSpec]) -> bool:
        if all(spec.student == specs[0].student for spec in specs):
            return False
        first_shape, *other_shapes = map(self._factory.weight_shapes, specs)
        return any(shape != first_shape for shape in other_shapes)

    def _images_differ(self, specs: list[RunSpec]) -> bool:
        return len(set(map(self._factory.preprocessing_key, specs))) > 1

    def _reliably_differ(self, specs: list[RunSpec], *, field: str) -> bool:
        """Whether a field of the traces differs, and is equal in two traces of the same run."""
        return (
            self._traces_differ(specs, field=field) and field not in self._nondeterministic_fields
        )

    def _traces_differ(self, specs: list[RunSpec], *, field: str) -> bool:
        first_value, *other_values = (getattr(self._trace_cache.get(spec), field) for spec in specs)
        return any(value != first_value for value in other_values)

    @cached_property
    def _nondeterministic_fields(self) -> frozenset[str]:
        """Fields that differ between two traces of the base: a difference proves nothing."""
        return self._trace_cache.nondeterministic_fields(self._base)

    def _explain_unknown(self) -> str:
        device = "GPU" if self._factory.device.type == "cuda" else self._factory.device.type.upper()
        labels = ", ".join(
            label
            for field, label in _TRACE_FIELDS.items()
            if field in self._nondeterministic_fields
        )
        return f"this {device} is not deterministic: two traces of the base differ in {labels}"

    def _rates_differ(self, specs: list[RunSpec]) -> bool:
        """Compare the learning rates of the steps that all specs have."""
        rates = (
            learning_rates(
                self._factory.config(spec), steps_per_epoch=self._factory.steps_per_epoch(spec)
            )
            for spec in specs
        )
        return any(len(set(step_rates)) > 1 for step_rates in zip(*rates, strict=False))

    def _weights_differ(self, specs: list[RunSpec]) -> bool:
        """Compare the weights of the steps that all specs have."""
        if not any(moving_weights(resolve_methods(spec.distillation)) for spec in specs):
            return False
        by_spec = (simulate_weights(self._factory, spec) for spec in specs)
        return any(
            any(weights != present[0] for weights in present[1:])
            for present in zip(*by_spec, strict=False)
        )

    def _find_zero_weight(self) -> str | None:
        """The weight of BCKD, if any, whose term is 0 on the batch."""
        unit_losses = self._probe.unit_losses
        for weight in ("distillation.cls_weight", "distillation.loc_weight"):
            if not unit_losses.get(weight):
                return weight
        return None

    def _explain_no_effect(self, path: str, candidates: CandidateSpecs) -> str:
        traces = [self._trace_cache.get(spec) for spec in candidates.specs.values()]
        spec = next(iter(candidates.specs.values()))
        if path == _CLIPPING:
            norm = max(trace.norm for trace in traces)
            return (
                f"the gradient norm on the batch is {norm:.3g}, so clipping "
                f"{_format_values(candidates)} changes nothing"
            )
        term = terms_by_weight(resolve_methods(spec.distillation)).get(path)
        if term is not None and traces[0].losses.get(f"loss_{term}") == 0.0:
            return f"the term that it weights, {term}, is 0 on the batch"
        if path == _WARMUP_STEPS and spec.schedule.warmup and spec.schedule.warmup.ratio == 1.0:
            return "schedule.warmup.ratio is 1: the warm-up starts at the full learning rate"
        return (
            "the student, its losses and gradient, two updates and the learning rate of every step "
            f"are the same {_format_values(candidates)}, bit for bit"
        )


def _format_values(candidates: CandidateSpecs) -> str:
    """The compared values, as part of a sentence."""
    values = sorted(candidates.specs, key=_sort_key)
    if len(values) == 2:
        return f"between {_format_value(values[0])} and {_format_value(values[1])}"
    return f"with {', '.join(_format_value(value) for value in values)}"


def _sort_key(value: Scalar) -> tuple[int, float, str]:
    return (1, 0.0, value) if isinstance(value, str) else (0, float(value), "")


def _format_value(value: Scalar) -> str:
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:g}"
