"""NCCL works in one process, and two processes train like one where there are two GPUs."""

import socket
from pathlib import Path

import pytest
import torch
from torch import distributed

from configs.metric_keys import Metric
from configs.protocol.names import ExitCode
from tests.support.gpu.measurement import RecordFigure
from tests.support.training.digits import write_digits
from tests.support.training.runs import make_spec, read_metric_values, read_records, train

pytestmark = pytest.mark.gpu

LOSS_TOLERANCE = 0.02
"""Relative, of the first reported loss: the processes' sums are in another order."""


def test_nccl_works_with_one_process(gpu: torch.device) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    distributed.init_process_group("nccl", init_method=address, rank=0, world_size=1)
    try:
        values = torch.arange(4.0, device=gpu)
        distributed.all_reduce(values)
        distributed.barrier(device_ids=[torch.cuda.current_device()])
        assert values.tolist() == [0.0, 1.0, 2.0, 3.0]
    finally:
        distributed.destroy_process_group()


def test_two_processes_train_a_run_as_one_does(tmp_path: Path, record_figure: RecordFigure) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip(f"needs two GPUs, there is {torch.cuda.device_count()}")
    digits = write_digits(tmp_path / "digits", train=24, val=4)
    schedule = make_spec(digits)["schedule"] | {"epochs": 1}
    spec = make_spec(digits, schedule=schedule)

    assert train(spec | {"resources": {"num_gpus": 1}}, tmp_path / "one") == ExitCode.SUCCEEDED
    both = {"num_gpus": 1, "processes": 2}
    assert train(spec | {"resources": both}, tmp_path / "two") == ExitCode.SUCCEEDED

    first, second = (read_first_loss(tmp_path / name) for name in ("one", "two"))
    record_figure("loss", abs(second / first - 1), "relative")
    assert second == pytest.approx(first, rel=LOSS_TOLERANCE)
    (started,) = [r for r in read_records(tmp_path / "two") if r["kind"] == "started"]
    assert started["device"].startswith("cuda")


def read_first_loss(run_dir: Path) -> float:
    losses = {
        step: value
        for (key, step), value in read_metric_values(run_dir).items()
        if key == Metric.LOSS
    }
    return losses[min(losses)]
