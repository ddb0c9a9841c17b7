"""Which environment variables each component inherits; every job inherits those of Ray."""

from collections.abc import Collection, Mapping
from typing import Final

_EVERY_PROCESS: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "HOSTNAME", "TERM", "NO_COLOR"),
        *("TMPDIR", "TMP", "TEMP", "TZ", "LANG", "LANGUAGE"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "LIBRARY_PATH", "VIRTUAL_ENV"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    }
)
_EVERY_PROCESS_PREFIXES: Final = ("LC_", "XDG_", "PYTHON", "MALLOC_", "OPENSSL_")

_RAY: Final = frozenset(
    {"TANDEM_SOURCE_HOSTS", "TANDEM_ALLOW_PRIVATE_SOURCES", "CC", "CXX", "FORCE_CUDA", "MAX_JOBS"}
)
_RAY_PREFIXES: Final = (
    *("CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "UCX_", "CUBLAS_", "CUDNN_", "NVTE_"),
    *("TORCH", "PYTORCH_", "TRITON_", "HF_", "HUGGINGFACE_", "TRANSFORMERS_"),
    *("OMP_", "KMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "OPENCV_"),
    *("RAY_", "MLFLOW_", "MPL"),
)
_MLFLOW_PREFIXES: Final = ("MLFLOW_", "GUNICORN_", "UVICORN_")
_SERVICE_PREFIXES: Final = ("TANDEM_", "PG", "OTEL_", "TORCH_HOME")

_NEVER: Final = frozenset(
    {
        *("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"),
        *("MLFLOW_BACKEND_STORE_URI", "MLFLOW_REGISTRY_STORE_URI"),
        "TANDEM_TOKEN",
    }
)
"""The user's own cluster, tracker and token: no component may use them."""

_SECRET_TERMS: Final = frozenset(
    {"TOKEN", "PASSWORD", "PASSWD", "SECRET", "KEY", "CREDENTIAL", "CREDENTIALS"}
)
"""A variable with such a word in its name is not inherited because of its prefix."""


def select_for_ray(env: Mapping[str, str], *, additional: Collection[str] = ()) -> dict[str, str]:
    """What Ray inherits, and so every job: no secret, except for `additional` variables."""
    selected = _select(env, _EVERY_PROCESS | _RAY, prefixes=_EVERY_PROCESS_PREFIXES + _RAY_PREFIXES)
    return selected | {name: env[name] for name in additional if name in env}


def select_for_mlflow(env: Mapping[str, str]) -> dict[str, str]:
    """What MLflow's server inherits."""
    return _select(env, _EVERY_PROCESS, prefixes=_EVERY_PROCESS_PREFIXES + _MLFLOW_PREFIXES)


def select_for_service(env: Mapping[str, str]) -> dict[str, str]:
    """What the service inherits: its settings, with secrets, and those of the database's driver."""
    settings = {
        name: value
        for name, value in env.items()
        if name.startswith(_SERVICE_PREFIXES) and name not in _NEVER
    }
    return _select(env, _EVERY_PROCESS, prefixes=_EVERY_PROCESS_PREFIXES) | settings


def _select(
    env: Mapping[str, str], names: Collection[str], *, prefixes: tuple[str, ...]
) -> dict[str, str]:
    return {
        name: value
        for name, value in env.items()
        if name in names
        or (name.startswith(prefixes) and name not in _NEVER and not _is_secret(name))
    }


def _is_secret(name: str) -> bool:
    return bool(_SECRET_TERMS & set(name.upper().split("_")))
