"""Images of errors that the distilled student has copied from its teacher."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from configs.protocol.copied_errors import CopiedError, CopiedErrors
from configs.protocol.report import Report, ReportInputs
from workers.report.blocks import Panels
from workers.report.plots.samples import Sample, draw_panels, load_detectors


def draw_copied_errors(
    report: Report,
    inputs: ReportInputs,
    *,
    folder: Path,
    on_step: Callable[[], None] = lambda: None,
) -> tuple[Panels, ...]:
    """Draw the examples of copied errors with the boxes near them; files are below `folder`.

    Raises `ValueError` if detections are damaged or of other images.
    """
    copied = report.copied_errors
    if copied is None or not copied.examples:
        return ()
    runs = {run.id: run for run in inputs.runs}
    detectors = load_detectors(runs[copied.runs[0]], runs[copied.baselines[0]])
    samples = _list_samples(copied, detectors["student"].files)
    return draw_panels(samples, detectors, folder=folder, name="copied", on_step=on_step)


def _list_samples(copied: CopiedErrors, files: tuple[str, ...]) -> Iterator[Sample]:
    for error in copied.examples:
        yield Sample(files.index(error.file), _describe(error), np.array(error.box))


def _describe(error: CopiedError) -> str:
    if error.kind == "missed":
        return (
            f"“{error.class_name}” is missed by the teacher and by the distilled student; the "
            f"student alone detects it with {error.score:.2f}"
        )
    assert error.teacher_score is not None
    return (
        f"a false “{error.class_name}” of the teacher ({error.teacher_score:.2f}) and of the "
        f"distilled student ({error.score:.2f}), but not of the student alone"
    )
