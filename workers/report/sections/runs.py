"""Sections of every report: the answer, the learning curves, the runs."""

from collections.abc import Iterator, Sequence

from configs.protocol.comparison import MAP_PARTS, Comparison
from configs.protocol.report import Report, ReportInputs, ReportRun
from workers.report.blocks import (
    Block,
    Cell,
    Column,
    Paragraph,
    Placeholder,
    Row,
    Section,
    Span,
    Table,
)
from workers.report.plots.curves import build_curves, plot_curves, plot_parts
from workers.report.plots.losses import plot_losses
from workers.report.plots.moving_weights import plot_moving_weights
from workers.report.results.pairs import explain_not_compared
from workers.report.sections.headline import VERDICT_TONES, main_comparison
from workers.report.wording import (
    MISSING,
    PART_TITLES,
    PRIMARY_PART,
    format_gain,
    format_interval,
    format_optional,
    format_percent,
    format_points,
    format_verdict,
    method_title,
    safe_url,
    schedule_title,
    seeds_title,
    student_title,
    teacher_title,
)

_MAX_ROWS = 60
_MAX_RUNS = 200


def answer_section(inputs: ReportInputs, report: Report) -> Section:
    """Build the section with the main table and the gain by part."""
    return Section("answer", "Did it help?", tuple(_answer_blocks(inputs, report)))


def curves_section(inputs: ReportInputs, report: Report) -> Section:
    """Build the section with mAP over epochs."""
    curves = build_curves(inputs.runs, best=report.best_trial, tied=report.tied_with_best)
    if not curves:
        block: Block = Placeholder("No run has been evaluated yet.")
    else:
        block = plot_curves(curves, teacher_map=teacher_map(inputs))
    return Section("curves", "Learning curves", (block,))


def losses_section(inputs: ReportInputs, report: Report) -> Section:
    """Build the section with the training losses and the weights that move.

    Of a sweep those of its best trial.
    """
    runs = [run for run in inputs.runs if run.trial in (None, report.best_trial)]
    block = plot_losses(runs) or Placeholder("No run has reported its losses.")
    weights = plot_moving_weights(runs)
    return Section("losses", "Losses", (block,) if weights is None else (block, weights))


def runs_section(inputs: ReportInputs, report: Report) -> Section:
    """Build the table of all runs, with the reason why a run was not compared."""
    columns = tuple(
        Column(title, is_number)
        for title, is_number in (
            ("run", False),
            ("id", False),
            ("role", False),
            ("trial", True),
            ("seed", True),
            ("best mAP", True),
            ("at epoch", True),
            ("end", False),
            ("compared", False),
        )
        if title != "trial" or inputs.sweep is not None
    )
    visible_runs = inputs.runs[:_MAX_RUNS]
    rows = tuple(Row(tuple(_run_cells(run, inputs, report))) for run in visible_runs)
    blocks: tuple[Block, ...] = (Table(columns, rows),)
    if (num_hidden := len(inputs.runs) - len(visible_runs)) > 0:
        blocks += (Paragraph(f"{num_hidden} more runs are available in the API."),)
    return Section("runs", "The runs", blocks)


def reading_section(report: Report) -> Section:
    """Build the section that explains intervals and the noise floor."""
    noise = report.noise
    floor = (
        "The noise floor is unknown: it takes runs that differ in their seed alone."
        if noise is None
        else f"The noise floor is {format_points(noise.floor)} mAP: two runs that differ only in "
        f"their seed differ by more in 5 % of cases. It is measured from {noise.runs} runs; the "
        f"standard deviation of one run is {format_points(noise.deviation)} mAP."
    )
    paragraphs = (
        "mAP is COCO's AP over IoU 0.50 to 0.95, in points from 0 to 100; the API and MLflow have "
        "it from 0 to 1. A gain is the run minus its baseline: the same student, seed and batches "
        "without a teacher. A dash stands for a value that does not exist.",
        "An interval holds the true difference in 95 % of cases. Where it crosses 0, the verdict "
        "is that one cannot tell. One pair of runs without a noise floor gives no verdict: its "
        "interval is of these two models on other images, and another seed may gain less or more.",
        floor,
    )
    return Section("reading", "How to read this", tuple(map(Paragraph, paragraphs)))


def teacher_map(inputs: ReportInputs) -> float | None:
    """mAP of the teacher, as measured by the first run that has it."""
    return next(
        (run.teacher[PRIMARY_PART] for run in inputs.runs if PRIMARY_PART in run.teacher), None
    )


def interval_span(comparison: Comparison, comparisons: Sequence[Comparison]) -> Span:
    """Interval of a comparison on the scale shared by all of them."""
    edges = [0.0]
    for other in comparisons:
        difference = other.parts[PRIMARY_PART]
        values = (difference.low, difference.high, difference.difference)
        edges += [edge for edge in values if edge is not None]
    margin = max(0.08 * (max(edges) - min(edges)), 1e-4)
    difference = comparison.parts[PRIMARY_PART]
    scale = (min(edges) - margin, max(edges) + margin)
    return Span(difference.difference, difference.low, difference.high, scale)


def _answer_blocks(inputs: ReportInputs, report: Report) -> Iterator[Block]:
    main = main_comparison(report)
    if main is None:
        yield Placeholder(
            "A comparison needs a distilled run and its baseline, both finished; the table of runs "
            "below shows their state."
        )
        return
    ordered = sorted(report.comparisons, key=lambda comparison: comparison is not main)
    yield _published_table(ordered[:_MAX_ROWS], inputs)
    if len(main.gains) > 1:
        yield _seeds_table(main)
    yield _parts_table(main)
    yield plot_parts(main)


