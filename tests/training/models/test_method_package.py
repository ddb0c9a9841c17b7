"""The package that `tandem methods new` writes works as it is."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli.method_package import write_package
from tests.support.training.detectors import make_batch
from tests.support.training.distilled_students import BOXES, make_detector, make_student
from tests.support.training.installed_methods import forget_methods, install_method
from workers.distillation.methods.catalog import build_catalog, find_wrong_terms
from workers.distillation.methods.registry import get_method

ROOT = Path(__file__).parents[3]
METHOD = {"method": "installed", "name": "mean_shift", "fields": {"weight": 0.5}}


@pytest.fixture(autouse=True)
def _new_process() -> Iterator[None]:
    yield
    forget_methods()


def test_its_method_teaches_a_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = write_package("mean_shift", into=tmp_path)
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    ((name, value),) = project["entry-points"]["tandem.methods"].items()
    code = (package / "tandem_mean_shift" / "method.py").read_text()
    module, _, attribute = value.partition(":")
    assert (module, name) == ("tandem_mean_shift.method", "mean_shift")
    install_method(
        tmp_path / "site",
        monkeypatch,
        code=code,
        name=name,
        value=f"mean_shift_method:{attribute}",
        package=project["name"],
    )

    student = make_student(
        tmp_path, make_detector("gfl"), make_detector("gfl", channels=64), METHOD
    )
    _, values = student._parse_losses(student.forward_train(**make_batch(BOXES)))

    assert values["loss_distill_mean_shift"] > 0
    method = get_method("mean_shift")
    assert method.golden_cases()
    assert list(find_wrong_terms(method)) == []
    (card,) = build_catalog().methods
    assert (card.title, card.release.needs_labels) == ("Mean shift", False)


@pytest.mark.slow
def test_it_is_installed_as_any_package_and_passes_its_own_test(tmp_path: Path) -> None:
    package, site = write_package("mean_shift", into=tmp_path), tmp_path / "site"
    install = ["docker/run_uv.py", "pip", "install", "--quiet", "--no-deps", "--offline"]
    environment = os.environ | {"PYTHONPATH": str(site)}

    subprocess.run(
        [sys.executable, *install, "--no-build-isolation", "--target", str(site), str(package)],
        cwd=ROOT,
        check=True,
    )
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests"], cwd=package, env=environment, check=False
    )
    listed = subprocess.run(
        [Path(sys.executable).with_name("tandem-worker"), "methods"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )

    assert tests.returncode == 0
    assert "mean_shift     version 1" in listed.stdout
