"""The environment of each component, made from variables that are known to be harmless and useful.

Programs read more variables than anybody knows: a bucket for MLflow's artifacts, a token of another
Ray cluster, modules that replace ours. So variables are allowed by name. Prefixes are allowed only
where all names below them tune libraries of the trainer. Every job inherits the variables of Ray.
"""

from collections.abc import Collection, Mapping
from typing import Final

from configs.mlflow_access import MlflowVariable

_EVERY_PROCESS: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "HOSTNAME", "TERM", "NO_COLOR"),
        *("TMPDIR", "TMP", "TEMP", "TZ", "LANG", "LANGUAGE"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "LIBRARY_PATH", "VIRTUAL_ENV"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("PYTHONFAULTHANDLER", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
        *("PYTHONPYCACHEPREFIX", "PYTHONMALLOC", "PYTHONTRACEMALLOC"),
    }
)
_EVERY_PROCESS_PREFIXES: Final = ("LC_", "XDG_", "MALLOC_", "OPENSSL_")

_RAY: Final = frozenset(
    {
        *("TANDEM_SOURCE_HOSTS", "TANDEM_ALLOW_PRIVATE_SOURCES"),
        *("CC", "CXX", "FORCE_CUDA", "MAX_JOBS", "MPLCONFIGDIR"),
        *("RAY_memory_usage_threshold", "RAY_memory_monitor_refresh_ms"),
        *("RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE", "RAY_BACKEND_LOG_LEVEL"),
        # Where the secrets are, for sources on S3; the secrets themselves are named by the user.
        *("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL"),
        *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ENDPOINT_URL_S3"),
    }
)
_RAY_PREFIXES: Final = (
    *("CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "UCX_", "CUBLAS_", "CUDNN_", "NVTE_"),
    *("TORCH", "PYTORCH_", "TRITON_", "HF_", "HUGGINGFACE_", "TRANSFORMERS_"),
    *("OMP_", "KMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "OPENCV_"),
)

_REMOTE_MLFLOW: Final = frozenset(
    {
        *MlflowVariable,
        *("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_WORKSPACE"),
        *("MLFLOW_S3_ENDPOINT_URL", "MLFLOW_S3_IGNORE_TLS", "MLFLOW_S3_UPLOAD_EXTRA_ARGS"),
        *("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "GOOGLE_APPLICATION_CREDENTIALS"),
    }
)
"""What MLflow's client reads; for the service and jobs, if MLflow is on another machine."""

_MLFLOW: Final = frozenset(
    {
        *("MLFLOW_EXPOSE_PROMETHEUS", "MLFLOW_LOGGING_LEVEL", "MLFLOW_SERVER_ALLOWED_HOSTS"),
        *("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "MLFLOW_SERVER_X_FRAME_OPTIONS"),
    }
)
"""Who may open MLflow's pages, and what it tells; not where it stores anything."""

_SERVICE_PREFIXES: Final = ("TANDEM_", "PG", "OTEL_")
_SERVICE: Final = frozenset({"TORCH_HOME"})

_NEVER: Final = frozenset({"TANDEM_TOKEN"})
"""The user's own token: no component may use it."""

_SECRET_TERMS: Final = frozenset(
    {"TOKEN", "PASSWORD", "PASSWD", "SECRET", "KEY", "CREDENTIAL", "CREDENTIALS"}
)
"""A variable with such a word in its name is not inherited because of its prefix."""


def select_for_ray(
    env: Mapping[str, str], *, has_remote_mlflow: bool = False, additional: Collection[str] = ()
) -> dict[str, str]:
    """What Ray inherits, and so every job: no secret, except for `additional` variables.

    `has_remote_mlflow`: jobs need the user's access to MLflow, with its secrets.
    """
    names = _EVERY_PROCESS | _RAY | (_REMOTE_MLFLOW if has_remote_mlflow else set())
    selected = _select(env, names, prefixes=_EVERY_PROCESS_PREFIXES + _RAY_PREFIXES)
    return selected | {name: env[name] for name in additional if name in env}


def select_for_mlflow(env: Mapping[str, str]) -> dict[str, str]:
    """What MLflow's server inherits."""
    return _select(env, _EVERY_PROCESS | _MLFLOW, prefixes=_EVERY_PROCESS_PREFIXES)


def select_for_service(
    env: Mapping[str, str], *, has_remote_mlflow: bool = False
) -> dict[str, str]:
    """What the service inherits: its settings, with secrets, and those of the database's driver."""
    settings = {
        name: value
        for name, value in env.items()
        if name.startswith(_SERVICE_PREFIXES) and name not in _NEVER
    }
    names = _EVERY_PROCESS | _SERVICE | (_REMOTE_MLFLOW if has_remote_mlflow else set())
    return _select(env, names, prefixes=_EVERY_PROCESS_PREFIXES) | settings


def _select(
    env: Mapping[str, str], names: Collection[str], *, prefixes: tuple[str, ...]
) -> dict[str, str]:
    return {
        name: value
        for name, value in env.items()
        if name in names or (name.startswith(prefixes) and not _is_secret(name))
    }


def _is_secret(name: str) -> bool:
    return bool(_SECRET_TERMS & set(name.upper().split("_")))
