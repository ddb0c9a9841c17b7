"""What the runs of a published table measured, beside what was published."""

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from rich.markup import escape

from configs.conclusions import RECOMMENDED_SEEDS, format_points
from configs.tables.published import PublishedRow
from configs.tables.scaling import FULL_SCALE
from service.api.schemas.run_lists import RunQuery
from service.cli import console
from service.cli.reproduction.launches import TAG, Reproduction

if TYPE_CHECKING:
    from service.api.schemas.run_details import ComparisonView, RunDetails
    from service.client import TandemClient

_FULL_SCALE_NOTE = (
    "A published number is of a single run, whose own variation over seeds is unknown and not in "
    "the intervals."
)
_SMALLER_SCALE_NOTE = (
    "At scale {scale}, students see that share of the training images, and warm-up and decays are "
    "as much shorter. Such runs can show whether distillation helps in a training of this length, "
    "and which rows gain more than the noise between seeds. They cannot confirm a published mAP, "
    "nor the size of its gain: distillation speeds up early training, so the gain of a short "
    "training is often larger than what remains at the end of a long one."
)


@dataclass(frozen=True)
class RowResult:
    """A published row, and the newest run that repeats it."""

    name: str
    published: PublishedRow
    run: "RunDetails | None"

    @property
    def comparison(self) -> "ComparisonView | None":
        """With its baseline, over all seeds. None until a report has compared them."""
        return None if self.run is None else self.run.comparison


def show_report(client: "TandemClient", reproduction: Reproduction) -> None:
    """Print a table of published and measured mAP, and a sentence for each row."""
    results = [
        RowResult(name, row, _find_run(client, reproduction.tag_row(name)))
        for name, row in reproduction.rows.items()
    ]
    out = console.output()
    table = console.create_table(
        "row", "", "alone", "distilled", "gain", numbers=("alone", "distilled", "gain")
    )
    for result in results:
        for cells in _list_rows(result):
            table.add_row(*cells)
    out.print(table)
    is_full = reproduction.scale == FULL_SCALE
    for result in results:
        out.print(f"{result.name}: {conclude_row(result, is_full=is_full)}")
    out.print(_FULL_SCALE_NOTE if is_full else _SMALLER_SCALE_NOTE.format(scale=reproduction.scale))


def conclude_row(result: RowResult, *, is_full: bool) -> str:
    """What the runs of a row say about its published gain; without numbers, why there are none."""
    run, comparison = result.run, result.comparison
    if run is None:
        return "not launched."
    if comparison is None:
        return f"no comparison yet; {run.id} is {run.state}."
    if comparison.low is None or comparison.high is None:
        return (
            f"one pair has no interval; `tandem repeat {run.id} --seeds {RECOMMENDED_SEEDS}` "
            "trains more."
        )
    if not is_full:
        return escape(comparison.conclusion)
    published = result.published.gain
    bounds = [format_points(bound - published) for bound in (comparison.low, comparison.high)]
    difference = format_points(comparison.difference - published)
    return (
        rf"measured minus published gain is {difference} mAP \[{', '.join(bounds)}]: "
        f"{_judge_gain(published, comparison.low, comparison.high)}."
    )


def _judge_gain(published: float, low: float, high: float) -> str:
    if published < low:
        return "the gain is larger than published"
    if published > high:
        return "the gain is smaller than published"
    return "the published gain is within the interval"


def _find_run(client: "TandemClient", tag: str) -> "RunDetails | None":
    """The newest distilled run with the tag, if possible one with a verdict."""
    page = client.runs(RunQuery(tag=f"{TAG}={tag}", task=("train",), limit=200))
    distilled = [run for run in page.items if run.baseline_run_id is not None]
    ranked = sorted(distilled, key=lambda run: run.verdict is None)
    return client.run_details(ranked[0].id) if ranked else None


def _list_rows(result: RowResult) -> list[tuple[str, ...]]:
    published = result.published
    scores = (published.baseline_map, published.distilled_map)
    rows = [
        (
            result.name,
            "published",
            *(console.format_score(score) for score in scores),
            format_points(published.gain),
        )
    ]
    comparison, run = result.comparison, result.run
    if comparison is None or run is None:
        return rows
    distilled = (
        fmean(pair.run_map for pair in comparison.gains) if comparison.gains else run.best_map
    )
    baseline_map = None if distilled is None else distilled - comparison.difference
    rows.append(
        (
            "",
            run.id,
            console.format_score(baseline_map),
            console.format_score(distilled),
            _format_gain(comparison),
        )
    )
    return rows


def _format_gain(comparison: "ComparisonView") -> str:
    gain = format_points(comparison.difference)
    if comparison.low is None or comparison.high is None:
        return gain
    bounds = [format_points(bound) for bound in (comparison.low, comparison.high)]
    return rf"{gain} \[{', '.join(bounds)}]"
