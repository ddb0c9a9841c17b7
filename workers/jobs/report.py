"""A report, on one page: dossier and runs' files -> numbers -> page, Markdown, JSON."""

import logging
import shutil
from pathlib import Path

import torch

from configs.protocol.names import ExitCode, RunFile
from configs.protocol.report import Report, ReportInputs
from configs.spec.dataset import DatasetManifest
from configs.spec.jobs import ReportSpec
from workers.attempt.lifecycle import JobContext, run_job
from workers.data.manifest import check_dataset
from workers.errors import InvalidSpec
from workers.machine.environment import get_process_info
from workers.report.blocks import ReportContent
from workers.report.plots.images import Photos, draw_photos
from workers.report.render.html import render_page
from workers.report.render.markdown import render_markdown
from workers.report.results.report import build_report
from workers.report.sections.document import build_content
from workers.telemetry.heartbeat import DEFAULT_STALL_TIMEOUT_S
from workers.telemetry.identity import AttemptIdentity

_STEPS = 3
"""Numbers, images, pages."""

log = logging.getLogger(__name__)


def report(
    spec: ReportSpec,
    *,
    identity: AttemptIdentity,
    run_dir: Path,
    stall_timeout_s: float = DEFAULT_STALL_TIMEOUT_S,
) -> ExitCode:
    """Write the pages of a run or of a sweep; every end is reported, none is raised."""
    return run_job(
        spec,
        lambda ctx: _report(spec, ctx),
        identity=identity,
        run_dir=run_dir,
        stall_timeout_s=stall_timeout_s,
    )


def _report(spec: ReportSpec, ctx: JobContext) -> None:
    dossier = _dossier_of(spec)
    manifest = _say_started(dossier, ctx)
    ctx.report_progress(done=0, total=_STEPS)
    found = build_report(dossier, on_step=ctx.raise_if_stopped)
    ctx.report_progress(done=1, total=_STEPS)
    photos = _photos(found, dossier, manifest, ctx)
    ctx.report_progress(done=2, total=_STEPS)
    content = build_content(dossier, found, photos=photos, dataset=manifest.name)
    _write(content, found, ctx)
    log.info("%s", content.headline.sentence)


def _dossier_of(spec: ReportSpec) -> ReportInputs:
    if spec.inputs is None:
        raise InvalidSpec("dossier is missing: the service fills it in when the job starts.")
    return spec.inputs


def _say_started(dossier: ReportInputs, ctx: JobContext) -> DatasetManifest:
    manifest = check_dataset(Path(dossier.dataset.root), digest=dossier.dataset.digest)
    ctx.reporter.report_start(
        get_process_info(torch.device("cpu")),
        resumed_from_epoch=0,
        teacher_sha256=None,
        dataset=manifest,
    )
    ctx.reporter.report_artifact(RunFile.SPEC)
    return manifest


def _photos(
    found: Report, dossier: ReportInputs, manifest: DatasetManifest, ctx: JobContext
) -> Photos:
    if found.transfer is None:
        return Photos((), ())
    folder = Path(dossier.dataset.root) / manifest.val.images
    return draw_photos(found.transfer.images, folder=folder, on_step=ctx.raise_if_stopped)


def _write(content: ReportContent, found: Report, ctx: JobContext) -> None:
    folder = ctx.run_dir / RunFile.REPORT
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier attempt left
    folder.mkdir(parents=True)
    markdown = render_markdown(content)
    for name, data in markdown.files.items():
        (folder / name).write_bytes(data)
        ctx.reporter.report_artifact(f"{RunFile.REPORT}/{name}")
    ctx.write_artifact(RunFile.REPORT_MARKDOWN, markdown.text)
    ctx.write_artifact(RunFile.REPORT_PAGE, render_page(content))
    ctx.write_artifact(RunFile.REPORT_JSON, found.model_dump_json(indent=2) + "\n")
    ctx.report_progress(done=_STEPS, total=_STEPS, is_last=True)
