"""A whole report, in order: the answer first, then why, then everything else."""

from collections.abc import Iterator

from configs.protocol.report import Report, ReportInputs
from workers.report.blocks import Fact, Link, ReportContent, Section
from workers.report.plots.images import Photos
from workers.report.results.trials import build_report_trials
from workers.report.sections.headline import build_headline, main_comparison
from workers.report.sections.runs import (
    answer_section,
    curves_section,
    reading_section,
    runs_section,
    teacher_map,
)
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
    dossier: ReportInputs, report: Report, *, photos: Photos, dataset: str
) -> ReportContent:
    """Everything that page and Markdown show; `dataset` is its name."""
    return ReportContent(
        title=report.title,
        at=dossier.at,
        subject=_subject(dossier, dataset),
        headline=build_headline(dossier, report),
        facts=tuple(_facts(dossier, report)),
        links=tuple(_links(dossier)),
        sections=tuple(_sections(dossier, report, photos)),
    )


def _sections(dossier: ReportInputs, report: Report, photos: Photos) -> Iterator[Section]:
    yield answer_section(dossier, report)
    if dossier.sweep is not None:
        yield from sweep_sections(dossier, report)
    yield curves_section(dossier, report)
    yield transfer_section(dossier, report, photos)
    yield runs_section(dossier, report)
    yield reading_section(report)


def _subject(dossier: ReportInputs, dataset: str) -> str:
    runs = format_count(len(dossier.runs), "run")
    if dossier.sweep is None:
        return f"{runs} on {dataset}"
    trials = format_count(len(build_report_trials(dossier)), "trial")
    why = closing_reason(dossier)
    end = "the search goes on" if why is None else why.rstrip(".")
    return f"Sweep {dossier.sweep_id}: {trials} in {runs} on {dataset}; {end}"


def _facts(dossier: ReportInputs, report: Report) -> Iterator[Fact]:
    main = main_comparison(report)
    if main is not None:
        difference = main.parts[PRIMARY_PART]
        trial = "" if main.trial is None else f"trial {main.trial}"
        yield Fact("student alone", format_points(difference.baseline), "mAP")
        yield Fact("with distillation", format_points(difference.run), trial or "mAP")
        yield Fact("gain", format_gain(difference.difference), format_interval(difference))
    teacher = main.teacher_map if main is not None else teacher_map(dossier)
    if teacher is not None:
        yield Fact("teacher", format_points(teacher), "mAP")
    if report.noise is not None:
        yield Fact("noise floor", format_points(report.noise.floor), "by the seed alone")
    if report.epochs_saved:
        yield Fact("epochs saved", str(report.epochs_saved), f"{report.epochs_trained} trained")


def _links(dossier: ReportInputs) -> Iterator[Link]:
    service, mlflow = safe_url(dossier.service_url), safe_url(dossier.mlflow_url)
    if service is not None and dossier.sweep_id is not None:
        yield Link("The sweep in the API", f"{service}/v1/sweeps/{dossier.sweep_id}")
    elif service is not None:
        for run in dossier.runs:
            if run.role == "distilled":
                yield Link(f"{run.name} in the API", f"{service}/v1/runs/{run.id}")
    if mlflow is not None:
        yield Link("MLflow", mlflow)
