"""Batches from samples to a device, compared with mmcv's own functions on a CPU."""

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.parallel import collate, scatter_gather
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from configs.catalog import parse_spec
from configs.spec.run import RunSpec
from tests.support.factories import make_spec
from tests.support.training.digits import write_digits
from workers.data.batches import HostBatch, prefetch, prefetch_to_device, to_device
from workers.data.datasets import open_dataset
from workers.data.loaders import build_training_loader
from workers.data.manifest import check_dataset
from workers.data.resolve import LocalDataset
from workers.models.training_config import build_training_data_config

CPU = torch.device("cpu")
META = torch.device("meta")
Samples = list[dict[str, Any]]


def make_run_spec(**changes: Any) -> RunSpec:
    spec = parse_spec(make_spec(**changes))
    assert isinstance(spec, RunSpec)
    return spec


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> LocalDataset:
    root = write_digits(tmp_path_factory.mktemp("digits"), train=3, val=3)
    return LocalDataset(root, check_dataset(root, digest=None))


@pytest.fixture(params=["train", "val"])
def samples(request: pytest.FixtureRequest, digits: LocalDataset) -> Samples:
    config = build_training_data_config(make_run_spec(), dataset=digits)
    dataset = open_dataset(config[request.param])
    return [dataset[index] for index in range(3)]


def test_a_batch_on_a_cpu_is_what_mmcv_makes_of_the_samples(samples: Samples) -> None:
    by_mmcv = scatter_gather.scatter(collate(samples, samples_per_gpu=len(samples)), [-1])[0]

    actual = to_device(HostBatch.from_samples(samples), CPU)

    assert_equal(actual, by_mmcv)


def test_on_another_device_only_tensors_change(
    samples: Samples,
) -> None:
    batch = HostBatch.from_samples(samples)

    on_meta = to_device(batch, META)

    assert {tensor.device for tensor in list_tensors(on_meta)} == {META}
    assert len(list_tensors(on_meta)) == len(list_tensors(batch)) > 0
    assert_equal(on_meta, to_device(batch, CPU), compare_values=False)


def test_a_tensor_that_is_on_the_device_already_stays_the_same_object(samples: Samples) -> None:
    batch = HostBatch.from_samples(samples)

    on_device = to_device(batch, CPU)

    for before, after in zip(list_tensors(batch), list_tensors(on_device), strict=True):
        assert after is before


def test_torchs_loader_pins_every_tensor_of_a_batch(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[Tensor] = []

    def record_pin(tensor: Tensor) -> Tensor:
        pinned.append(tensor)
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", record_pin)
    batch = HostBatch.from_samples(samples)

    after = pin_memory(batch)

    assert isinstance(after, HostBatch)
    assert len(pinned) == len(list_tensors(batch))
    assert_equal(after, batch)


@pytest.mark.parametrize("num_gpus", [0, 1])
def test_batches_are_pinned_for_runs_on_a_gpu_only(digits: LocalDataset, num_gpus: int) -> None:
    spec = make_run_spec(resources={"num_gpus": num_gpus})

    loader = build_training_loader(build_training_data_config(spec, dataset=digits), spec=spec)

    assert loader.pin_memory is (num_gpus == 1)


def test_bytes_of_a_batch_are_those_of_its_tensors(samples: Samples) -> None:
    batch = HostBatch.from_samples(samples)

    assert batch.num_bytes == sum(tensor.nbytes for tensor in list_tensors(batch))


def test_batches_come_in_their_order_with_all_their_parts(samples: Samples) -> None:
    batches = [[HostBatch(number=number), HostBatch(number=-number)] for number in range(3)]

    on_device = list(prefetch_to_device(batches, CPU))

    assert on_device == [[dict(part) for part in parts] for parts in batches]


class Copies:
    """Records copies to a device; some run out of memory."""

    def __init__(self, *, full_once_at: int | None = None, always_full: bool = False) -> None:
        self.events: list[str] = []
        self._full_once_at = full_once_at
        self._always_full = always_full

    def begin(self, number: int) -> int:
        if self._always_full or number == self._full_once_at:
            self._full_once_at = None
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.events.append(f"begin {number}")
        return number

    def finish(self, number: int) -> int:
        self.events.append(f"finish {number}")
        return number


def test_a_copy_starts_before_the_previous_batch_is_consumed() -> None:
    copies = Copies()

    assert list(prefetch(range(3), start=copies.begin, finish=copies.finish)) == [0, 1, 2]

    assert copies.events == ["begin 0", "begin 1", "finish 0", "begin 2", "finish 1", "finish 2"]


def test_a_copy_without_memory_starts_after_the_previous_batch() -> None:
    copies = Copies(full_once_at=1)

    assert list(prefetch(range(3), start=copies.begin, finish=copies.finish)) == [0, 1, 2]

    assert copies.events == ["begin 0", "finish 0", "begin 1", "begin 2", "finish 1", "finish 2"]


def test_a_copy_fails_without_memory_for_a_single_batch() -> None:
    copies = Copies(always_full=True)

    with pytest.raises(torch.OutOfMemoryError):
        list(prefetch(range(3), start=copies.begin, finish=copies.finish))


def test_no_reference_to_a_consumed_batch_remains() -> None:
    batches = prefetch(
        range(3), start=lambda number: torch.ones(number), finish=lambda batch: batch
    )
    first = weakref.ref(next(batches))

    next(batches)

    assert first() is None


def list_tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return (
        [t for item in items for t in list_tensors(item)] if isinstance(value, dict | list) else []
    )


def assert_equal(actual: Any, expected: Any, *, compare_values: bool = True) -> None:
    """Assert equal structure and types, and equal values if `compare_values`."""
    if isinstance(expected, dict):
        assert isinstance(actual, dict)
        assert set(actual) == set(expected)
        for key in expected:
            assert_equal(actual[key], expected[key], compare_values=compare_values)
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for item, expected_item in zip(actual, expected, strict=True):
            assert_equal(item, expected_item, compare_values=compare_values)
    elif isinstance(expected, Tensor):
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        assert not compare_values or torch.equal(actual, expected)
    elif isinstance(expected, np.ndarray):
        assert np.array_equal(actual, expected)
    else:
        assert actual == expected
