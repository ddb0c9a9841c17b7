"""The pretended device records what a GPU would refuse or wait for, with the CPU's values."""

import contextlib
import copy
import io
from pathlib import Path
from typing import Any

import mmcv._ext
import numpy as np
import pytest
import torch
from mmcv.ops import DeformConv2d, nms
from torch import Tensor

from tests.support.training.device_events import DeviceEvent
from tests.support.training.pretend_device import PretendDevice, PretendTensor

THIS_FILE = Path(__file__).name


def get_only_event(events: list[DeviceEvent]) -> DeviceEvent:
    """Get the only event, whose location is a line of this file."""
    (note,) = events
    assert note.location.startswith(f"tests/unit/support/{THIS_FILE}:")
    return note


def make_tensor(device: PretendDevice, *values: float) -> Tensor:
    tensor = torch.tensor(values, device=device.device)
    device.reset()
    return tensor


def test_an_operator_with_tensors_of_both_devices_is_noted_with_its_place() -> None:
    with PretendDevice() as device:
        make_tensor(device, 1.0, 2.0) + torch.ones(2)

    assert get_only_event(device.mixings).operator == "aten::add"


def test_a_mixing_in_the_backward_pass_is_noted() -> None:
    class OfTheHost(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, value: Tensor) -> Tensor:
            return value * 2

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            return gradient * torch.ones(2)

    with PretendDevice() as device:
        weight = make_tensor(device, 1.0, 2.0).requires_grad_()
        OfTheHost.apply(weight).sum().backward()

    assert get_only_event(device.mixings).operator == "aten::mul"


def test_a_number_of_the_host_is_no_mixing() -> None:
    with PretendDevice() as device:
        actual = (make_tensor(device, 1.0, 2.0) * torch.tensor(3.0) + 1.0).cpu()

    assert device.mixings == []
    assert actual.tolist() == [4.0, 7.0]


@pytest.mark.parametrize(
    ("read", "operator"),
    [
        (lambda tensor: tensor[0].item(), "aten::_local_scalar_dense"),
        (lambda tensor: bool((tensor > 0).any()), "aten::_local_scalar_dense"),
        (lambda tensor: tensor.tolist(), "tolist"),
        (lambda tensor: tensor.cpu(), "copy to the host"),
        (lambda tensor: torch.zeros(2).copy_(tensor), "copy to the host"),
        (lambda tensor: tensor.nonzero(), "aten::nonzero"),
        (lambda tensor: tensor[tensor > 1], "aten::index by a mask"),
        (lambda tensor: torch.equal(tensor, tensor), "aten::equal"),
        (lambda tensor: torch.save(tensor, io.BytesIO()), "save"),
    ],
)
def test_a_read_by_the_host_is_noted_with_its_place(read: Any, operator: str) -> None:
    with PretendDevice() as device:
        read(make_tensor(device, 1.0, 2.0))

    assert get_only_event(device.reads).operator == operator
    assert device.copies == []


@pytest.mark.parametrize(
    ("move", "operator"),
    [
        (lambda tensor: torch.ones(2).to(tensor.device), "copy to the device"),
        (lambda tensor: tensor.copy_(torch.ones(2)), "copy to the device"),
        (lambda tensor: torch.tensor([1.0], device=tensor.device), "tensor"),
        (lambda tensor: torch.as_tensor(1.0, device=tensor.device), "tensor"),
        (lambda tensor: tensor.new_tensor([1.0]), "tensor"),
        (lambda tensor: tensor[[1, 0]], "index by a sequence"),
        (lambda tensor: tensor[range(2)], "index by a sequence"),
        (lambda tensor: tensor[torch.tensor([1])], "aten::index by an index on the host"),
    ],
)
def test_a_copy_to_the_device_is_noted_with_its_place(move: Any, operator: str) -> None:
    with PretendDevice() as device:
        move(make_tensor(device, 1.0, 2.0))

    assert get_only_event(device.copies).operator == operator
    assert device.reads == []


