"""Sample images with the boxes of ground truth, teacher, baseline and distilled student."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from configs.protocol.comparison import Comparison
from configs.protocol.report import ReportInputs, ReportRun
from workers.analysis.error_kinds import box_ious
from workers.analysis.matches import Matches, check_same_images, load_matches
from workers.evaluation.drawing import COLORS, Panel, draw_boxes
from workers.report.blocks import Panels, Photo
from workers.report.plots.images import encode_jpeg, fit_image, read_image
from workers.report.results.pairs import matches_file, teacher_matches_file
from workers.report.wording import format_count

MAX_SAMPLES_BYTES = 400_000
"""Maximum size of all sample images together, as JPEG."""

_NUM_EVEN, _NUM_EXTREME = 4, 2
"""Number of images at even distances, and of those with the largest gain and the largest loss."""

_SIDE = 320
_FONT_SIZE = 18
_MIN_SCORE = 0.3


@dataclass(frozen=True)
class Sample:
    """An image of the list, and why it was selected."""

    index: int
    reason: str
    box_4: NDArray[Any] | None = None
    """In pixels: only boxes that overlap it are drawn. None for all boxes."""


def draw_samples(
    comparison: Comparison,
    inputs: ReportInputs,
    *,
    folder: Path,
    on_step: Callable[[], None] = lambda: None,
) -> tuple[Panels, ...]:
    """Draw sample images for the first pair of a comparison; image files are below `folder`.

    Files that cannot be read are skipped. Raises `ValueError` if detections are damaged or of other
    images.
    """
    runs = {run.id: run for run in inputs.runs}
    detectors = load_detectors(runs[comparison.runs[0]], runs[comparison.baselines[0]])
    samples = _select_samples(detectors["student"], detectors["baseline"])
    return draw_panels(samples, detectors, folder=folder, name="sample", on_step=on_step)


def load_detectors(run: ReportRun, baseline: ReportRun) -> dict[str, Matches]:
    """Detections of a pair and of its teacher, if that was measured, by the panel's title.

    Raises `ValueError` if they are damaged or of other images.
    """
    student_matches = load_matches(matches_file(run))
    detectors = {"baseline": load_matches(matches_file(baseline)), "student": student_matches}
    if teacher_matches_file(run).is_file():
        detectors = {"teacher": load_matches(teacher_matches_file(run)), **detectors}
    for matches in detectors.values():
        check_same_images(student_matches, matches)
    return detectors


def draw_panels(
    samples: Iterable[Sample],
    detectors: dict[str, Matches],
    *,
    folder: Path,
    name: str,
    on_step: Callable[[], None] = lambda: None,
) -> tuple[Panels, ...]:
    """Draw samples until they exceed `MAX_SAMPLES_BYTES`; files that cannot be read are skipped.

    `name` begins the names of the image files of the report.
    """
    drawn: list[Panels] = []
    size = 0
    for sample in samples:
        on_step()
        panels = _draw_sample(sample, detectors, folder=folder, name=f"{name}-{len(drawn) + 1:02d}")
        if panels is None:
            continue
        size += sum(len(photo.jpeg) for photo in panels.photos)
        if size > MAX_SAMPLES_BYTES:
            break
        drawn.append(panels)
    return tuple(drawn)


def _select_samples(student: Matches, baseline: Matches) -> Iterator[Sample]:
    """Images at even distances, which favor nobody; then the largest gains and losses."""
    num_images = len(student.files)
    positions = np.linspace(0, num_images - 1, min(_NUM_EVEN, num_images)).round().astype(int)
    selected = {int(index): "evenly sampled" for index in positions}
    gain_I = _count_detected(student) - _count_detected(baseline)
    for sign, amount in ((1, "more"), (-1, "fewer")):
        order = np.argsort(-sign * gain_I, kind="stable")
        extremes = [int(index) for index in order if sign * gain_I[index] > 0]
        for index in [index for index in extremes if index not in selected][:_NUM_EXTREME]:
            count = format_count(abs(int(gain_I[index])), f"{amount} object")
            selected[index] = f"the distilled student finds {count} than the baseline"
    for index, reason in selected.items():
        yield Sample(index, reason)


def _count_detected(matches: Matches) -> NDArray[Any]:
    """Number of objects by image that are detected at IoU 0.50 with a sufficient score."""
    is_hit_D = (matches.object_D >= 0) & (matches.score_D >= _MIN_SCORE)
    objects = np.unique(matches.object_D[is_hit_D])
    return np.bincount(matches.image_G[objects], minlength=len(matches.files))


def _draw_sample(
    sample: Sample, detectors: dict[str, Matches], *, folder: Path, name: str
) -> Panels | None:
    first = next(iter(detectors.values()))
    file = first.files[sample.index]
    original = read_image(file, folder=folder)
    if original is None:
        return None
    panels = [_truth_panel(first, sample)]
    panels += [_panel(title, matches, sample) for title, matches in detectors.items()]
    return Panels(
        tuple(
            Photo(
                f"{name}-{panel.title}",
                _draw_panel(original, panel, first.class_names),
                f"{panel.title}: {format_count(len(panel.boxes_N4), 'box', plural='boxes')}",
            )
            for panel in panels
        ),
        caption=f"{file}: {sample.reason}",
    )


def _truth_panel(matches: Matches, sample: Sample) -> Panel:
    is_counted_G = (matches.image_G == sample.index) & ~matches.crowd_G
    is_drawn_G = is_counted_G & _overlaps(matches.box_G4, sample)
    return Panel("truth", COLORS["truth"], matches.box_G4[is_drawn_G], matches.class_G[is_drawn_G])


def _panel(title: str, matches: Matches, sample: Sample) -> Panel:
    is_confident_D = (matches.image_D == sample.index) & (matches.score_D >= _MIN_SCORE)
    is_drawn_D = is_confident_D & _overlaps(matches.box_D4, sample)
    return Panel(
        title,
        COLORS[title],
        matches.box_D4[is_drawn_D],
        matches.class_D[is_drawn_D],
        matches.score_D[is_drawn_D],
    )


def _overlaps(box_X4: NDArray[Any], sample: Sample) -> NDArray[Any]:
    """Whether each box overlaps the sample's box, (X,); all do if it has none."""
    if sample.box_4 is None:
        return np.ones(len(box_X4), dtype=bool)
    overlaps_X: NDArray[Any] = box_ious(box_X4, sample.box_4[None])[:, 0] > 0.0
    return overlaps_X


def _draw_panel(original: Image.Image, panel: Panel, class_names: tuple[str, ...]) -> bytes:
    picture, scale = fit_image(original, smallest=_SIDE, largest=_SIDE)
    draw_boxes(picture, panel, scale=scale, class_names=class_names, font_size=_FONT_SIZE)
    return encode_jpeg(picture)
