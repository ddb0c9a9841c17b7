"""`card.json` of an export: a description of its files and of their agreement with the original."""

from pydantic import Field

from configs.spec.base import Contract, Sha256
from configs.spec.dataset import ClassNames
from configs.spec.detector import Detector
from configs.spec.jobs import ExportFormat

CARD = "card.json"
ONNX, MMDET, MLFLOW = "student.onnx", "mmdet", "mlflow"
"""Names of files and folders in the export's folder."""


class ExportComparison(Contract):
    """Differences between an exported file and the original on the same images."""

    images: int
    boxes: int
    largest_edge_difference_px: float
    largest_score_difference: float


class ExportCard(Contract):
    """Description of an export and its comparisons."""

    detector: Detector
    classes: ClassNames
    image_size: tuple[int, int]
    """Longest and shortest edge, in pixels, that images are resized to."""

    source_sha256: Sha256
    """SHA-256 of the exported checkpoint."""

    dataset_digest: Sha256
    """Digest of the dataset whose images were compared."""

    comparisons: dict[ExportFormat, ExportComparison] = Field(default_factory=dict)
    sha256_by_file: dict[str, Sha256] = Field(default_factory=dict)
