"""Writes packages of distillation methods, as if pip had installed them."""

import importlib
import sys
from pathlib import Path

import pytest

from workers.distillation.methods.registry import get_method
from workers.distillation.methods.release import digest_code

SHIFT = """
from typing import Literal

from configs.spec.distillation import MethodSpec, MethodTraits, PositiveWeight
from workers.distillation.methods.base import FeatureMethod

class Shift(MethodSpec):
    traits = MethodTraits("Shift", needs=frozenset({"features"}), terms={"weight": "distill_shift"})
    method: Literal["shift"] = "shift"
    weight: PositiveWeight = 1.0

class ShiftMethod(FeatureMethod[Shift]):
    spec_type = Shift

    def terms(self, spec, batch, adapters):
        pairs = self.feature_pairs(batch, adapters)
        return {"loss_distill_shift": [spec.weight * (s - t).mean().square() for s, t in pairs]}
"""
"""A method that compares the means of feature maps."""

SHIFT_WITHOUT_LABELS = SHIFT.replace('distill_shift"})', 'distill_shift"}, needs_labels=False)')


def install_method(
    site: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    code: str = SHIFT,
    name: str = "shift",
    value: str = "acme_shift:ShiftMethod",
    package: str = "acme-shift",
) -> Path:
    """Write a package into `site` and put that on the path; returns the file of its module."""
    module = value.partition(":")[0]
    file = site / f"{module}.py"
    site.mkdir(exist_ok=True)
    file.write_text(code, encoding="utf-8")
    info = site / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[tandem.methods]\n{name} = {value}\n")
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(site)
    forget_methods()
    return file


def forget_methods() -> None:
    """Forget which methods are installed, as a new process does."""
    importlib.invalidate_caches()
    get_method.cache_clear()
    digest_code.cache_clear()
