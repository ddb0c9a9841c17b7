"""Names that service and workers share: tags, files, environment, exit codes."""

from enum import IntEnum, StrEnum
from typing import Final


class Tag(StrEnum):
    """Tags of an MLflow run."""

    RUN_ID = "tandem.run_id"
    """Identifies the one MLflow run of a run."""

    SWEEP_ID = "tandem.sweep_id"
    """Identifies the one MLflow run of a sweep."""

    AUTOPILOT_ID = "tandem.autopilot_id"
    """Of a registered model's version: the autopilot that delivered it."""

    PARENT = "mlflow.parentRunId"
    """MLflow's own tag: the parent that MLflow nests a run under."""

    NOTE = "mlflow.note.content"
    """MLflow's own tag: the description of a run or an experiment, in Markdown."""

    PAIR = "tandem.pair"
    """The id of the baseline, for the baseline itself and for every run compared with it, so that
    grouping by this tag shows them together."""

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
    INHERITED_WEIGHTS = "inherited_weights.json"
    """Which initial weights were the teacher's. Only with `student.inherit`."""

    NAN_BATCH = "nan_batch.json"
    MATCHES = "matches.npz"
    """Which detections of the best student are correct, image by image."""

    TEACHER_MATCHES = "teacher_matches.npz"
    PROBE = "probe.json"
    REPORT_INPUTS = "report_inputs.json"
    """What the service collects for a report, written beside the spec before the job starts."""

    REPORT = "report"
    REPORT_JSON = "report/report.json"
    REPORT_PAGE = "report/report.html"
    REPORT_MARKDOWN = "report/report.md"
    LOGS = "logs"
    TOKEN = "report.token"
    """The token that authenticates the run's worker to the service. Readable by its owner only."""

    MLFLOW_URL = "mlflow.url"
    """MLflow's address with user name and password, if it has them; a job's command line has the
    address without. Readable by its owner only."""


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
