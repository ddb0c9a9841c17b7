"""Assembles the content of a report: the answer first, then the evidence and details."""

from collections.abc import Iterator

from configs.protocol.report import Report, ReportInputs
from configs.spec.dataset import DatasetManifest
from workers.report.blocks import Fact, Link, ReportContent, Section
from workers.report.plots.images import Photos
from workers.report.results.trials import build_report_trials
from workers.report.sections.commands import commands_section
from workers.report.sections.configuration import configuration_section
from workers.report.sections.controls import controls_section
from workers.report.sections.copied_errors import copied_errors_section
from workers.report.sections.execution import execution_section
from workers.report.sections.headline import build_headline, main_comparison
from workers.report.sections.runs import (
    answer_section,
    curves_section,
    losses_section,
    reading_section,
    runs_section,
    teacher_map,
)
from workers.report.sections.samples import samples_section
from workers.report.sections.sweep import closing_reason, sweep_sections
from workers.report.sections.transfer import transfer_section
from workers.report.wording import (
    PRIMARY_PART,
    format_count,
    format_gain,
    format_interval,
    format_points,
    safe_url,
)


def build_content(
    inputs: ReportInputs, report: Report, *, photos: Photos, dataset: DatasetManifest
) -> ReportContent:
    """Build the content of the page and the Markdown."""
    return ReportContent(
        title=report.title,
        at=inputs.at,
        subject=_subject(inputs, dataset.name),
        headline=build_headline(inputs, report),
        facts=tuple(_facts(inputs, report)),
        links=tuple(_links(inputs)),
        sections=tuple(_sections(inputs, report, photos, dataset)),
    )


def _sections(
    inputs: ReportInputs, report: Report, photos: Photos, dataset: DatasetManifest
) -> Iterator[Section]:
    yield answer_section(inputs, report)
    if inputs.sweep is not None:
        yield from sweep_sections(inputs, report)
    if (controls := controls_section(report)) is not None:
        yield controls
    yield curves_section(inputs, report)
    yield losses_section(inputs, report)
    yield samples_section(inputs, report, photos)
    yield transfer_section(inputs, report, photos)
    yield copied_errors_section(report, photos)
    yield configuration_section(inputs, report, dataset)
    yield execution_section(inputs)
    yield runs_section(inputs, report)
    yield commands_section(inputs, report)
    yield reading_section(report)


def _subject(inputs: ReportInputs, dataset: str) -> str:
    runs = format_count(len(inputs.runs), "run")
    if inputs.sweep is None:
        return f"{runs} on {dataset}"
    trials = format_count(len(build_report_trials(inputs)), "trial")
    reason = closing_reason(inputs)
    end = "the search is running" if reason is None else reason.rstrip(".")
    return f"Sweep {inputs.sweep_id}: {trials} in {runs} on {dataset}; {end}"


def _facts(inputs: ReportInputs, report: Report) -> Iterator[Fact]:
    main = main_comparison(report)
    if main is not None:
        difference = main.parts[PRIMARY_PART]
        trial = "" if main.trial is None else f", trial {main.trial}"
        yield Fact("baseline", format_points(difference.baseline), "mAP")
        yield Fact("with distillation", format_points(difference.run), f"mAP{trial}")
        yield Fact("gain", format_gain(difference.difference), f"mAP {format_interval(difference)}")
    teacher = main.teacher_map if main is not None else teacher_map(inputs)
    if teacher is not None:
        yield Fact("teacher", format_points(teacher), "mAP")
    if report.noise is not None:
        yield Fact("noise floor", format_points(report.noise.floor), "mAP, by the seed alone")
    if report.epochs_saved:
        yield Fact("epochs saved", str(report.epochs_saved), f"{report.epochs_trained} trained")


def _links(inputs: ReportInputs) -> Iterator[Link]:
    """Pages for people; the API's answers are no pages."""
    service, mlflow = safe_url(inputs.service_url), safe_url(inputs.mlflow_url)
    if mlflow is not None:
        yield Link(f"The {'runs' if inputs.sweep is None else 'trials'} in MLflow", mlflow)
    if service is not None:
        yield Link("API docs", f"{service}/docs")
