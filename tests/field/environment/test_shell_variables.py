"""Variables of the shell that would change or break the components of the local stack."""

from pathlib import Path

import pytest

from service.stack.components import ComponentName, build_components
from tests.support.stack.configs import make_stack_config

OF_OTHERS = (
    *("MLFLOW_DEFAULT_ARTIFACT_ROOT", "MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_ARTIFACTS_ONLY"),
    *(
        "MLFLOW_BACKEND_STORE_URI",
        "MLFLOW_REGISTRY_STORE_URI",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_HOST",
    ),
    *("MLFLOW_STATIC_PREFIX", "MLFLOW_GUNICORN_OPTS", "MLFLOW_UVICORN_OPTS", "MLFLOW_WORKERS"),
    *("MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_CONFIG_PATH", "MLFLOW_RUN_ID", "MLFLOW_NEW"),
    *("GUNICORN_CMD_ARGS", "UVICORN_PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"),
    *("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_TMPDIR", "RAY_NAMESPACE", "RAY_RUNTIME_ENV_HOOK"),
    *("RAY_CHAOS", "RAY_REDIS_ADDRESS", "RAY_gcs_server_port", "RAY_JOB_HEADERS", "RAY_NEW"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONIOENCODING"),
    *("PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONSAFEPATH", "MPLBACKEND", "BASH_ENV", "ENV"),
    *("DJANGO_SETTINGS_MODULE", "SQLALCHEMY_DATABASE_URI", "CONDA_PREFIX", "VIRTUALENV_X"),
)
OF_REMOTE_MLFLOW = (
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH"),
    *("MLFLOW_TRACKING_CLIENT_CERT_PATH", "MLFLOW_S3_ENDPOINT_URL"),
)


def test_no_component_sees_variables_of_other_programs(tmp_path: Path) -> None:
    env = dict.fromkeys(OF_OTHERS, "theirs") | {"PATH": "/usr/bin"}

    for component in build_components(make_stack_config(tmp_path, env=env)):
        assert "theirs" not in component.env.values()
        assert component.env["PYTHONUTF8"] == "1"


def test_what_the_user_names_reaches_runs_all_the_same(tmp_path: Path) -> None:
    config = make_stack_config(
        tmp_path, env={"PYTHONPATH": "/plugins"}, job_environment=("PYTHONPATH",)
    )

    ray, mlflow, service = build_components(config)

    assert ray.env["PYTHONPATH"] == "/plugins"
    assert "PYTHONPATH" not in mlflow.env.keys() | service.env.keys()


@pytest.mark.parametrize(
    ("mlflow_url", "is_remote"),
    [("http://127.0.0.1:15500", False), ("https://mlflow.example.org", True)],
)
def test_access_to_mlflow_reaches_service_and_runs_if_it_is_elsewhere(
    tmp_path: Path, mlflow_url: str, is_remote: bool
) -> None:
    env = dict.fromkeys(OF_REMOTE_MLFLOW, "mine")

    for component in build_components(make_stack_config(tmp_path, env=env, mlflow_url=mlflow_url)):
        needs_access = is_remote and component.name is not ComponentName.MLFLOW
        inherited = {name for name, value in component.env.items() if value == "mine"}
        assert inherited == (set(OF_REMOTE_MLFLOW) if needs_access else set())


def test_runs_know_where_credentials_are_but_not_what_they_are(tmp_path: Path) -> None:
    env = dict.fromkeys(("AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"), "place")
    secrets = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "secret")

    ray, *_ = build_components(make_stack_config(tmp_path, env=env | secrets))

    assert env.items() <= ray.env.items()
    assert "secret" not in ray.env.values()


def test_proxies_of_the_shell_exclude_this_machine(tmp_path: Path) -> None:
    env = {"HTTPS_PROXY": "http://proxy.example:3128", "no_proxy": ".example.com"}

    for component in build_components(make_stack_config(tmp_path, env=env)):
        assert component.env["HTTPS_PROXY"] == "http://proxy.example:3128"
        assert component.env["NO_PROXY"] == ".example.com,localhost,127.0.0.1,::1"
        assert component.env["no_proxy"] == component.env["NO_PROXY"]


@pytest.mark.parametrize("env", [{}, {"HOME": ""}])
def test_every_component_has_a_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, env: dict[str, str]
) -> None:
    def raise_without_entry() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", raise_without_entry)

    for component in build_components(make_stack_config(tmp_path, env=env)):
        assert component.env["HOME"] == str(tmp_path / "home")
