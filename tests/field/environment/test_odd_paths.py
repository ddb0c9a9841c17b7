"""Paths with every character that a file system allows, wherever a path passes through text."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from mmcv import Config
from typer.testing import CliRunner

from configs.protocol.names import RunFile
from configs.spec.run import RunSpec
from service.adapters.ray_jobs import _job_from_request
from service.domain.ports import JobRequest
from tests.support.training.runs import make_spec, train
from workers.cli.data import app
from workers.models.config_file import write_config

ODD_NAMES = [
    *(
        "it's",
        'say "x"',
        "a\\b",
        "a\\",
        "{{ fileDirname }}",
        "{{ _base_.model }}",
        "{{{x}}}",
        "{x}",
    ),
    *("$HOME", "a\nb", "a\tb", "100%", "100%25", "a#b", "what?", "a&b;c|d", "`id`", "[red]", "-rf"),
    *(" a ", "ü 漢", "a*b", "~", "c:d", "a,b", "%(x)s", "'''", '"""'),
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_config_with_an_odd_path_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    values = {"data": {"train": [{"ann_file": str(folder / "x.json")}]}, "work_dir": str(folder)}

    write_config(Config(values), folder / "config.py")

    assert Config.fromfile(str(folder / "config.py"))._cfg_dict.to_dict() == values


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_spec_with_an_odd_path_survives_json(tmp_path: Path, name: str) -> None:
    spec = RunSpec.model_validate(make_spec(tmp_path / name))

    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_job_with_an_odd_path_gets_it_from_the_shell(name: str) -> None:
    script = "import sys; print(ascii(sys.argv[1:]))"
    command = (sys.executable, "-c", script, name)
    request = JobRequest(submission_id="x", command=command, num_cpus=1, num_gpus=0, metadata={})

    entrypoint = _job_from_request(request)["entrypoint"]

    assert shlex.split(entrypoint) == list(command)
    output = subprocess.run(["sh", "-c", entrypoint], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == ascii([name])


@pytest.mark.slow  # trains; the texts between are tested above
@pytest.mark.parametrize("name", ['it\'s {{ fileDirname }} "$HOME" a\\b', "100%25 a#b? [red]\n漢"])
def test_a_run_with_odd_paths_succeeds(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    arguments = [
        "digits",
        "--name",
        "tiny",
        "--out",
        str(home / "set"),
        "--train",
        "8",
        "--val",
        "4",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output

    assert train(make_spec(home / "set"), home / "run") == 0

    config = Config.fromfile(str(home / "run" / RunFile.CONFIG))
    assert config.work_dir == str(home / "run")
    assert config.data.train.img_prefix.startswith(str(home / "set"))
