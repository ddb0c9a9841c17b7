"""A whole report, in order: the answer first, then why, then everything else."""

from collections.abc import Iterator

from configs.protocol.report import Dossier, Report
from workers.report.blocks import Content, Fact, Link, Section
from workers.report.plots.images import Photos
from workers.report.results.trials import trials_of
from workers.report.sections.headline import headline_of, main_comparison
from workers.report.sections.runs import (
    answer_section,
    curves_section,
    reading_section,
    runs_section,
    teacher_map,
)
from workers.report.sections.sweep import sweep_sections, why_closed
from workers.report.sections.transfer import transfer_section
from workers.report.wording import (
    DECIDING,
    counted,
    gain,
    interval,
    points,
    safe_url,
)


def content_of(dossier: Dossier, report: Report, *, photos: Photos, dataset: str) -> Content:
    """Everything that page and Markdown show; `dataset` is its name."""
    return Content(
        title=report.title,
        at=dossier.at,
        subject=_subject(dossier, dataset),
        headline=headline_of(dossier, report),
        facts=tuple(_facts(dossier, report)),
        links=tuple(_links(dossier)),
        sections=tuple(_sections(dossier, report, photos)),
    )


def _sections(dossier: Dossier, report: Report, photos: Photos) -> Iterator[Section]:
    yield answer_section(dossier, report)
    if dossier.sweep is not None:
        yield from sweep_sections(dossier, report)
    yield curves_section(dossier, report)
    yield transfer_section(dossier, report, photos)
    yield runs_section(dossier, report)
    yield reading_section(report)


def _subject(dossier: Dossier, dataset: str) -> str:
    runs = counted(len(dossier.runs), "run")
    if dossier.sweep is None:
        return f"{runs} on {dataset}"
    trials = counted(len(trials_of(dossier)), "trial")
    why = why_closed(dossier)
    end = "the search goes on" if why is None else why.rstrip(".")
    return f"Sweep {dossier.sweep_id}: {trials} in {runs} on {dataset}; {end}"


def _facts(dossier: Dossier, report: Report) -> Iterator[Fact]:
    main = main_comparison(report)
    if main is not None:
        difference = main.parts[DECIDING]
        trial = "" if main.trial is None else f"trial {main.trial}"
        yield Fact("student alone", points(difference.baseline), "mAP")
        yield Fact("with distillation", points(difference.run), trial or "mAP")
        yield Fact("gain", gain(difference.difference), interval(difference))
    teacher = main.teacher_map if main is not None else teacher_map(dossier)
    if teacher is not None:
        yield Fact("teacher", points(teacher), "mAP")
    if report.noise is not None:
        yield Fact("noise floor", points(report.noise.floor), "by the seed alone")
    if report.epochs_saved:
        yield Fact("epochs saved", str(report.epochs_saved), f"{report.epochs_trained} trained")


def _links(dossier: Dossier) -> Iterator[Link]:
    service, mlflow = safe_url(dossier.service_url), safe_url(dossier.mlflow_url)
    if service is not None and dossier.sweep_id is not None:
        yield Link("The sweep in the API", f"{service}/v1/sweeps/{dossier.sweep_id}")
    elif service is not None:
        for run in dossier.runs:
            if run.role == "distilled":
                yield Link(f"{run.name} in the API", f"{service}/v1/runs/{run.id}")
    if mlflow is not None:
        yield Link("MLflow", mlflow)
