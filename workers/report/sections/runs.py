"""The sections that every report has: the answer, the learning curves, the runs."""

from collections.abc import Iterator, Sequence

from configs.protocol.report import MAP_PARTS, Comparison, Report, ReportInputs, ReportRun
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
from workers.report.results.pairs import explain_not_compared
from workers.report.sections.headline import VERDICT_TONES, main_comparison
from workers.report.wording import (
    PART_TITLES,
    PRIMARY_PART,
    format_gain,
    format_interval,
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

_MOST_ROWS = 60
_MOST_RUNS = 200


def answer_section(dossier: ReportInputs, report: Report) -> Section:
    """The published table, and the gain part by part."""
    return Section("answer", "Did it help?", tuple(_answer_blocks(dossier, report)))


def curves_section(dossier: ReportInputs, report: Report) -> Section:
    """mAP over epochs."""
    curves = build_curves(dossier.runs, best=report.best_trial, tied=report.tied_with_best)
    if not curves:
        block: Block = Placeholder("No run has been evaluated yet.")
    else:
        block = plot_curves(curves, teacher_map=teacher_map(dossier))
    return Section("curves", "Learning curves", (block,))


def runs_section(dossier: ReportInputs, report: Report) -> Section:
    """Every run of the report, also those that were not compared, and why."""
    columns = tuple(
        Column(title, is_number)
        for title, is_number in (
            ("run", False),
            ("role", False),
            ("trial", True),
            ("seed", True),
            ("best mAP", True),
            ("at epoch", True),
            ("end", False),
            ("interval", False),
        )
    )
    shown = dossier.runs[:_MOST_RUNS]
    rows = tuple(Row(tuple(_run_cells(run, dossier, report))) for run in shown)
    blocks: tuple[Block, ...] = (Table(columns, rows),)
    if (left := len(dossier.runs) - len(shown)) > 0:
        blocks += (Paragraph(f"{left} more runs are to be found over the API."),)
    return Section("runs", "The runs", blocks)


def reading_section(report: Report) -> Section:
    """What intervals and the noise floor mean."""
    noise = report.noise
    floor = (
        "The noise floor is unknown: it takes runs that differ in their seed alone."
        if noise is None
        else f"The noise floor is {format_points(noise.floor)} mAP: two runs that differ in their seed "
        f"alone are further apart in 5 % of cases. It is known from {noise.runs} runs; one run "
        f"scatters by {format_points(noise.deviation)} (standard deviation)."
    )
    words = (
        "mAP is COCO's AP over IoU 0.50 to 0.95, in points of 100. A gain is a run less its twin: "
        "the same student, seed and batches without a teacher.",
        "An interval holds the true difference in 95 % of cases. Where it crosses 0, the verdict "
        "is that one cannot tell. One pair of runs without a noise floor gives no verdict: its "
        "interval is of these two models on other images, and another seed may gain less or more.",
        floor,
    )
    return Section("reading", "How to read this", tuple(map(Paragraph, words)))


def teacher_map(dossier: ReportInputs) -> float | None:
    """The teacher's mAP, as the first run that it teaches has measured it."""
    return next(
        (run.teacher[PRIMARY_PART] for run in dossier.runs if PRIMARY_PART in run.teacher), None
    )


def interval_span(comparison: Comparison, all_: Sequence[Comparison]) -> Span:
    """A comparison's interval on the scale that all of them share."""
    edges = [0.0]
    for other in all_:
        difference = other.parts[PRIMARY_PART]
        known = (difference.low, difference.high, difference.difference)
        edges += [edge for edge in known if edge is not None]
    margin = max(0.08 * (max(edges) - min(edges)), 1e-4)
    difference = comparison.parts[PRIMARY_PART]
    scale = (min(edges) - margin, max(edges) + margin)
    return Span(difference.difference, difference.low, difference.high, scale)


def _answer_blocks(dossier: ReportInputs, report: Report) -> Iterator[Block]:
    main = main_comparison(report)
    if main is None:
        yield Placeholder(
            "A comparison needs a distilled run and its twin without a teacher, both trained to "
            "the end; the table of runs below shows what there is."
        )
        return
    ordered = sorted(report.comparisons, key=lambda comparison: comparison is not main)
    yield _published_table(ordered[:_MOST_ROWS], dossier)
    if len(main.gains) > 1:
        yield _seeds_table(main)
    yield _parts_table(main)
    yield plot_parts(main)


def _published_table(comparisons: Sequence[Comparison], dossier: ReportInputs) -> Table:
    """As papers print it; what is the same in every row is said in the heading or left out."""
    runs = {run.id: run for run in dossier.runs}
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
        Column("alone", is_number=True),
        Column(f"with {method}", is_number=True),
        Column("gain", is_number=True),
        Column("95 % interval"),
        Column("lead closed", is_number=True),
        Column("verdict"),
    )
    left_out = {
        "trial": all(comparison.trial is None for comparison in comparisons),
        "method": is_one_method,
        "seeds": all(len(comparison.runs) == 1 for comparison in comparisons),
    }
    kept = [place for place, column in enumerate(columns) if not left_out.get(column.title)]
    rows = []
    for index, comparison in enumerate(comparisons):
        cells = list(_published_cells(comparison, runs[comparison.runs[0]], comparisons))
        is_main = index == 0 and len(comparisons) > 1
        rows.append(Row(tuple(cells[place] for place in kept), is_marked=is_main))
    return Table(tuple(columns[place] for place in kept), tuple(rows))


