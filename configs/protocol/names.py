"""Names that service and workers share: metrics, tags, files, environment, exit codes."""

from enum import IntEnum, StrEnum
from typing import Final


class Metric(StrEnum):
    """Metric keys in MLflow, the API and the dashboards."""

    LOSS = "train/loss"
    LOSS_CLS = "train/loss_cls"
    LOSS_BBOX = "train/loss_bbox"
    LOSS_DFL = "train/loss_dfl"
    LOSS_DISTILL_CLS = "train/loss_distill_cls"
    LOSS_DISTILL_LOC = "train/loss_distill_loc"
    LEARNING_RATE = "train/lr"
    IMAGES_PER_S = "train/images_per_s"
    MAP = "val/bbox_mAP"
    MAP_50 = "val/bbox_mAP_50"
    MAP_75 = "val/bbox_mAP_75"
    MAP_S = "val/bbox_mAP_s"
    MAP_M = "val/bbox_mAP_m"
    MAP_L = "val/bbox_mAP_l"
    TEACHER_MAP = "teacher/bbox_mAP"
    TEACHER_MAP_50 = "teacher/bbox_mAP_50"
    TEACHER_MAP_75 = "teacher/bbox_mAP_75"
    TEACHER_MAP_S = "teacher/bbox_mAP_s"
    TEACHER_MAP_M = "teacher/bbox_mAP_m"
    TEACHER_MAP_L = "teacher/bbox_mAP_l"
    INFERENCE_IMAGES_PER_S = "inference/images_per_s"
    LATENCY_P50_MS = "inference/latency_p50_ms"
    LATENCY_P90_MS = "inference/latency_p90_ms"
    EXPORT_EDGE_DIFFERENCE = "export/largest_edge_difference_px"
    EXPORT_SCORE_DIFFERENCE = "export/largest_score_difference"


class Tag(StrEnum):
    """Tags of an MLflow run."""

    RUN_ID = "tandem.run_id"
    """Identifies the one MLflow run of a run."""

    SWEEP_ID = "tandem.sweep_id"
    """Identifies the one MLflow run of a sweep."""

    PARENT = "mlflow.parentRunId"
    """MLflow's own tag: the parent that MLflow nests a run under."""

    PRESET = "tandem.preset"
    TASK = "tandem.task"
    TEACHER_SHA256 = "tandem.teacher_sha256"
    MODEL_SHA256 = "tandem.model_sha256"
    DATASET_DIGEST = "tandem.dataset_digest"
    HOST = "tandem.host"
    VERDICT = "tandem.verdict"
    """The verdict of a distilled run against its baseline; so are the five tags below."""

    CONCLUSION = "tandem.conclusion"
    """The conclusion of the comparison, in one sentence."""

    SEED_SPREAD = "tandem.seed_spread"
    """What is known of the variation over seeds. `unknown` means that there is no verdict."""

    BASELINE_RUN_ID = "tandem.baseline_run_id"
    GAIN_LOW = "tandem.gain_low"
    GAIN_HIGH = "tandem.gain_high"


class RunFile(StrEnum):
    """Files and folders of a run, relative to its folder."""

    SPEC = "spec.json"
    SPOOL = "spool.jsonl"
    CONFIG = "config.py"
    ENVIRONMENT = "environment.json"
    CHECKPOINTS = "checkpoints"
    LAST = "checkpoints/last.pth"
    BEST = "checkpoints/best.pth"
    PICTURES = "pictures"
    PER_CLASS_AP = "per_class_ap.json"
    EVALUATION = "evaluation.json"
    CURVES = "pr_curves.json"
    CURVES_PICTURE = "pr_curves.png"
    EXPORT = "export"
    NAN_BATCH = "nan_batch.json"
    MATCHES = "matches.npz"
    """Which detections of the best student are correct, image by image."""

    TEACHER_MATCHES = "teacher_matches.npz"
    PROBE = "probe.json"
    REPORT = "report"
    REPORT_JSON = "report/report.json"
    REPORT_PAGE = "report/report.html"
    REPORT_MARKDOWN = "report/report.md"
    LOGS = "logs"
    TOKEN = "report.token"
    """The token that authenticates the run's worker to the service. Readable by its owner only."""


DISTILLATION_TERMS: Final = frozenset(
    {
        "distill_cls",
        "distill_loc",
        "logit_kd",
        "ld_main",
        "ld_vlr",
        "fine_grained",
        "pkd",
        "cwd",
        "crosskd_cls",
        "crosskd_loc",
    }
)
"""Loss terms of distillation, without `loss_`. All others are the detector's own."""


def loss_share_metric(term: str, quantity: str, *, level: int | None) -> str:
    """Metric key of a term's `share` of the gradient or its `cosine`, at one feature level.

    Level 0 is p3 (stride 8), as the pyramid's levels are called in the literature. None stands for
    all levels.
    """
    level_name = "all" if level is None else f"p{level + 3}"
    return f"loss_share/{term.removeprefix('loss_')}/{level_name}/{quantity}"


def gain_metric(part: str) -> str:
    """Metric key of the gain of a distilled run over its baseline, in one part of mAP."""
    return f"gain/{part}"


def attempt_log_path(attempt: int) -> str:
    """The log file of an attempt, relative to the run's folder."""
    return f"{RunFile.LOGS}/attempt-{attempt}.log"


class ExitCode(IntEnum):
    """Exit codes of `tandem-worker train`, `evaluate` and `export`."""

    SUCCEEDED = 0
    REFUSED = 10
    """An error in spec, data, teacher or code: another attempt would fail the same way."""

    INTERRUPTED = 20
    """A failure of the machine: another attempt resumes from the last checkpoint."""

    DISK_FULL = 21
    """No space in the run's folder: another attempt resumes after a pause. The exit code alone
    reports it, because there may be no space for an outcome record."""

    OUT_OF_MEMORY = 22
    """Out of host memory, not of GPU memory: another attempt follows after a pause."""

    SUPERSEDED = 30
    """A newer attempt of the run has taken over."""

    CANCELLED = 40
    STOPPED = 50
    """The service asked the attempt to stop; the run resumes later."""


class Env(StrEnum):
    """Environment variables of an attempt's processes."""

    ATTEMPT = "TANDEM_ATTEMPT"
    """The submission id of the attempt, which identifies its processes on a node."""


GPUS_FINDING: Final = "GPUs"
"""The finding of `tandem-worker doctor` that decides whether a node may offer its GPUs."""

LOG_CHUNK_BYTES: Final = 256 * 1024
"""Maximum size of a log chunk in one request."""


MLFLOW_EXPERIMENT: Final = "tandem"
"""MLflow experiment of the default project."""

DEFAULT_PROJECT: Final = "default"


def experiment_name(project: str) -> str:
    """The name of a project's MLflow experiment."""
    return MLFLOW_EXPERIMENT if project == DEFAULT_PROJECT else f"{MLFLOW_EXPERIMENT}/{project}"
