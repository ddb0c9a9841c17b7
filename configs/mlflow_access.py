"""Access to MLflow as its own client has it: credentials and certificates of the environment."""

import configparser
import os
import ssl
from enum import StrEnum
from pathlib import Path
from typing import Any

from configs.http_access import AccessRefused, client_options, load_certificates


class MlflowVariable(StrEnum):
    """Variables with which MLflow's client gets access to a server."""

    USERNAME = "MLFLOW_TRACKING_USERNAME"
    PASSWORD = "MLFLOW_TRACKING_PASSWORD"
    TOKEN = "MLFLOW_TRACKING_TOKEN"
    INSECURE_TLS = "MLFLOW_TRACKING_INSECURE_TLS"
    SERVER_CERT_PATH = "MLFLOW_TRACKING_SERVER_CERT_PATH"
    CLIENT_CERT_PATH = "MLFLOW_TRACKING_CLIENT_CERT_PATH"


_CREDENTIALS_FILE = "~/.mlflow/credentials"
_TRUE = frozenset({"true", "1"})


def mlflow_client_options(url: str) -> dict[str, Any]:
    """Arguments of `httpx.Client` for MLflow at `url`, with the variables of MLflow's client.

    As there, a user name with a password comes before a token. Raises `AccessRefused` for
    variables that exclude each other, or certificates that cannot be read.
    """
    options = client_options(url)
    verify = _read_verification()
    if verify is not None:
        options["verify"] = verify
    username, password = _read_credentials()
    if username and password:
        return options | {"auth": (username, password)}
    token = os.environ.get(MlflowVariable.TOKEN)
    return options | {"headers": {"Authorization": f"Bearer {token}"}} if token else options


def _read_verification() -> ssl.SSLContext | bool | None:
    """None if the variables say nothing of the server's certificate."""
    certificates = os.environ.get(MlflowVariable.SERVER_CERT_PATH)
    is_insecure = os.environ.get(MlflowVariable.INSECURE_TLS, "").lower() in _TRUE
    if certificates and is_insecure:
        raise AccessRefused(
            f"{MlflowVariable.INSECURE_TLS} and {MlflowVariable.SERVER_CERT_PATH} exclude each "
            "other; unset one."
        )
    client_certificate = os.environ.get(MlflowVariable.CLIENT_CERT_PATH)
    if not (certificates or is_insecure or client_certificate):
        return None
    context = (
        load_certificates(certificates, name=MlflowVariable.SERVER_CERT_PATH)
        if certificates
        else ssl.create_default_context()
    )
    if is_insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if client_certificate:
        _load_client_certificate(context, client_certificate)
    return context


def _load_client_certificate(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_cert_chain(path)
    except (OSError, ssl.SSLError) as error:
        raise AccessRefused(
            f"{MlflowVariable.CLIENT_CERT_PATH}={path} contains no readable certificate with its "
            f"key: {error}"
        ) from error


def _read_credentials() -> tuple[str | None, str | None]:
    """User name and password: from the environment, else from MLflow's file in the home folder."""
    file = configparser.ConfigParser(interpolation=None)
    path = Path(os.path.expanduser(_CREDENTIALS_FILE))  # noqa: PTH111 - without a home, no error
    try:
        file.read(path, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise AccessRefused(f"{path} is not a file of MLflow's credentials: {error}") from error
    username, password = (
        os.environ.get(name) or file.get("mlflow", name.lower(), fallback=None)
        for name in (MlflowVariable.USERNAME, MlflowVariable.PASSWORD)
    )
    return username, password
