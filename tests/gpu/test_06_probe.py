"""A probe on the GPU detects settings without effect, or says that it cannot know."""

from pathlib import Path
from typing import Any

import pytest
import torch

from configs.catalog import parse_spec
from configs.protocol.probe import ParameterEffect, max_pack_size
from configs.spec.jobs import ProbeSpec
from tests.support.gpu.measurement import RecordFigure
from tests.support.training.digits import write_digits
from tests.support.training.probes import UNMEASURED, make_analyzer
from tests.support.training.runs import make_spec
from workers.data.resolve import resolve_run_dataset
from workers.probe.builder import StudentFactory
from workers.probe.costs import measure_costs

WEIGHT_DECAY = "schedule.optimizer.weight_decay"
LEARNING_RATE = "schedule.optimizer.lr"
SPACE = {
    WEIGHT_DECAY: {"kind": "uniform", "low": 1e-13, "high": 1e-12},
    LEARNING_RATE: {"kind": "uniform", "low": 1e-4, "high": 1e-2},
}
"""The first has no effect in fp32; the second changes every weight."""

HEADS: dict[str, dict[str, Any]] = {
    "gfl": {"kind": "gfl", "convs": 1, "channels": 32, "reg_max": 8},
    "vfnet": {"kind": "vfnet", "convs": 1, "channels": 32},
}
"""GFL has deterministic kernels; VFNet's deformable convolution has none for its backward pass."""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=8, val=4)


@pytest.mark.parametrize(
    ("device", "head"),
    [
        ("cpu", "gfl"),
        pytest.param("cuda", "gfl", marks=pytest.mark.gpu),
        pytest.param("cuda", "vfnet", marks=pytest.mark.gpu),
    ],
    indirect=["device"],
)
def test_two_probes_agree_or_say_that_the_gpu_does_not_repeat_itself(
    digits: Path, tmp_path: Path, device: torch.device, head: str, record_figure: RecordFigure
) -> None:
    first, second = (measure_effects(digits, tmp_path, device=device, head=head) for _ in range(2))

    record_figure("weight decay of 1e-12", first[WEIGHT_DECAY].detail, "")
    record_figure("learning rate", first[LEARNING_RATE].detail, "")
    for effects in (first, second):
        assert_has_no_effect_or_is_unknown(effects[WEIGHT_DECAY], device=device)
        assert effects[LEARNING_RATE].has_effect


def test_a_dead_setting_that_seems_alive_is_refused() -> None:
    effect = ParameterEffect(has_effect=True, detail="a later update")
    unknown = ParameterEffect(has_effect=True, detail="unknown: this GPU is not deterministic")

    for kind in ("cpu", "cuda"):
        with pytest.raises(AssertionError):
            assert_has_no_effect_or_is_unknown(effect, device=torch.device(kind))
    assert_has_no_effect_or_is_unknown(unknown, device=torch.device("cuda"))
    with pytest.raises(AssertionError):
        assert_has_no_effect_or_is_unknown(unknown, device=torch.device("cpu"))


@pytest.mark.gpu
def test_costs_are_those_of_the_gpu(
    digits: Path, tmp_path: Path, gpu: torch.device, record_figure: RecordFigure
) -> None:
    base = parse_spec(make_base_spec(digits, head="gfl", device=gpu))

    costs = measure_costs(
        StudentFactory(dataset=resolve_run_dataset(base), run_dir=tmp_path, device=gpu), base
    )

    record_figure("step", 1e3 * costs.student_s, "ms")
    record_figure("members that fit", max_pack_size(costs), "")
    assert costs.device == torch.cuda.get_device_name(gpu)
    assert 0 < costs.member_bytes < costs.base_bytes < costs.available_bytes
    assert costs.available_bytes < torch.cuda.get_device_properties(gpu).total_memory
    assert max_pack_size(costs) > 1


def measure_effects(
    digits: Path, folder: Path, *, device: torch.device, head: str
) -> dict[str, ParameterEffect]:
    """Analyze the settings of SPACE by a new probe."""
    spec = ProbeSpec.model_validate(
        {"base": make_base_spec(digits, head=head, device=device), "space": SPACE}
    )
    factory = StudentFactory(dataset=resolve_run_dataset(spec.base), run_dir=folder, device=device)
    effects = make_analyzer(factory, spec, UNMEASURED)
    return {path: effects.analyze(spec.space, path) for path in SPACE}


def make_base_spec(digits: Path, *, head: str, device: torch.device) -> dict[str, Any]:
    student = make_spec(digits)["student"] | {"head": HEADS[head]}
    return make_spec(digits, student=student, resources={"num_gpus": int(device.type == "cuda")})


def assert_has_no_effect_or_is_unknown(effect: ParameterEffect, *, device: torch.device) -> None:
    """Assert no effect; a GPU without deterministic kernels may report "unknown"."""
    is_unknown = device.type == "cuda" and effect.detail.startswith("unknown")
    assert is_unknown or not effect.has_effect, effect
