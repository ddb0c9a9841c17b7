"""Names that two sides must agree on: metrics, tags, files, environment, exit codes. Each once."""

from enum import IntEnum, StrEnum
from typing import Final


class Metric(StrEnum):
    """Metrics as MLflow, the API and the dashboards show them."""

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
    """What finds the MLflow run of a run again: there is exactly one."""

    SWEEP_ID = "tandem.sweep_id"
    """What finds the MLflow run of a sweep again: there is exactly one."""

    PARENT = "mlflow.parentRunId"
    """MLflow's own: the run that this one is shown below."""

    PRESET = "tandem.preset"
    TASK = "tandem.task"
    TEACHER_SHA256 = "tandem.teacher_sha256"
    MODEL_SHA256 = "tandem.model_sha256"
    DATASET_DIGEST = "tandem.dataset_digest"
    HOST = "tandem.host"
    VERDICT = "tandem.verdict"
    """Of a distilled run beside its baseline, as the five below."""

    CONCLUSION = "tandem.conclusion"
    """What may be concluded, in one sentence."""

    SEED_SPREAD = "tandem.seed_spread"
    """What is known of the scatter over seeds; `unknown`: there is no verdict."""

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
    """Of the best student's detections: which are right, image by image."""

    TEACHER_MATCHES = "teacher_matches.npz"
    PROBE = "probe.json"
    REPORT = "report"
    REPORT_JSON = "report/report.json"
    REPORT_PAGE = "report/report.html"
    REPORT_MARKDOWN = "report/report.md"
    LOGS = "logs"
    TOKEN = "report.token"
    """What the run's worker shows to the service; for its own run only. Readable by its owner."""


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
"""Terms of the loss that come from a teacher, without `loss_`; others are the detector's own."""


def loss_share_metric(term: str, quantity: str, *, level: int | None) -> str:
    """A term's `share` of the gradient or its `cosine`, at one feature level or at all (none).

    Level 0 is called p3 (stride 8), as the pyramid's levels are in the literature.
    """
    place = "all" if level is None else f"p{level + 3}"
    return f"loss_share/{term.removeprefix('loss_')}/{place}/{quantity}"


def gain_metric(part: str) -> str:
    """How much a distilled run is better than its baseline, in one part of mAP."""
    return f"gain/{part}"


def attempt_log_path(attempt: int) -> str:
    """The log of an attempt, relative to the run's folder."""
    return f"{RunFile.LOGS}/attempt-{attempt}.log"


class ExitCode(IntEnum):
    """How `tandem-worker train`, `evaluate` and `export` end."""

    SUCCEEDED = 0
    REFUSED = 10
    """Spec, data, teacher or code: another attempt would end the same way."""

    INTERRUPTED = 20
    """The machine's fault: another attempt goes on from the last checkpoint."""

    DISK_FULL = 21
    """No room in the run's folder: another attempt goes on after a pause. The code alone says so,
    for there may have been no room for a last word."""

    OUT_OF_MEMORY = 22
    """The host's memory, not a GPU's, did not do: another attempt follows after a pause."""

    SUPERSEDED = 30
    """A newer attempt has taken over."""

    CANCELLED = 40
    STOPPED = 50
    """The service asked the attempt to leave, and the run goes on later."""


class Env(StrEnum):
    """Environment of an attempt's processes."""

    ATTEMPT = "TANDEM_ATTEMPT"
    """The submission id of the attempt: by it a node's processes are told apart."""


GPUS_FINDING: Final = "GPUs"
"""The finding of `tandem-worker doctor` that decides whether a node may offer its GPUs."""

LOG_CHUNK_BYTES: Final = 256 * 1024
"""The longest piece of a log that is sent at once."""


MLFLOW_EXPERIMENT: Final = "tandem"
"""Where runs of the default project are logged."""

DEFAULT_PROJECT: Final = "default"


def experiment_name(project: str) -> str:
    """The MLflow experiment that a project's runs are logged to."""
    return MLFLOW_EXPERIMENT if project == DEFAULT_PROJECT else f"{MLFLOW_EXPERIMENT}/{project}"
