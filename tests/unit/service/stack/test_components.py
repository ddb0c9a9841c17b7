"""Command and environment of each component."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from service.stack.components import (
    ComponentName,
    StackConfig,
    build_components,
    prepare_component,
    ray_temp_dir,
)
from service.stack.lifecycle import read_last_lines
from service.stack.processes import MARKER_ENV
from tests.support.stack.configs import make_stack_config


@pytest.fixture
def config(tmp_path: Path) -> StackConfig:
    return make_stack_config(
        tmp_path,
        mlflow_url="http://127.0.0.1:15500/",
        env={"PATH": "/usr/bin", "LANG": "C", "RAY_ADDRESS": "ray://elsewhere"},
    )


def test_components_start_in_the_order_of_their_names(config: StackConfig) -> None:
    assert [component.name for component in build_components(config)] == list(ComponentName)


def test_every_component_has_our_commands_first_in_its_path_and_its_marker(
    config: StackConfig,
) -> None:
    for component in build_components(config):
        assert component.env["PATH"] == "/env/bin:/usr/bin"
        assert component.env["LANG"] == "C"
        assert "RAY_ADDRESS" not in component.env
        assert component.env[MARKER_ENV] == component.marker
        assert component.is_local


def test_secrets_of_users_and_of_the_service_do_not_reach_jobs(config: StackConfig) -> None:
    secrets = {"TANDEM_TOKEN": "tdm_x", "TANDEM_DATABASE_URL": "postgresql://u:p@h/d"}

    ray, mlflow, service = build_components(replace(config, env={**config.env, **secrets}))

    assert not secrets.keys() & ray.env.keys()
    assert not secrets.keys() & mlflow.env.keys()
    assert secrets.keys() & service.env.keys() == {"TANDEM_DATABASE_URL"}


def test_markers_differ_between_homes(config: StackConfig, tmp_path: Path) -> None:
    other = replace(config, home=tmp_path / "other")

    assert not {component.marker for component in build_components(config)} & {
        component.marker for component in build_components(other)
    }
    assert ray_temp_dir(config.home) != ray_temp_dir(other.home)


def test_ray_gets_a_private_token_and_stable_ports(config: StackConfig) -> None:
    ray = build_components(config)[0]

    component = prepare_component(ray, config)

    assert stat.S_IMODE(config.ray_token_file.stat().st_mode) == 0o600
    assert len(config.ray_token_file.read_text()) == 64
    assert component.env["RAY_AUTH_MODE"] == "token"
    assert any(argument.startswith("--ray-client-server-port=") for argument in component.command)
    assert prepare_component(ray, config).command == component.command


def test_the_users_token_is_used(config: StackConfig, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("secret")
    config = replace(config, token_file=own)

    ray, _, service = (
        prepare_component(component, config) for component in build_components(config)
    )

    assert own.read_text() == "secret"
    assert ray.env["RAY_AUTH_TOKEN_PATH"] == service.env["TANDEM_RAY_TOKEN_FILE"] == str(own)


def test_the_service_gets_the_same_addresses(config: StackConfig) -> None:
    service = build_components(config)[-1]

    assert service.url == "http://127.0.0.1:18700"
    assert service.env["TANDEM_HOME"] == str(config.home)
    assert service.env["TANDEM_RAY_URL"] == config.ray_url


def test_a_component_on_another_machine_is_not_local(config: StackConfig) -> None:
    ray = build_components(replace(config, ray_url="http://ray.lab:8265"))[0]

    assert not ray.is_local


def test_the_last_lines_of_a_log_leave_out_empty_ones(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a\n\nb\nc\n")

    assert read_last_lines(tmp_path / "log", 2) == ("b", "c")
    assert read_last_lines(tmp_path / "none") == ()
