"""Reports of simulated autopilots, as if all jobs of the delivery had succeeded."""

from datetime import UTC, datetime

from configs.catalog import parse_spec
from configs.spec.autopilot import AutopilotBudget, AutopilotSpec
from service.domain.autopilot.autopilots import Autopilot, AutopilotPhase
from service.domain.autopilot.conclusion import list_rivals
from service.domain.autopilot.history import AutopilotHistory, Conclusion, RunLaunch
from service.domain.autopilot.report.facts import EvaluationFacts, ExportFacts, ReportFacts
from service.domain.autopilot.request import AutopilotRequest
from service.domain.states import RunState
from tests.support.factories import make_bckd_spec

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
NO_HISTORY = AutopilotHistory()
SENTENCE = "Distillation helps: +2.3 mAP [+1.1, +3.5] over 3 seeds."


def make_autopilot(
    request: AutopilotRequest | None, history: AutopilotHistory = NO_HISTORY
) -> Autopilot:
    """In the phase that the end of its history leads to."""
    last = history.entries[-1] if history.entries else None
    is_over = isinstance(last, Conclusion)
    spec = AutopilotSpec(
        base=parse_spec(make_bckd_spec()),
        teachers=("big",),
        trained_teachers=("resnet50",),
        students=("small",),
        budget=AutopilotBudget(hours=6.0),
    )
    return Autopilot(
        id="a0123456789ab",
        name="street_1",
        preset=None,
        spec=spec,
        phase=AutopilotPhase.SUCCEEDED if is_over else AutopilotPhase.PROBING,
        created_at=NOON,
        updated_at=NOON,
        created_by="ada",
        message=last.message if isinstance(last, Conclusion) else "",
        request=request,
        notes=("wide is left out: its latency is 31.0 ms on cpu, and at most 20 ms are allowed.",),
    )


def make_facts(history: AutopilotHistory) -> ReportFacts:
    """Every run has an id, and the delivered one has the highest mAP and the lowest latency."""
    launches = [entry for entry in history.entries if isinstance(entry, RunLaunch)]
    conclusion = history.entries[-1]
    assert isinstance(conclusion, Conclusion)
    evaluated = dict.fromkeys((conclusion.run or "", *list_rivals(history)))
    return ReportFacts(
        at=NOON,
        run_ids={launch.key: f"r{number:012d}" for number, launch in enumerate(launches)},
        evaluations={
            key: EvaluationFacts(
                run_id=f"r9{number:011d}",
                state=RunState.SUCCEEDED,
                device="cpu",
                mean_ap=0.4 - 0.02 * number,
                latency_ms=10.0 + number,
            )
            for number, key in enumerate(evaluated)
        },
        export=ExportFacts("r800000000000", RunState.SUCCEEDED, ("onnx", "mlflow"), "/runs/r8"),
        run_conclusion=SENTENCE,
    )
