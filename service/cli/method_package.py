"""The files of a package with a new distillation method."""

from collections.abc import Iterator
from pathlib import Path
from string import Template

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "tandem-$dashed"
version = "0.1.0"
description = "The distillation method $name for Tandem."
requires-python = ">=3.11,<3.12"
dependencies = ["tandem-distill"]

[project.entry-points."tandem.methods"]
$name = "tandem_$name.method:${kind}Method"

[tool.hatch.build.targets.wheel]
packages = ["tandem_$name"]
"""

_METHOD = '''\
"""$title: replace this line by what it compares, and its source."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from configs.spec.distillation import MethodSpec, MethodTraits, PositiveWeight
from workers.distillation.batch import DistillationBatch
from workers.distillation.methods.base import FeatureMethod, Terms
from workers.distillation.methods.golden import GoldenCase, GoldenOutputs, make_golden_batch


class $kind(MethodSpec):
    """The fields of the method, which runs and sweeps may set."""

    traits = MethodTraits(
        "$title",
        needs=frozenset({"features"}),
        terms={"weight": "distill_$name"},
        version="1",  # raise it when the same fields give other numbers
        needs_labels=False,  # True for a method that reads batch.assignment or batch.boxes
    )

    method: Literal["$name"] = "$name"
    weight: PositiveWeight = 1.0


class ${kind}Method(FeatureMethod[$kind]):
    """The mean squared difference of feature maps, until you replace it.

    `FeatureMethod` adapts the student's channels to the teacher's; a method that reads predictions
    is a `DistillationMethod`, and finds them in the batch.
    """

    spec_type = $kind

    def terms(self, spec: $kind, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:
        return {
            "loss_distill_$name": [
                spec.weight * (student_BCHW - teacher_BCHW).square().mean()
                for student_BCHW, teacher_BCHW in self.feature_pairs(batch, adapters)
            ]
        }

    def golden_cases(self) -> Sequence[GoldenCase]:
        """Work the loss out by hand: 2 * (1 - 3)^2 = 8."""
        maps_BCHW = torch.ones(1, 1, 2, 2)
        batch = make_golden_batch(GoldenOutputs([maps_BCHW]), GoldenOutputs([maps_BCHW * 3.0]))
        return [GoldenCase($kind(weight=2.0), batch, {"loss_distill_$name": 8.0})]
'''

_TEST = '''\
"""The numbers of $title."""

from tandem_$name.method import ${kind}Method
from workers.distillation.methods.catalog import find_wrong_terms


def test_its_losses_are_those_worked_out_by_hand() -> None:
    method = ${kind}Method()

    assert method.golden_cases()
    assert list(find_wrong_terms(method)) == []
'''

_README = """\
# $title

A distillation method for Tandem. In the environment of the workers:

    pip install --no-deps --editable .
    python -m pytest tests
    tandem-worker methods

Then `tandem methods list --refresh` shows it, and a run uses it:

    distillation: {method: installed, name: $name, fields: {weight: 1.0}}
"""

_FILES = {
    "pyproject.toml": _PYPROJECT,
    "README.md": _README,
    "tandem_$name/__init__.py": '"""The distillation method $name."""\n',
    "tandem_$name/method.py": _METHOD,
    "tests/test_method.py": _TEST,
}


def write_package(name: str, *, into: Path) -> Path:
    """Write the package of a method into a new folder; raises `FileExistsError` if it exists."""
    folder = into / f"tandem-{name.replace('_', '-')}"
    folder.mkdir(parents=True)
    for path, text in _render(name):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def _render(name: str) -> Iterator[tuple[str, str]]:
    parts = name.split("_")
    values = {
        "name": name,
        "dashed": "-".join(parts),
        "kind": "".join(word.capitalize() for word in parts),
        "title": " ".join(parts).upper() if len(name) <= 4 else " ".join(parts).capitalize(),
    }
    for path, text in _FILES.items():
        yield Template(path).substitute(values), Template(text).substitute(values)
