"""A method of another package: written by a command, installed, listed by the workers, swept."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.api.schemas.runs import RunRequest
from service.client import TandemClient
from service.domain.states import RunState
from tests.support.stack.e2e_runs import TIMEOUT_S
from tests.support.stack.shell import Shell, start_stack_with_digits

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,  # it needs a stack of its own, whose workers see the package
    pytest.mark.timeout(900),
]

ROOT = Path(__file__).parents[2]
INSTALL = ("docker/run_uv.py", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation")
WEIGHTS = (0.5, 2.0)


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A stack whose processes see the packages in the folder `site`."""
    (tmp_path / "site").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("TANDEM_JOB_ENVIRONMENT", '["PYTHONPATH"]')
    with start_stack_with_digits(tmp_path) as shell:
        yield shell


def test_a_new_method_is_installed_listed_and_swept(stack: Shell, tmp_path: Path) -> None:
    before = stack.run("methods", "list", "--refresh")
    stack.run("methods", "new", "mean_shift", "--into", str(tmp_path))
    subprocess.run(
        [
            sys.executable,
            *INSTALL,
            "--target",
            str(tmp_path / "site"),
            str(tmp_path / "tandem-mean-shift"),
        ],
        cwd=ROOT,
        check=True,
    )
    after = stack.run("methods", "list", "--refresh")
    assert "mean_shift" not in before
    assert "mean_shift" in after
    with TandemClient(stack.url) as client:
        teacher = client.launch(RunRequest(preset="quick/instant"))
        trained = client.wait(teacher.id, timeout_s=TIMEOUT_S)
        assert trained.state is RunState.SUCCEEDED, trained.message
        weights = ",".join(map(str, WEIGHTS))
        output = stack.run(
            *("sweep", "quick/instant_bckd", f"teacher={{run: {teacher.id}}}"),
            "distillation={method: installed, name: mean_shift, fields: {}}",
            f"distillation.fields.weight=choice:{weights}",
            *("--algorithm", "grid", "--trials", "2", "--noise-runs", "0", "--watch"),
            timeout_s=600,
        )
        (sweep_id,) = set(re.findall(r"/v1/sweeps/(\w+)/report", output))
        trials = client.trials(sweep_id)
        runs = [client.run(trial.runs[0].id) for trial in trials]
        losses = [client.metrics(run.id, key="train/loss_distill_mean_shift") for run in runs]

    assert [trial.values["distillation.fields.weight"] for trial in trials] == list(WEIGHTS)
    assert [run.state for run in runs] == [RunState.SUCCEEDED] * 2
    assert all(run.comparison is not None for run in runs)
    # Means over the first steps, in which the two students begin to differ.
    assert losses[1][0].value > 2.0 * losses[0][0].value > 0.0