def _published_cells(
    comparison: Comparison, run: ReportRun, all_: Sequence[Comparison]
) -> Iterator[Cell]:
    difference = comparison.parts[PRIMARY_PART]
    tone = VERDICT_TONES[comparison.verdict]
    closed = comparison.gap_closed if comparison.verdict == "helps" else None
    teacher = (
        "" if comparison.teacher_map is None else f" ({format_points(comparison.teacher_map)})"
    )
    yield Cell("" if comparison.trial is None else str(comparison.trial))
    yield Cell(f"{teacher_title(run.spec)}{teacher}")
    yield Cell(student_title(run.spec))
    yield Cell(schedule_title(run.spec))
    yield Cell(method_title(run.spec))
    yield Cell(str(len(comparison.runs)))
    yield Cell(format_points(difference.baseline))
    yield Cell(format_points(difference.run))
    yield Cell(format_gain(difference.difference), tone=tone)
    yield Cell(format_interval(difference), span=interval_span(comparison, all_), tone=tone)
    yield Cell("" if closed is None else format_percent(closed))
    yield Cell(format_verdict(comparison), tone=tone)


def _seeds_table(main: Comparison) -> Table:
    """The gain of each pair by itself; they are what the spread over seeds is known from."""
    columns = tuple(
        Column(title, is_number=True) for title in ("seed", "alone", "distilled", "gain")
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
    return Table(columns, rows)


def _parts_table(main: Comparison) -> Table:
    columns = (
        Column("part" if main.trial is None else f"trial {main.trial}, {seeds_title(main)}"),
        Column("alone", is_number=True),
        Column("distilled", is_number=True),
        Column("gain", is_number=True),
        Column("95 % interval", is_number=True),
    )
    rows = []
    for name in MAP_PARTS:
        if (part := main.parts.get(name)) is not None:
            texts = (
                PART_TITLES[name],
                format_points(part.baseline),
                format_points(part.run),
                format_gain(part.difference),
                format_interval(part),
            )
            rows.append(Row(tuple(map(Cell, texts)), is_marked=name == PRIMARY_PART))
    return Table(columns, tuple(rows))


def _run_cells(run: ReportRun, dossier: ReportInputs, report: Report) -> Iterator[Cell]:
    service = safe_url(dossier.service_url)
    yield Cell(run.name or run.id, href=f"{service}/v1/runs/{run.id}" if service else None)
    yield Cell("student alone" if run.role == "baseline" else "distilled")
    yield Cell("" if run.trial is None else str(run.trial))
    yield Cell(str(run.spec.seed))
    yield Cell("" if run.best_map is None else format_points(run.best_map))
    yield Cell("" if run.best_epoch is None else str(run.best_epoch))
    yield Cell(run.result or "", tone="faint" if run.result != "finished" else None)
    yield Cell(_interval_of(run, dossier, report), tone="faint")


def _interval_of(run: ReportRun, dossier: ReportInputs, report: Report) -> str:
    if any(run.id in comparison.runs for comparison in report.comparisons):
        return "has one"
    if any(run.id in comparison.baselines for comparison in report.comparisons):
        return "is compared with"
    return f"none: {explain_not_compared(run, dossier)}"
