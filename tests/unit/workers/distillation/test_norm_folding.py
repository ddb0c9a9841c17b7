"""Folded BatchNorms: outputs and gradients are those of mmdet's modules, with less memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.models import build_backbone
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.batchnorm import _BatchNorm

from tests.support.training.backbones import BACKBONES, make_config, randomize_norms
from tests.support.training.distilled_students import make_detector, make_student
from workers.distillation.activation_checkpointing import enable_activation_checkpointing
from workers.distillation.norm_folding import fold_frozen_norms

NORMALIZED = [name for name in BACKBONES if name != "swin"]


def build_backbones(backbone: str, **changes: Any) -> tuple[Any, Any]:
    """A backbone with folded BatchNorms and the same without, in training mode."""
    pair = [build_backbone(make_config(backbone, **changes).backbone) for _ in range(2)]
    torch.manual_seed(0)
    randomize_norms(pair[0])
    pair[1].load_state_dict(pair[0].state_dict())
    fold_frozen_norms(pair[0])
    for model in pair:
        model.train()
    return pair[0], pair[1]


def make_images(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)).to(dtype)


def differentiate(backbone: nn.Module, images: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Features, and gradients of images and of parameters by name."""
    images = images.clone().requires_grad_()
    features = list(backbone(images))
    torch.stack([maps.square().mean().float() for maps in features]).sum().backward()
    gradients = {
        name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None
    }
    assert images.grad is not None
    return [maps.detach() for maps in features], {"images": images.grad, **gradients}


@pytest.mark.parametrize(
    ("backbone", "frozen_stages"), [*((name, -1) for name in NORMALIZED), ("resnet 18", 1)]
)
def test_outputs_and_gradients_are_those_of_the_modules(backbone: str, frozen_stages: int) -> None:
    folded, plain = build_backbones(backbone, norm_eval=True, frozen_stages=frozen_stages)
    images = make_images(torch.float64)

    features, gradients = differentiate(folded.double(), images)

    expected_features, expected = differentiate(plain.double(), images)
    torch.testing.assert_close(features, expected_features, rtol=1e-9, atol=1e-12)
    assert gradients.keys() == expected.keys()
    assert any(".bn" in name or ".norm" in name for name in gradients)
    for name, gradient in gradients.items():
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(gradient, expected[name], rtol=1e-8, atol=1e-9 * scale)


def test_gradients_of_a_scale_of_zero_are_finite_and_right() -> None:
    folded, plain = build_backbones("resnet 50", norm_eval=True)
    for backbone in (folded, plain):
        nn.init.zeros_(backbone.layer2[0].bn3.weight)
        backbone.double()

    _, gradients = differentiate(folded, make_images(torch.float64))

    _, expected = differentiate(plain, make_images(torch.float64))
    name = "layer2.0.bn3.weight"
    torch.testing.assert_close(gradients[name], expected[name], rtol=1e-8, atol=1e-12)
    assert gradients[name].abs().max() > 0


@pytest.mark.parametrize("backbone", ["resnet 50", "swin"])
def test_names_and_values_of_the_state_stay(backbone: str) -> None:
    folded, plain = build_backbones(backbone)

    assert list(folded.state_dict()) == list(plain.state_dict())
    assert list(dict(folded.named_parameters())) == list(dict(plain.named_parameters()))
    assert list(dict(folded.named_modules())) == list(dict(plain.named_modules()))


@pytest.mark.parametrize("backbone", ["resnet 18", "mobilenet_v2", "swin"])
def test_training_norms_and_evaluation_are_untouched(backbone: str) -> None:
    changes = {} if backbone == "swin" else {"norm_eval": False, "frozen_stages": -1}
    folded, plain = build_backbones(backbone, **changes)
    images = make_images()

    outcomes = []
    for model in (folded, plain):
        torch.manual_seed(2)  # Swin leaves out paths at random
        trained = differentiate(model, images)
        model.eval()
        with torch.no_grad():
            evaluated = model(images)
        outcomes.append((*trained, list(evaluated), list(model.buffers())))

    torch.testing.assert_close(*outcomes, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("backbone", NORMALIZED)
def test_a_norms_input_is_not_kept(backbone: str) -> None:
    folded, plain = (
        count_saved_bytes(model, make_images())
        for model in build_backbones(backbone, norm_eval=True, frozen_stages=-1)
    )

    # CSPDarknet's activation, x * sigmoid(x), keeps two tensors, where others keep one or none.
    assert folded < (0.85 if backbone == "csp_darknet" else 0.8) * plain


def count_saved_bytes(model: nn.Module, images: Tensor) -> int:
    """Bytes of the tensors that a forward pass keeps, each counted once, without parameters."""
    parameter_storages = {
        p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())
    }
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameter_storages:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        features = model(images)
    assert features
    return sum(saved.values())


@pytest.mark.parametrize("backbone", ["resnet 18", "mobilenet_v2"])
def test_with_activation_checkpointing_gradients_are_equal_bit_for_bit(backbone: str) -> None:
    plain, checkpointed = build_backbones(backbone, norm_eval=True)
    fold_frozen_norms(checkpointed)
    enable_activation_checkpointing(checkpointed)

    expected = differentiate(plain, make_images())

    torch.testing.assert_close(
        differentiate(checkpointed, make_images()), expected, rtol=0.0, atol=0.0
    )


def test_gradients_in_bf16_are_as_near_to_those_in_fp32_as_of_the_modules() -> None:
    folded, plain = build_backbones("resnet 50", norm_eval=True)
    _, expected = differentiate(plain, make_images())
    plain.zero_grad()
    errors = []

    for model in (folded, plain):
        model.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, gradients = differentiate(model, make_images())
        assert all(gradient.dtype == torch.float32 for gradient in gradients.values())
        errors.append({name: (gradients[name] - expected[name]).norm() for name in expected})

    for kind in ("conv", "bn"):
        folded_error, plain_error = (
            torch.stack([error for name, error in of_model.items() if kind in name]).norm()
            for of_model in errors
        )
        assert folded_error < 1.3 * plain_error


def test_every_norm_of_a_student_has_its_convolution(tmp_path: Path) -> None:
    student = make_student(tmp_path, make_detector("gfl"))

    norms = [module for module in student.modules() if isinstance(module, _BatchNorm)]

    assert norms
    assert all("forward" in vars(norm) for norm in norms)
