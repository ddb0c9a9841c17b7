"""The section on time, speed and hardware of the runs."""

from collections.abc import Iterator

from configs.protocol.report import ReportInputs, ReportRun, RunExecution
from workers.report.blocks import Block, Cell, Column, Paragraph, Placeholder, Row, Section, Table
from workers.report.wording import (
    MISSING,
    format_count,
    format_duration,
    format_optional,
    format_speed,
)

_MAX_ROWS = 40


def execution_section(inputs: ReportInputs) -> Section:
    """Build the section with the duration, the speed and the device of each run."""
    return Section("time", "Time and speed", tuple(_blocks(inputs)))


def duration_s(execution: RunExecution) -> float | None:
    """Seconds from the first start to the end; None for a run that has not ended."""
    if execution.started_at is None or execution.finished_at is None:
        return None
    return (execution.finished_at - execution.started_at).total_seconds()


def _blocks(inputs: ReportInputs) -> Iterator[Block]:
    timed = [run for run in inputs.runs if duration_s(run.execution) is not None]
    if not timed:
        yield Placeholder("No run has measured its time.")
        return
    yield Paragraph(" ".join(_describe(timed)))
    columns = (
        Column("run"),
        Column("seed", is_number=True),
        Column("time", is_number=True),
        Column("images/s, training", is_number=True),
        Column("images/s, evaluation", is_number=True),
        Column("device"),
        Column("attempts", is_number=True),
    )
    yield Table(columns, tuple(Row(tuple(_cells(run))) for run in timed[:_MAX_ROWS]))
    if len(timed) > _MAX_ROWS:
        yield Paragraph(f"{len(timed) - _MAX_ROWS} more runs are left out.")


def _describe(timed: list[ReportRun]) -> Iterator[str]:
    starts = [run.execution.started_at for run in timed if run.execution.started_at]
    ends = [run.execution.finished_at for run in timed if run.execution.finished_at]
    elapsed_s = (max(ends) - min(starts)).total_seconds()
    yield (
        f"{format_count(len(timed), 'run')} took {format_duration(elapsed_s)} from the first start "
        "to the last end. The time of a run includes evaluations, pauses and retries; its training "
        "speed is the median over its steps, its evaluation speed that of the student alone."
    )
    if any(run.execution.pack_size > 1 for run in timed):
        yield (
            "Runs that share a process take turns: their training speed includes the turns of "
            "the others."
        )


def _cells(run: ReportRun) -> Iterator[Cell]:
    execution = run.execution
    yield Cell(run.name or run.id)
    yield Cell(str(run.spec.seed))
    yield Cell(format_duration(duration_s(execution)))
    yield Cell(format_speed(execution.images_per_s))
    yield Cell(format_speed(execution.inference_images_per_s))
    yield Cell(_device(execution))
    yield Cell(format_optional(execution.attempts or None))


def _device(execution: RunExecution) -> str:
    """As in `CPU, 1 core, shared by 2 runs` or `2 processes on GPUs`."""
    if execution.device is None:
        return MISSING
    is_cpu = execution.device == "cpu"
    device = f"CPU, {format_count(execution.cpus_per_process, 'core')}" if is_cpu else "GPU"
    if execution.processes > 1:
        device = f"{execution.processes} processes, each {device}"
    shared = f", shared by {execution.pack_size} runs" if execution.pack_size > 1 else ""
    return device + shared
