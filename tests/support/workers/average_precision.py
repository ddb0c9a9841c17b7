"""mAP of the images as they are, which reports compute for resampled images only."""

import numpy as np

from configs.protocol.comparison import MAP_PARTS
from workers.analysis.average_precision import compute_parts_by_resample, rank_detections
from workers.analysis.matches import Matches


def compute_parts(matches: Matches) -> dict[str, float]:
    """mAP and its parts by name; NaN without objects."""
    values = compute_parts_by_resample(
        rank_detections(matches), np.ones((1, len(matches.files)), dtype=np.int32)
    )
    return dict(zip(MAP_PARTS, values[0].tolist(), strict=True))
