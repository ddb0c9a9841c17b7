"""The list of methods, and their golden cases."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from configs.protocol.methods import MethodCatalog
from tests.support.training.installed_methods import SHIFT, forget_methods, install_method
from workers.cli import app
from workers.distillation.methods.catalog import build_catalog, list_releases
from workers.distillation.methods.registry import get_method
from workers.distillation.methods.release import digest_code

GOLDEN = """
    def golden_cases(self):
        import torch
        from workers.distillation.methods.golden import GoldenCase, GoldenOutputs, make_golden_batch

        maps = torch.ones(1, 1, 2, 2)
        batch = make_golden_batch(GoldenOutputs([maps]), GoldenOutputs([maps * 3.0]))
        return [GoldenCase(Shift(weight=2.0), batch, {"loss_distill_shift": 8.0})]
"""


@pytest.fixture(autouse=True)
def _new_process() -> Iterator[None]:
    yield
    forget_methods()


def test_an_installed_method_is_listed_with_its_fields_and_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_method(tmp_path, monkeypatch)

    catalog = build_catalog()

    (card,) = catalog.methods
    assert (card.name, card.title, card.package) == ("shift", "Shift", "acme-shift")
    assert (card.release.version, card.release.needs) == ("1", ("features",))
    assert card.terms == {"weight": "distill_shift"}
    assert set(json.loads(json.dumps(card.fields))["properties"]) == {"weight"}


def test_releases_have_the_code_of_their_package_and_ours_also_that_of_the_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_method(tmp_path, monkeypatch)
    specs = [get_method(name).spec_type(method=name) for name in ("pkd", "mgd", "shift")]

    releases = list_releases(specs)

    assert releases["pkd"].digest == releases["mgd"].digest == digest_code("workers.distillation")
    assert releases["shift"] == build_catalog().methods[0].release
    assert {release.version for release in releases.values()} == {"1"}


def test_a_broken_package_does_not_hide_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_method(tmp_path / "sound", monkeypatch)
    install_method(
        tmp_path / "broken",
        monkeypatch,
        code="raise RuntimeError('no licence')",
        name="broken",
        value="acme_broken:Broken",
        package="acme-broken",
    )

    catalog = build_catalog()

    assert [card.name for card in catalog.methods] == ["shift"]
    assert "no licence" in catalog.problems[0]


def test_the_command_computes_golden_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_method(tmp_path, monkeypatch, code=SHIFT + GOLDEN)

    result = CliRunner().invoke(app, ["methods"])

    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert result.exit_code == 0
    assert lines["shift"].endswith("acme-shift           golden cases: 1")
    assert lines["pkd"].endswith("tandem-distill       golden cases: 1")


def test_the_command_fails_on_another_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_method(tmp_path, monkeypatch, code=SHIFT + GOLDEN.replace("8.0", "7.0"))

    result = CliRunner().invoke(app, ["methods"])

    assert result.exit_code == 1
    assert "loss_distill_shift is 8.0, expected 7.0" in result.stdout


def test_the_catalog_is_one_line_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_method(tmp_path, monkeypatch)

    result = CliRunner().invoke(app, ["methods", "--json"])

    assert MethodCatalog.model_validate_json(result.stdout) == build_catalog()
    assert result.stdout.count("\n") == 1
