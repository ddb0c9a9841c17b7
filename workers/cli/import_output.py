"""What the imports of `tandem-worker data` print about problems and changes."""

from pathlib import Path

from rich.console import Console

from workers.data.import_report import ImportReport, group_problems
from workers.data.importer import DatasetImportResult

_NUM_EXAMPLES = 3


def describe_refusal(report: ImportReport) -> str:
    """Why nothing was written, and what each option would do about it."""
    first = "Nothing was written. Fix what is listed above"
    if report.is_empty:
        first = "Nothing was written: without what is listed above, train or val would be empty"
    return " ".join((f"{first}, or:", *report.choices)) if report.choices else f"{first}."


def print_problems(output: Console, report: ImportReport, *, file: Path | None) -> None:
    """Print the first problems of each cause, with their number; `file` has all of them."""
    for group in group_problems(report.problems):
        count = len(group.problems)
        output.print(f"{count:,} {group.code}: {group.cause}", markup=False, soft_wrap=True)
        for problem in group.problems[:_NUM_EXAMPLES]:
            output.print(f"  {problem}", markup=False, soft_wrap=True)
        if count > _NUM_EXAMPLES:
            more = f"  and {count - _NUM_EXAMPLES:,} more; "
            more += "--report FILE lists all" if file is None else f"{file} lists all"
            output.print(more, markup=False, soft_wrap=True)


def print_changes(output: Console, result: DatasetImportResult) -> None:
    """Print what the import has changed in the data."""
    report = result.report
    for name, split in report.splits.items():
        num_images = split.listed_images - split.images
        num_boxes = split.listed_boxes - split.boxes
        if num_images or num_boxes:
            output.print(f"Dropped from {name}: {num_images:,} images, {num_boxes:,} boxes.")
        if split.emptied_images:
            output.print(
                f"Without a box in {name}: {split.emptied_images:,} images that had some; they "
                "count as background."
            )
        if split.clippable_boxes and "--clip" in report.options:
            output.print(f"Clipped to the image in {name}: {split.clippable_boxes:,} boxes.")
    if report.num_excluded:
        output.print(f"Left out: {report.num_excluded:,} images, as --exclude-of asks.")
    if report.num_trimmed:
        output.print(f"Trimmed to the image: {report.num_trimmed:,} boxes, by a pixel or less.")
    if result.num_linked:
        output.print(
            f"Hard-linked: {result.num_linked} images; changes of the originals affect them."
        )
    for reason, count in result.copied.items():
        output.print(
            f"Copied: {count} images, because they cannot be linked ({reason}).", markup=False
        )
