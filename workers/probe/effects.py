"""Whether a parameter of a sweep moves anything, and what it moves first."""

from collections.abc import Callable, Iterator
from functools import cached_property, partial

from configs.protocol.probe import ParameterEffect, Probe
from configs.spec.run import RunSpec
from configs.spec.search import BALANCE, RATIO, Scalar
from configs.spec.sweep import Space
from workers.probe.builder import StudentFactory
from workers.probe.candidates import CandidateSpecs, build_candidate_specs
from workers.probe.learning_rates import learning_rates
from workers.probe.two_steps import TraceCache
from workers.probe.unit_losses import terms_by_weight

_CLIPPING = "schedule.max_grad_norm"
_WARMUP_STEPS = "schedule.warmup.iterations"
_PARTS = {
    "losses": "the losses",
    "gradient": "the gradient",
    "first_update": "the first update",
    "later_update": "a later update",
}
"""What is compared of a look, in the order in which a run comes to it."""

Differs = Callable[[list[RunSpec]], bool]


class EffectAnalyzer:
    """Compares runs that differ in one parameter, on one batch and over the schedule."""

    def __init__(
        self, factory: StudentFactory, *, base: RunSpec, probe: Probe, on_trace: Callable[[], None]
    ) -> None:
        """`probe`: as much of it as is known, for the weights that `ratio` stands for."""
        self._bench = factory
        self._base = base
        self._probe = probe
        self._looks = TraceCache(factory, on_trace=on_trace)

    def analyze(self, space: Space, path: str) -> ParameterEffect:
        """What the parameter moves first; nothing, if two values of it are never told apart."""
        if path in (RATIO, BALANCE) and (missing := self._weight_without_a_loss()):
            return ParameterEffect(
                has_effect=False,
                detail=f"{missing} weighs a term that is 0 on the batch, so that no weight makes it "
                "a share of the detector's own losses",
            )
        found = build_candidate_specs(space, path, base=self._base, probe=self._probe)
        if len(found.specs) < 2:
            return ParameterEffect(has_effect=True, detail=f"not known: {found.error}")
        specs = list(found.specs.values())
        for moved, differs in self._stages():
            if differs(specs):
                return ParameterEffect(has_effect=True, detail=moved)
        if any(self._looks_differ(specs, part=part) for part in _PARTS):
            return ParameterEffect(has_effect=True, detail=f"not known: {self._why_unknown()}")
        return ParameterEffect(has_effect=False, detail=self._why_nothing(path, found))

    def _stages(self) -> Iterator[tuple[str, Differs]]:
        """In the order in which a run comes to them; looking stops at the first difference."""
        yield "the student's shape", self._shapes_differ
        yield "how images are shown to the student", self._images_differ
        for part, words in _PARTS.items():
            yield words, partial(self._differ, part=part)
        yield "the learning rate of a later step", self._rates_differ
        yield "the number of epochs", lambda specs: len({s.schedule.epochs for s in specs}) > 1

    def _shapes_differ(self, specs: list[RunSpec]) -> bool:
        if all(spec.student == specs[0].student for spec in specs):
            return False
        first, *others = map(self._bench.weight_shapes, specs)
        return any(other != first for other in others)

    def _images_differ(self, specs: list[RunSpec]) -> bool:
        return len(set(map(self._bench.preprocessing_key, specs))) > 1

    def _differ(self, specs: list[RunSpec], *, part: str) -> bool:
        """Whether a part of the looks differs, and is the same in two looks at one run."""
        return self._looks_differ(specs, part=part) and part not in self._changing_parts

    def _looks_differ(self, specs: list[RunSpec], *, part: str) -> bool:
        first, *others = (getattr(self._looks.get(spec), part) for spec in specs)
        return any(other != first for other in others)

    @cached_property
    def _changing_parts(self) -> frozenset[str]:
        """Parts that differ between two looks at the base, so that a difference says nothing."""
        return self._looks.nondeterministic_fields(self._base)

    def _why_unknown(self) -> str:
        device = "GPU" if self._bench.device.type == "cuda" else self._bench.device.type.upper()
        parts = ", ".join(words for part, words in _PARTS.items() if part in self._changing_parts)
        return f"this {device} does not repeat itself: two looks at the base differ in {parts}"

    def _rates_differ(self, specs: list[RunSpec]) -> bool:
        """Over the steps that all of them have."""
        rates = (
            learning_rates(
                self._bench.config(spec), steps_per_epoch=self._bench.steps_per_epoch(spec)
            )
            for spec in specs
        )
        return any(len(set(of_step)) > 1 for of_step in zip(*rates, strict=False))

    def _weight_without_a_loss(self) -> str | None:
        """One of BCKD's weights."""
        units = self._probe.unit_losses
        for weight in ("distillation.cls_weight", "distillation.loc_weight"):
            if not units.get(weight):
                return weight
        return None

    def _why_nothing(self, path: str, found: CandidateSpecs) -> str:
        looks = [self._looks.get(spec) for spec in found.specs.values()]
        spec = next(iter(found.specs.values()))
        if path == _CLIPPING:
            norm = max(look.norm for look in looks)
            return (
                f"the gradient's norm on the batch is {norm:.3g}, so clipping {_range(found)} "
                "changes nothing"
            )
        term = terms_by_weight(spec.distillation).get(path)
        if term is not None and looks[0].losses.get(f"loss_{term}") == 0.0:
            return f"the term that it weighs, {term}, is 0 on the batch"
        if path == _WARMUP_STEPS and spec.schedule.warmup and spec.schedule.warmup.ratio == 1.0:
            return "schedule.warmup.ratio is 1: the warm-up begins with the whole learning rate"
        return (
            f"the student, its losses and gradient, two updates and every step's learning rate are "
            f"the same {_range(found)}, bit for bit"
        )


def _range(found: CandidateSpecs) -> str:
    """The values that were compared, as part of a sentence."""
    values = sorted(found.specs, key=_rank)
    if len(values) == 2:
        return f"between {_word(values[0])} and {_word(values[1])}"
    return f"with {', '.join(_word(value) for value in values)}"


def _rank(value: Scalar) -> tuple[int, float, str]:
    return (1, 0.0, value) if isinstance(value, str) else (0, float(value), "")


def _word(value: Scalar) -> str:
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:g}"
