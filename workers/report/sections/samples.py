"""The section of sample images with the boxes of all detectors of a pair."""

from configs.protocol.report import Report, ReportInputs
from workers.report.blocks import Paragraph, Placeholder, Section
from workers.report.plots.images import Photos
from workers.report.sections.headline import main_comparison

_KEY, _TITLE = "samples", "What the detectors find"


def samples_section(inputs: ReportInputs, report: Report, photos: Photos) -> Section:
    """Build the section; its images were drawn for the first pair of the main comparison."""
    main = main_comparison(report)
    if main is None or not photos.samples:
        why = "No pair of a distilled run and its baseline has detections and images to show."
        return Section(_KEY, _TITLE, (Placeholder(why),))
    run = next(run for run in inputs.runs if run.id == main.runs[0])
    text = (
        f"Validation images with true boxes and detections that score 0.3 or more, from the pair "
        f"with seed {run.spec.seed}. The first images are evenly sampled; those with the largest "
        "gains and losses of the distilled student follow."
    )
    return Section(_KEY, _TITLE, (Paragraph(text), *photos.samples))