def _published_table(comparisons: Sequence[Comparison], inputs: ReportInputs) -> Table:
    """The main table as in papers; values that all rows share are in the heading or left out."""
    runs = {run.id: run for run in inputs.runs}
    methods = {method_title(runs[comparison.runs[0]].spec) for comparison in comparisons}
    is_one_method = len(methods) == 1
    method = min(methods) if is_one_method else "the method"
    columns = (
        Column("trial", is_number=True),
        Column("teacher (mAP)"),
        Column("student"),
        Column("schedule"),
        Column("method"),
        Column("seeds", is_number=True),
        Column("baseline", is_number=True),
        Column(f"with {method}", is_number=True),
        Column("gain", is_number=True),
        Column("95 % interval"),
        Column("gap closed", is_number=True),
        Column("verdict"),
    )
    hidden_columns = {
        "trial": all(comparison.trial is None for comparison in comparisons),
        "method": is_one_method,
        "seeds": all(len(comparison.runs) == 1 for comparison in comparisons),
    }
    visible_indices = [
        column_index
        for column_index, column in enumerate(columns)
        if not hidden_columns.get(column.title)
    ]
    rows = []
    for index, comparison in enumerate(comparisons):
        cells = list(_published_cells(comparison, runs[comparison.runs[0]], comparisons))
        is_main = index == 0 and len(comparisons) > 1
        rows.append(
            Row(tuple(cells[column_index] for column_index in visible_indices), is_marked=is_main)
        )
    return Table(tuple(columns[column_index] for column_index in visible_indices), tuple(rows))


def _published_cells(
    comparison: Comparison, run: ReportRun, comparisons: Sequence[Comparison]
) -> Iterator[Cell]:
    difference = comparison.parts[PRIMARY_PART]
    tone = VERDICT_TONES[comparison.verdict]
    closed = comparison.gap_closed
    teacher = (
        "" if comparison.teacher_map is None else f" ({format_points(comparison.teacher_map)})"
    )
    yield Cell(format_optional(comparison.trial))
    yield Cell(f"{teacher_title(run.spec)}{teacher}")
    yield Cell(student_title(run.spec))
    yield Cell(schedule_title(run.spec))
    yield Cell(method_title(run.spec))
    yield Cell(str(len(comparison.runs)))
    yield Cell(format_points(difference.baseline))
    yield Cell(format_points(difference.run))
    yield Cell(format_gain(difference.difference), tone=tone)
    yield Cell(format_interval(difference), span=interval_span(comparison, comparisons), tone=tone)
    yield Cell(MISSING if closed is None else format_percent(closed))
    yield Cell(format_verdict(comparison), tone=tone)


def _seeds_table(main: Comparison) -> Table:
    """The gain of each pair, from which the spread over seeds is computed."""
    columns = tuple(
        Column(title, is_number=True) for title in ("seed", "baseline", "distilled", "gain")
    )
    rows = tuple(
        Row(
            (
                Cell(str(pair.seed)),
                Cell(format_points(pair.baseline_map)),
                Cell(format_points(pair.run_map)),
                Cell(format_gain(pair.gain)),
            )
        )
        for pair in main.gains
    )
    return Table(columns, rows, title="mAP by seed")


def _parts_table(main: Comparison) -> Table:
    columns = (
        Column("part" if main.trial is None else f"trial {main.trial}, {seeds_title(main)}"),
        Column("baseline", is_number=True),
        Column("distilled", is_number=True),
        Column("gain", is_number=True),
        Column("95 % interval", is_number=True),
    )
    rows = []
    for name in MAP_PARTS:
        if (part := main.parts.get(name)) is not None:
            cells = (
                PART_TITLES[name],
                format_points(part.baseline),
                format_points(part.run),
                format_gain(part.difference),
                format_interval(part, may_wrap=True),
            )
            rows.append(Row(tuple(map(Cell, cells)), is_marked=name == PRIMARY_PART))
    return Table(columns, tuple(rows), title="AP by part")


def _run_cells(run: ReportRun, inputs: ReportInputs, report: Report) -> Iterator[Cell]:
    yield Cell(run.name or run.id, href=safe_url(run.mlflow_url))
    yield Cell(run.id)
    yield Cell(run.spec.control or run.role)
    if inputs.sweep is not None:
        yield Cell(format_optional(run.trial))
    yield Cell(str(run.spec.seed))
    yield Cell(format_points(run.best_map))
    yield Cell(format_optional(run.best_epoch))
    yield Cell(_end_of(run), tone="faint" if run.result not in (None, "finished") else None)
    yield Cell(_describe_comparison(run, inputs, report), tone="faint")


def _end_of(run: ReportRun) -> str:
    """How a run ended; runs that belong to no trial have no result in the log."""
    return format_optional(run.result or run.execution.state)


def _describe_comparison(run: ReportRun, inputs: ReportInputs, report: Report) -> str:
    if any(run.id in comparison.runs for comparison in report.comparisons):
        return "yes"
    if any(run.id in comparison.baselines for comparison in report.comparisons):
        return "as a baseline"
    return f"no: {explain_not_compared(run, inputs)}"
