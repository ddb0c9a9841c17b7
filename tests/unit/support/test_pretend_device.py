"""The pretended device notes what a GPU would refuse or pay for, and computes what a CPU does."""

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

from tests.support.training.device_notes import Note
from tests.support.training.pretend_device import PretendDevice, PretendTensor

THIS_FILE = Path(__file__).name


def the_note(notes: list[Note]) -> Note:
    """The only one, which names a line of this file."""
    (note,) = notes
    assert note.place.startswith(f"tests/unit/support/{THIS_FILE}:")
    return note


def on_device(device: PretendDevice, *values: float) -> Tensor:
    made = torch.tensor(values, device=device.device)
    device.forget()
    return made


def test_an_operator_with_tensors_of_both_devices_is_noted_with_its_place() -> None:
    with PretendDevice() as device:
        on_device(device, 1.0, 2.0) + torch.ones(2)

    assert the_note(device.mixings).operator == "aten::add"


def test_a_mixing_in_the_backward_pass_is_noted() -> None:
    class OfTheHost(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, value: Tensor) -> Tensor:
            return value * 2

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            return gradient * torch.ones(2)

    with PretendDevice() as device:
        weight = on_device(device, 1.0, 2.0).requires_grad_()
        OfTheHost.apply(weight).sum().backward()

    assert the_note(device.mixings).operator == "aten::mul"


def test_a_number_of_the_host_is_no_mixing() -> None:
    with PretendDevice() as device:
        found = (on_device(device, 1.0, 2.0) * torch.tensor(3.0) + 1.0).cpu()

    assert device.mixings == []
    assert found.tolist() == [4.0, 7.0]


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
        read(on_device(device, 1.0, 2.0))

    assert the_note(device.reads).operator == operator
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
        move(on_device(device, 1.0, 2.0))

    assert the_note(device.copies).operator == operator
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
        work(on_device(device, 1.0, 2.0))

    assert device.notes == []


def test_an_index_by_a_range_picks_what_it_picks_on_a_cpu() -> None:
    values = torch.arange(12.0).reshape(3, 4)
    with PretendDevice() as device:
        there = values.to(device.device)
        picked = there[range(3), there.argmax(dim=1)].tolist()
        there[[0, 2], 1] = -1.0
        written = there.cpu()

    assert picked == values.amax(dim=1).tolist()
    assert written[:, 1].tolist() == [-1.0, 5.0, -1.0]


def test_numpy_is_refused_as_by_cuda() -> None:
    with PretendDevice() as device, pytest.raises(TypeError, match=r"use \.cpu\(\) first"):
        on_device(device, 1.0).numpy()


def test_a_tensor_without_values_is_refused() -> None:
    empty = torch.empty(2, device="meta")

    with PretendDevice(), pytest.raises(AssertionError, match="holds no values"):
        empty + 1


def test_everything_is_as_before_afterwards() -> None:
    def patched() -> list[Any]:
        kernels = [mmcv._ext.nms, mmcv._ext.deform_conv_forward]
        return [torch.tensor, torch.as_tensor, torch.autocast, torch.amp.GradScaler, *kernels]

    before = patched()
    with contextlib.suppress(ZeroDivisionError), PretendDevice():
        assert all(now is not was for now, was in zip(patched(), before, strict=True))
        raise ZeroDivisionError

    assert all(now is was for now, was in zip(patched(), before, strict=True))
    assert not isinstance(torch.ones(1, device="meta"), PretendTensor)


def test_a_module_goes_there_learns_and_comes_back_with_the_same_values() -> None:
    torch.manual_seed(0)
    here = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    there = copy.deepcopy(here)
    images = torch.rand(2, 3, 8, 8)
    with PretendDevice() as device:
        there.to(device.device)
        for module, batch in ((here, images), (there, images.to(device.device))):
            optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
            for _ in range(2):
                optimizer.zero_grad()
                module(batch).square().mean().backward()
                optimizer.step()
        assert all(isinstance(tensor, PretendTensor) for tensor in there.state_dict().values())
        there.to("cpu")

    assert device.mixings == []
    for name, tensor in there.state_dict().items():
        assert type(tensor) is Tensor
        assert torch.equal(tensor, here.state_dict()[name])


def test_a_deformable_convolution_computes_there_what_it_computes_here() -> None:
    torch.manual_seed(0)
    here = DeformConv2d(4, 4, 3, padding=1)
    there = copy.deepcopy(here)
    maps, offsets = torch.rand(2, 4, 8, 8), torch.rand(2, 18, 8, 8)
    here(maps, offsets).sum().backward()
    with PretendDevice() as device:
        there.to(device.device)
        there(maps.to(device.device), offsets.to(device.device)).sum().backward()
        gradient = there.weight.grad.cpu()

    assert device.mixings == []
    assert torch.equal(gradient, here.weight.grad)


def test_boxes_are_suppressed_there_as_here_and_the_host_waits_for_their_number() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 9, 9], [20, 20, 30, 30]])
    scores = torch.tensor([0.5, 0.9, 0.7])
    wanted, _ = nms(boxes, scores, 0.5)
    with PretendDevice() as device:
        found, _ = nms(boxes.to(device.device), scores.to(device.device), 0.5)
        assert [note.operator for note in device.notes if note.kind == "read"] == ["mmcv::nms"]

        np.testing.assert_array_equal(found.cpu().numpy(), wanted.numpy())


def test_an_operator_of_mmcv_with_tensors_of_both_devices_is_noted() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0.5])
    with PretendDevice() as device:
        nms(boxes.to(device.device), scores, 0.5)

    assert "mmcv::nms" in {note.operator for note in device.mixings}
