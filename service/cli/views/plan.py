"""The lines of a dry run: steps, time, baseline."""

from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.api.schemas.runs import PlanView, RunEstimateView
from service.api.schemas.sweeps import SweepPlanView
from service.cli import console
from service.cli.comparisons import format_planned_baseline


def format_run_plan(plan: PlanView) -> list[str]:
    """Describe what a run would do, how long it would take, and what it would wait for."""
    lines = [*_format_estimate(plan.estimate), *_format_unlabelled(plan.spec)]
    if plan.waiting_for:
        lines.append(f"It would wait for {plan.waiting_for}.")
    return lines + format_planned_baseline(plan)


def format_sweep_plan(plan: SweepPlanView) -> list[str]:
    """Describe the size of a sweep, and how long it would take."""
    lines = [
        f"Up to {plan.trials} trials, {plan.runs} runs.",
        *_format_estimate(plan.run_estimate),
        *_format_unlabelled(plan.spec.base),
    ]
    if plan.run_estimate is not None and plan.run_estimate.duration_s is not None:
        total = console.format_duration(plan.runs * plan.run_estimate.duration_s)
        lines.append(
            f"All runs one after the other: at most {total}; packs and the cluster's other slots "
            "make it less."
        )
    if plan.waiting_for:
        lines.append(f"It would wait for {plan.waiting_for}.")
    return lines


def _format_estimate(estimate: RunEstimateView | None) -> list[str]:
    """Steps and time of one run; nothing without an estimate, of which a finding says the cause."""
    if estimate is None:
        return []
    epochs = f"{estimate.epochs} epoch{'s' if estimate.epochs > 1 else ''}"
    steps = f"Steps: {estimate.steps} ({epochs} of {estimate.steps_per_epoch})."
    if estimate.duration_s is None:
        return [steps, "Estimated time: unknown until a run like this one has finished."]
    duration = console.format_duration(estimate.duration_s)
    return [steps, f"Estimated time: {duration}, from run {estimate.reference_run_id}."]


def _format_unlabelled(spec: JobSpec) -> list[str]:
    """Images of a step, if some of them have no labels."""
    images = spec.data.unlabelled if isinstance(spec, RunSpec) else None
    if images is None:
        return []
    assert isinstance(spec, RunSpec)
    total = spec.data.batch_size + images.images_per_batch
    return [
        f"Images of a step: {total}, {spec.data.batch_size} with labels and "
        f"{images.images_per_batch} without."
    ]
