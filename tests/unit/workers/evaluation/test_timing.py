"""Times are measured per call, and a short loader is repeated."""

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from configs.spec.jobs import Timing
from workers.evaluation.detection import build_batch_detection
from workers.evaluation.timing import Throughput, measure_latency

CPU = torch.device("cpu")


class Detector:
    """Returns one result for every image."""

    def __init__(self) -> None:
        self.training = False
        self.calls = 0

    def __call__(self, *, images: Any, **_: Any) -> list[str]:
        self.calls += 1
        return ["found"] * len(images)


def make_loader(*, images: int, batch_size: int) -> DataLoader[Any]:
    def collate(rows: list[int]) -> dict[str, list[int]]:
        return {"images": rows}

    dataset: Any = range(images)
    return DataLoader(dataset, batch_size=batch_size, collate_fn=collate)


def test_a_measured_function_returns_what_it_did_and_images_are_counted() -> None:
    throughput = Throughput()
    detect = throughput.measure(build_batch_detection(Detector()))

    results = [detect(batch) for batch in make_loader(images=5, batch_size=2)]

    assert [len(result) for result in results] == [2, 2, 1]
    assert throughput.images == [2, 2, 1]


def test_the_first_of_several_batches_is_not_counted() -> None:
    throughput = Throughput(seconds=[10.0, 1.0, 1.0], images=[2, 2, 2])

    assert throughput.images_per_s == pytest.approx(2.0)


def test_an_only_batch_counts() -> None:
    assert Throughput(seconds=[4.0], images=[2]).images_per_s == pytest.approx(0.5)


def test_few_images_are_timed_again_and_the_warm_up_is_left_out() -> None:
    detector = Detector()

    latency = measure_latency(
        detector, make_loader(images=3, batch_size=1), Timing(images=8, warm_up=2), device=CPU
    )

    assert latency.images == 8
    assert detector.calls == 10
    assert 0 <= latency.p50_ms <= latency.p90_ms <= latency.p99_ms