@pytest.mark.parametrize(
    "work",
    [
        lambda tensor: tensor * 2 + tensor.new_zeros(2),
        lambda tensor: torch.arange(2, device=tensor.device)[tensor.long() - 1],
        lambda tensor: tensor.__setitem__(tensor > 1, 3.0),
        lambda tensor: (tensor > 1).nonzero_static(size=1),
        lambda tensor: tensor.to(tensor.device),
    ],
)
def test_work_on_the_device_alone_is_neither(work: Any) -> None:
    with PretendDevice() as device:
        work(make_tensor(device, 1.0, 2.0))

    assert device.events == []


def test_an_index_by_a_range_picks_what_it_picks_on_a_cpu() -> None:
    values = torch.arange(12.0).reshape(3, 4)
    with PretendDevice() as device:
        on_device = values.to(device.device)
        picked = on_device[range(3), on_device.argmax(dim=1)].tolist()
        on_device[[0, 2], 1] = -1.0
        result = on_device.cpu()

    assert picked == values.amax(dim=1).tolist()
    assert result[:, 1].tolist() == [-1.0, 5.0, -1.0]


def test_numpy_is_refused_as_by_cuda() -> None:
    with PretendDevice() as device, pytest.raises(TypeError, match=r"use \.cpu\(\) first"):
        make_tensor(device, 1.0).numpy()


def test_a_tensor_without_values_is_refused() -> None:
    empty = torch.empty(2, device="meta")

    with PretendDevice(), pytest.raises(AssertionError, match="holds no values"):
        empty + 1


def test_everything_is_as_before_afterwards() -> None:
    def list_patched() -> list[Any]:
        kernels = [mmcv._ext.nms, mmcv._ext.deform_conv_forward]
        return [torch.tensor, torch.as_tensor, torch.autocast, torch.amp.GradScaler, *kernels]

    before = list_patched()
    with contextlib.suppress(ZeroDivisionError), PretendDevice():
        assert all(
            current is not original
            for current, original in zip(list_patched(), before, strict=True)
        )
        raise ZeroDivisionError

    assert all(
        current is original for current, original in zip(list_patched(), before, strict=True)
    )
    assert not isinstance(torch.ones(1, device="meta"), PretendTensor)


def test_a_module_goes_there_learns_and_comes_back_with_the_same_values() -> None:
    torch.manual_seed(0)
    on_cpu = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    on_device = copy.deepcopy(on_cpu)
    images = torch.rand(2, 3, 8, 8)
    with PretendDevice() as device:
        on_device.to(device.device)
        for module, batch in ((on_cpu, images), (on_device, images.to(device.device))):
            optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
            for _ in range(2):
                optimizer.zero_grad()
                module(batch).square().mean().backward()
                optimizer.step()
        assert all(isinstance(tensor, PretendTensor) for tensor in on_device.state_dict().values())
        on_device.to("cpu")

    assert device.mixings == []
    for name, tensor in on_device.state_dict().items():
        assert type(tensor) is Tensor
        assert torch.equal(tensor, on_cpu.state_dict()[name])


def test_a_deformable_convolution_computes_there_what_it_computes_here() -> None:
    torch.manual_seed(0)
    on_cpu = DeformConv2d(4, 4, 3, padding=1)
    on_device = copy.deepcopy(on_cpu)
    maps, offsets = torch.rand(2, 4, 8, 8), torch.rand(2, 18, 8, 8)
    on_cpu(maps, offsets).sum().backward()
    with PretendDevice() as device:
        on_device.to(device.device)
        on_device(maps.to(device.device), offsets.to(device.device)).sum().backward()
        gradient = on_device.weight.grad.cpu()

    assert device.mixings == []
    assert torch.equal(gradient, on_cpu.weight.grad)


def test_boxes_are_suppressed_there_as_here_and_the_host_waits_for_their_number() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 9, 9], [20, 20, 30, 30]])
    scores = torch.tensor([0.5, 0.9, 0.7])
    expected, _ = nms(boxes, scores, 0.5)
    with PretendDevice() as device:
        actual, _ = nms(boxes.to(device.device), scores.to(device.device), 0.5)
        assert [event.operator for event in device.events if event.kind == "read"] == ["mmcv::nms"]

        np.testing.assert_array_equal(actual.cpu().numpy(), expected.numpy())


def test_an_operator_of_mmcv_with_tensors_of_both_devices_is_noted() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0.5])
    with PretendDevice() as device:
        nms(boxes.to(device.device), scores, 0.5)

    assert "mmcv::nms" in {note.operator for note in device.mixings}
