"""A report, on one page: dossier and runs' files -> numbers -> page, Markdown, JSON."""

import logging
import shutil
from pathlib import Path

import torch

from configs.protocol.names import ExitCode, RunFile
from configs.protocol.report import Dossier, Report
from configs.spec.dataset import DatasetManifest
from configs.spec.jobs import ReportSpec
from workers.attempt.lifecycle import Desk, attempt
from workers.data.manifest import check_dataset
from workers.errors import InvalidSpec
from workers.machine.environment import whereabouts
from workers.report.blocks import Content
from workers.report.plots.images import Photos, photos_of
from workers.report.render.html import page_of
from workers.report.render.markdown import markdown_of
from workers.report.results.report import report_of
from workers.report.sections.document import content_of
from workers.telemetry.heartbeat import STALL_AFTER_S
from workers.telemetry.identity import Identity

_STEPS = 3
"""Numbers, images, pages."""

log = logging.getLogger(__name__)


def report(
    spec: ReportSpec, *, identity: Identity, run_dir: Path, stall_after_s: float = STALL_AFTER_S
) -> ExitCode:
    """Write the pages of a run or of a sweep; every end is reported, none is raised."""
    return attempt(
        spec,
        lambda desk: _report(spec, desk),
        identity=identity,
        run_dir=run_dir,
        stall_after_s=stall_after_s,
    )


def _report(spec: ReportSpec, desk: Desk) -> None:
    dossier = _dossier_of(spec)
    manifest = _say_started(dossier, desk)
    desk.progress(done=0, total=_STEPS)
    found = report_of(dossier, on_step=desk.leave_if_unwanted)
    desk.progress(done=1, total=_STEPS)
    photos = _photos(found, dossier, manifest, desk)
    desk.progress(done=2, total=_STEPS)
    content = content_of(dossier, found, photos=photos, dataset=manifest.name)
    _write(content, found, desk)
    log.info("%s", content.headline.sentence)


def _dossier_of(spec: ReportSpec) -> Dossier:
    if spec.dossier is None:
        raise InvalidSpec("dossier is missing: the service fills it in when the job starts.")
    return spec.dossier


def _say_started(dossier: Dossier, desk: Desk) -> DatasetManifest:
    manifest = check_dataset(Path(dossier.dataset.root), digest=dossier.dataset.digest)
    desk.reporter.started(
        whereabouts(torch.device("cpu")),
        resumed_from_epoch=0,
        teacher_sha256=None,
        dataset=manifest,
    )
    desk.reporter.artifact(RunFile.SPEC)
    return manifest


def _photos(found: Report, dossier: Dossier, manifest: DatasetManifest, desk: Desk) -> Photos:
    if found.transfer is None:
        return Photos((), ())
    folder = Path(dossier.dataset.root) / manifest.val.images
    return photos_of(found.transfer.images, folder=folder, on_step=desk.leave_if_unwanted)


def _write(content: Content, found: Report, desk: Desk) -> None:
    folder = desk.run_dir / RunFile.REPORT
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier attempt left
    folder.mkdir(parents=True)
    markdown = markdown_of(content)
    for name, data in markdown.files.items():
        (folder / name).write_bytes(data)
        desk.reporter.artifact(f"{RunFile.REPORT}/{name}")
    desk.write(RunFile.REPORT_MARKDOWN, markdown.text)
    desk.write(RunFile.REPORT_PAGE, page_of(content))
    desk.write(RunFile.REPORT_JSON, found.model_dump_json(indent=2) + "\n")
    desk.progress(done=_STEPS, total=_STEPS, is_last=True)
