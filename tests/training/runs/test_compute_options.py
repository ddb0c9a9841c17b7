"""Options of precision, memory and batches, in short training runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from configs.metric_keys import Metric
from configs.protocol.names import ExitCode, RunFile
from tests.support.training.digits import write_digits
from tests.support.training.runs import make_spec, read_metric_values, read_records, train


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=16, val=4)


def make_short_spec(digits: Path, **changes: Any) -> dict[str, Any]:
    return make_spec(digits, schedule=make_spec(digits)["schedule"] | {"epochs": 1}) | changes


def read_values(run_dir: Path, metric: str) -> list[float]:
    return [
        value for (key, _), value in sorted(read_metric_values(run_dir).items()) if key == metric
    ]


@pytest.mark.slow  # test_distillation_methods.py has a step of each
@pytest.mark.parametrize(
    "compute",
    [
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"channels_last": True, "activation_checkpointing": True, "grad_accumulation_steps": 4},
    ],
    ids=["bf16", "fp16", "little memory"],
)
def test_a_run_of_other_compute_ends_well_and_near_the_plain_one(
    digits: Path, tmp_path: Path, compute: dict[str, Any]
) -> None:
    assert train(make_short_spec(digits), tmp_path / "plain") == ExitCode.SUCCEEDED

    assert train(make_short_spec(digits, compute=compute), tmp_path / "run") == ExitCode.SUCCEEDED

    plain, changed = (read_values(tmp_path / name, Metric.LOSS) for name in ("plain", "run"))
    assert len(changed) == len(plain)
    assert changed == pytest.approx(plain, rel=0.3)
    assert changed != plain


def test_the_learning_rate_scales_with_the_batch_size_if_configured(
    digits: Path, tmp_path: Path
) -> None:
    schedule = make_short_spec(digits)["schedule"] | {"lr_for_batch_size": 16, "epochs": 2}
    spec = make_short_spec(digits, schedule=schedule)

    assert train(spec, tmp_path / "run") == ExitCode.SUCCEEDED

    assert max(read_values(tmp_path / "run", Metric.LEARNING_RATE)) <= 1e-3


def test_images_of_many_scales_train(digits: Path, tmp_path: Path) -> None:
    data = make_short_spec(digits)["data"] | {"multi_scale": [64, 128], "image_size": [160, 96]}

    assert train(make_short_spec(digits, data=data), tmp_path / "run") == ExitCode.SUCCEEDED


def test_an_exploding_run_names_the_images_of_its_last_step(digits: Path, tmp_path: Path) -> None:
    schedule = {"epochs": 20, "optimizer": {"kind": "sgd", "lr": 10.0}}

    code = train(make_short_spec(digits, schedule=schedule), tmp_path / "run")

    facts = json.loads((tmp_path / "run" / RunFile.NAN_BATCH).read_text())
    assert code == ExitCode.REFUSED
    assert read_records(tmp_path / "run")[-1]["reason"] == "nan_loss"
    assert f"At step {facts['step']}:" in read_records(tmp_path / "run")[-1]["message"]
    assert len(facts["images"]) == 8
    assert all(name.endswith((".png", ".jpg")) for name in facts["images"])


def test_loss_shares_are_reported_at_their_steps_by_level(digits: Path, tmp_path: Path) -> None:
    schedule = make_short_spec(digits)["schedule"]
    assert train(make_short_spec(digits), tmp_path / "teacher") == ExitCode.SUCCEEDED
    teacher = {
        "checkpoint": str(tmp_path / "teacher" / RunFile.BEST),
        "detector": make_short_spec(digits)["student"],
        "classes": [str(digit) for digit in range(10)],
    }
    spec = make_short_spec(
        digits,
        teacher=teacher,
        distillation={"method": "bckd"},
        schedule=schedule | {"epochs": 2},
        loss_shares_every_steps=3,
    )

    assert train(spec, tmp_path / "run") == ExitCode.SUCCEEDED

    share_keys = {
        key for key in read_metric_values(tmp_path / "run") if key[0].startswith("loss_share/")
    }
    assert {step for _, step in share_keys} == {3}
    keys = {key for key, _ in share_keys}
    assert "loss_share/distill_cls/all/share" in keys
    assert "loss_share/bbox/p3/cosine" in keys
