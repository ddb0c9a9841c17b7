"""The report job: results of a run or sweep as an HTML page, Markdown and JSON."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import ValidationError

from configs.protocol.names import ExitCode, RunFile
from configs.protocol.report import Report, ReportInputs
from configs.spec.dataset import DatasetManifest
from configs.spec.jobs import ReportSpec
from workers.attempt.lifecycle import JobContext, run_job
from workers.data.manifest import check_dataset
from workers.errors import InvalidSpec
from workers.machine.environment import get_process_info
from workers.report.blocks import ReportContent
from workers.report.plots.copied_errors import draw_copied_errors
from workers.report.plots.images import Photos, draw_photos
from workers.report.plots.samples import draw_samples
from workers.report.render.html import render_page
from workers.report.render.markdown import render_markdown
from workers.report.results.report import build_report
from workers.report.sections.document import build_content
from workers.report.sections.headline import main_comparison
from workers.telemetry.heartbeat import DEFAULT_STALL_TIMEOUT_S
from workers.telemetry.identity import AttemptIdentity

_NUM_STEPS = 3
"""Steps of progress: results, images, pages."""

log = logging.getLogger(__name__)


def report(
    spec: ReportSpec,
    *,
    identity: AttemptIdentity,
    run_dir: Path,
    stall_timeout_s: float = DEFAULT_STALL_TIMEOUT_S,
) -> ExitCode:
    """Write the report of a run or sweep; errors are reported and returned as exit code.

    `run_dir` has the report's inputs, in `RunFile.REPORT_INPUTS`.
    """
    return run_job(
        spec,
        _report,
        identity=identity,
        run_dir=run_dir,
        stall_timeout_s=stall_timeout_s,
    )


def _report(ctx: JobContext) -> None:
    inputs = _read_inputs(ctx.run_dir)
    manifest = _report_start(inputs, ctx)
    ctx.report_progress(done=0, total=_NUM_STEPS)
    results = build_report(inputs, on_step=ctx.raise_if_stopped)
    ctx.report_progress(done=1, total=_NUM_STEPS)
    photos = _draw_photos(results, inputs, manifest, ctx)
    ctx.report_progress(done=2, total=_NUM_STEPS)
    content = build_content(inputs, results, photos=photos, dataset=manifest)
    _write_pages(content, results, ctx)
    log.info("%s", content.headline.sentence)


def _read_inputs(run_dir: Path) -> ReportInputs:
    file = run_dir / RunFile.REPORT_INPUTS
    try:
        return ReportInputs.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        message = f"{file} is missing: the service writes it before the job starts."
        raise InvalidSpec(message) from error
    except ValidationError as error:
        raise InvalidSpec(f"{file} is invalid: {error}") from error


def _report_start(inputs: ReportInputs, ctx: JobContext) -> DatasetManifest:
    manifest = check_dataset(Path(inputs.dataset.root), digest=inputs.dataset.digest)
    ctx.reporter.report_start(
        get_process_info(torch.device("cpu")),
        resumed_from_epoch=0,
        teacher_sha256=None,
        dataset=manifest,
    )
    for file in (RunFile.SPEC, RunFile.REPORT_INPUTS):
        ctx.reporter.report_artifact(file)
    return manifest


def _draw_photos(
    results: Report, inputs: ReportInputs, manifest: DatasetManifest, ctx: JobContext
) -> Photos:
    """Draw the images with missed objects, samples of the main pair, and copied errors."""
    folder = Path(inputs.dataset.root) / manifest.val.images
    images = () if results.transfer is None else results.transfer.images
    photos = draw_photos(images, folder=folder, on_step=ctx.raise_if_stopped)
    main = main_comparison(results)
    if main is None:
        return photos
    try:
        samples = draw_samples(main, inputs, folder=folder, on_step=ctx.raise_if_stopped)
        copied = draw_copied_errors(results, inputs, folder=folder, on_step=ctx.raise_if_stopped)
    except ValueError as error:
        log.warning("There are no sample images: %s", error)
        return photos
    return replace(photos, samples=samples, copied=copied)


def _write_pages(content: ReportContent, results: Report, ctx: JobContext) -> None:
    folder = ctx.run_dir / RunFile.REPORT
    shutil.rmtree(folder, ignore_errors=True)  # files of an earlier attempt
    folder.mkdir(parents=True)
    markdown = render_markdown(content)
    for name, data in markdown.files.items():
        (folder / name).write_bytes(data)
        ctx.reporter.report_artifact(f"{RunFile.REPORT}/{name}")
    ctx.write_artifact(RunFile.REPORT_MARKDOWN, markdown.text)
    ctx.write_artifact(RunFile.REPORT_PAGE, render_page(content))
    ctx.write_artifact(RunFile.REPORT_JSON, results.model_dump_json(indent=2) + "\n")
    ctx.report_progress(done=_NUM_STEPS, total=_NUM_STEPS, is_last=True)
