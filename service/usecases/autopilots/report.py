"""The report of an autopilot, made from the database at each request."""

from collections.abc import Callable, Mapping

from configs.conclusions import conclude
from configs.metric_keys import Metric
from configs.protocol.comparison import MAP_PARTS
from configs.spec.jobs import ExportSpec
from service.domain.autopilot.autopilots import EVALUATION_KEY, EXPORT_KEY
from service.domain.autopilot.history import AutopilotHistory
from service.domain.autopilot.report.build import build_autopilot_report
from service.domain.autopilot.report.facts import EvaluationFacts, ExportFacts, ReportFacts
from service.domain.autopilot.report.markdown import to_markdown
from service.domain.autopilot.report.page import AutopilotReport
from service.domain.autopilot.report.web_page import to_web_page
from service.domain.autopilot.state import replay_history
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.domain.vocabulary import ReportFormat
from service.usecases.autopilots.outcomes import read_history
from service.usecases.context import Context

_RENDER: Mapping[ReportFormat, Callable[[AutopilotReport], str]] = {
    "html": to_web_page,
    "md": to_markdown,
    "json": lambda report: report.model_dump_json(indent=2) + "\n",
}


def render_autopilot_report(autopilot_id: str, format_: ReportFormat, *, ctx: Context) -> str:
    """The report as of now, in any phase. Raises `AutopilotNotFound`."""
    now = ctx.clock.now()
    with ctx.store.snapshot() as uow:
        autopilot = uow.autopilots.get(autopilot_id)
        history = read_history(uow, autopilot_id, now=now)
        jobs = {job.key: job.run_id for job in uow.autopilots.jobs(autopilot_id)}
        facts = ReportFacts(
            at=now,
            run_ids=jobs,
            evaluations=_read_evaluations(uow, jobs),
            export=_read_export(uow, history, jobs, ctx=ctx),
            run_conclusion=_read_run_conclusion(uow, history, jobs),
        )
    return _RENDER[format_](build_autopilot_report(autopilot, history, facts))


def _read_evaluations(uow: UnitOfWork, jobs: Mapping[str, str]) -> dict[str, EvaluationFacts]:
    prefix = f"{EVALUATION_KEY}."
    return {
        key.removeprefix(prefix): _describe_evaluation(uow, uow.runs.get(run_id))
        for key, run_id in jobs.items()
        if key.startswith(prefix)
    }


def _describe_evaluation(uow: UnitOfWork, run: Run) -> EvaluationFacts:
    attempt = uow.attempts.get(run.id, run.attempt)
    return EvaluationFacts(
        run_id=run.id,
        state=run.state,
        device=None if attempt is None else attempt.device,
        mean_ap=run.results.latest.get(Metric.MAP),
        latency_ms=run.results.latest.get(Metric.LATENCY_P50_MS),
    )


def _read_export(
    uow: UnitOfWork, history: AutopilotHistory, jobs: Mapping[str, str], *, ctx: Context
) -> ExportFacts | None:
    conclusion = replay_history(history).conclusion
    run_id = None if conclusion is None else jobs.get(f"{EXPORT_KEY}.{conclusion.run}")
    if run_id is None:
        return None
    run = uow.runs.get(run_id)
    assert isinstance(run.spec, ExportSpec)  # jobs of this key are launched with one
    return ExportFacts(run.id, run.state, run.spec.formats, str(ctx.files.run_dir(run.id)))


def _read_run_conclusion(
    uow: UnitOfWork, history: AutopilotHistory, jobs: Mapping[str, str]
) -> str | None:
    """What the delivered run's own report concludes."""
    conclusion = replay_history(history).conclusion
    run_id = None if conclusion is None else jobs.get(conclusion.run or "")
    comparison = None if run_id is None else uow.comparisons.of_runs([run_id]).get(run_id)
    if comparison is None or MAP_PARTS[0] not in comparison.parts:
        return None
    return conclude(comparison)
