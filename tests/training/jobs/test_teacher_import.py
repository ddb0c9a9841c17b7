"""Import of teachers from checkpoints of other tools: the same outputs, or a refusal."""

import copy
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.models import build_detector
from torch import Tensor
from typer.testing import CliRunner, Result

from configs.catalog import spec_from_preset
from configs.protocol.names import ExitCode
from configs.spec.detector import Detector, Neck, RetinaHead, SwinTransformer, ToodHead, YoloxHead
from configs.teacher_catalog import load_class_list
from tests.support.service.stage import Stage
from tests.support.training.detectors import make_class_names, make_detector, make_mmdet_gfl
from workers.checkpoints.files import compute_sha256, load_checkpoint, load_teacher_weights
from workers.cli.teachers import app
from workers.models.detector_config import build_detector_config

CLASSES = make_class_names(4)


class CodeExecution:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code from a checkpoint ran",)


def import_teacher(source: Path, out: Path, *options: str, name: str = "old") -> Result:
    """Run `tandem-worker teachers import`, with a tiny detector unless a preset is named."""
    architecture: tuple[str, ...] = ()
    if not {"--preset", "--detector"} & set(options):
        architecture = (
            "--detector",
            str(write_config(make_detector(), out.parent / "detector.json")),
        )
    return CliRunner().invoke(
        app, ["import", str(source), "--name", name, "--out", str(out), *architecture, *options]
    )


def write_config(detector: Detector, path: Path) -> Path:
    path.write_text(detector.model_dump_json(), encoding="utf-8")
    return path


def write_classes(classes: tuple[str, ...], path: Path) -> str:
    path.write_text("\n".join(classes), encoding="utf-8")
    return str(path)


def save_in_old_format(
    model: Any, path: Path, *, classes: tuple[str, ...] | None = CLASSES, **extra: Any
) -> Path:
    """A checkpoint as mmdet 2.1 with torch 1.3 and numpy 1 wrote it: tar format, with optimizer."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    torch.autograd.backward([weight.sum() for weight in model.parameters()])
    optimizer.step()
    meta = {
        "mmdet_version": "2.1.0+unknown",
        "config": "model = dict(type='GFL')",
        "CLASSES": classes,
        "epoch": np.int64(24),
        "iter": 175944,
        "best": {"bbox_mAP": np.float64(0.447), "per_class": np.arange(3.0)},
        "time": "Mon Jun 29 20:01:26 2020",
    }
    checkpoint = {
        "meta": meta,
        "state_dict": OrderedDict(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        **extra,
    }
    torch.save(checkpoint, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.", b"cnumpy.core."))
    return path


def save_as_bckd_student(model: Any, path: Path) -> Path:
    """As the authors' runs wrote it: with DDP's prefixes, EMA buffers and the teacher's weights."""
    weights = model.state_dict()
    wrapped = {f"module.{name}": tensor for name, tensor in weights.items()}
    averaged = {f"ema_{name.replace('.', '_')}": tensor * 0.5 for name, tensor in weights.items()}
    teacher = {f"teacher_model.{name}": tensor * 2 for name, tensor in weights.items()}
    meta = {"mmdet_version": "2.28.2", "CLASSES": CLASSES, "epoch": 12, "hook_msgs": {}}
    state = OrderedDict({**wrapped, **averaged, **teacher})
    torch.save({"meta": meta, "state_dict": state, "optimizer": {"state": {}}}, path)
    return path


def run_model(model: Any) -> list[Tensor]:
    """The outputs of a detector's head for one image, before decoding."""
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        scores, boxes = model.eval().forward_dummy(image)
    return [*scores, *boxes]


def load_imported(
    out: Path, *, detector: Detector | None = None, classes: tuple[str, ...] = CLASSES
) -> Any:
    model = build_detector(build_detector_config(detector or make_detector(), classes=classes))
    load_teacher_weights(model, out / "old.pth", sha256=read_card(out)["sha256"])
    return model


def read_card(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "old.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("write", [save_in_old_format, save_as_bckd_student])
def test_an_original_checkpoint_becomes_the_very_same_detector(
    tmp_path: Path, write: Callable[[Any, Path], Path]
) -> None:
    model = make_mmdet_gfl(make_detector(), num_classes=4)
    source = write(model, tmp_path / "original.pth")

    result = import_teacher(source, tmp_path / "out")

    assert result.exit_code == 0, result.output
    expected = run_model(load_imported(tmp_path / "out"))
    assert all(
        torch.equal(actual, other) for actual, other in zip(expected, run_model(model), strict=True)
    )


def test_only_weights_and_classes_of_a_checkpoint_are_kept(tmp_path: Path) -> None:
    model = make_mmdet_gfl(make_detector(), num_classes=4)
    save_as_bckd_student(model, tmp_path / "original.pth")

    result = import_teacher(tmp_path / "original.pth", tmp_path / "out")

    converted = load_checkpoint(tmp_path / "out" / "old.pth")
    assert converted.keys() == {"meta", "state_dict"}
    assert converted["state_dict"].keys() == model.state_dict().keys()
    for output in ("matched", "left out: a distiller's teacher", "ema_backbone_bn1_bias"):
        assert output in result.output


def test_the_original_file_of_the_papers_teacher_fits_its_preset(tmp_path: Path) -> None:
    spec = spec_from_preset("coco/teacher_r101").student
    model = make_mmdet_gfl(make_spec_without_download(spec), num_classes=80)
    # In half precision, as pytest keeps the files of its last runs.
    torch.save({"meta": {}, "state_dict": model.half().state_dict()}, tmp_path / "r101.pth")
    digest = compute_sha256(tmp_path / "r101.pth")

    result = import_teacher(
        tmp_path / "r101.pth",
        tmp_path / "out",
        *("--preset", "coco/teacher_r101", "--classes", "coco", "--sha256", digest[:8]),
    )

    assert result.exit_code == 0, result.output
    card = read_card(tmp_path / "out")
    assert card["classes"] == list(load_class_list("coco"))
    assert card["detector"]["backbone"]["depth"] == 101
    assert card["detector"]["backbone"]["pretrained"] is None
    assert digest in card["source"]
    assert str(tmp_path) not in card["source"]


def test_the_same_file_gives_the_same_teacher_again(tmp_path: Path) -> None:
    save_in_old_format(make_mmdet_gfl(make_detector(), num_classes=4), tmp_path / "original.pth")

    import_teacher(tmp_path / "original.pth", tmp_path / "out")
    first = read_card(tmp_path / "out")
    import_teacher(tmp_path / "original.pth", tmp_path / "out")

    assert read_card(tmp_path / "out") == first


def test_a_card_is_what_the_registry_takes(tmp_path: Path, stage: Stage) -> None:
    model = make_mmdet_gfl(make_detector(), num_classes=4)
    save_in_old_format(model, tmp_path / "original.pth")
    out = stage.home / "teachers"
    import_teacher(tmp_path / "original.pth", out)

    response = stage.http.post(
        "/v1/teachers", json=read_card(out) | {"checkpoint": str(out / "old.pth")}
    )

    assert response.status_code == 201, response.text


def test_buffers_that_follow_from_the_architecture_may_be_missing(tmp_path: Path) -> None:
    detector = Detector(
        backbone=SwinTransformer(kind="swin", width=0.25, drop_path=0.0),
        neck=Neck(channels=32),
        head=make_detector().head,
    )
    model = make_mmdet_gfl(detector, num_classes=4)
    weights = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.endswith(("relative_position_index", "integral.project"))
    }
    torch.save({"state_dict": weights}, tmp_path / "original.pth")

    result = import_teacher(
        tmp_path / "original.pth",
        tmp_path / "out",
        *("--detector", str(write_config(detector, tmp_path / "swin.json"))),
        *("--classes", write_classes(CLASSES, tmp_path / "classes.txt")),
    )

    assert result.exit_code == 0, result.output
    assert "they follow from the architecture" in result.output
    expected = run_model(load_imported(tmp_path / "out", detector=detector))
    assert all(
        torch.equal(actual, other) for actual, other in zip(expected, run_model(model), strict=True)
    )


def read_refusal(result: Result, out: Path) -> str:
    """Assert a refusal without any file written; returns the output on one line."""
    assert result.exit_code == ExitCode.REFUSED, result.output
    assert not out.exists() or list(out.iterdir()) == []
    return " ".join(result.output.split())


@pytest.mark.parametrize(
    ("classes", "difference"),
    [
        (("class-0", "class-1", "dog"), "only in the file: class-2, class-3; only given: dog"),
        (CLASSES[::-1], "the same ones in another order"),
    ],
    ids=["others", "another order"],
)
def test_classes_that_differ_from_the_files_are_named(
    tmp_path: Path, classes: tuple[str, ...], difference: str
) -> None:
    save_in_old_format(make_mmdet_gfl(make_detector(), num_classes=4), tmp_path / "original.pth")

    result = import_teacher(
        tmp_path / "original.pth",
        tmp_path / "out",
        *("--classes", write_classes(classes, tmp_path / "classes.txt")),
    )

    assert difference in read_refusal(result, tmp_path / "out")


@pytest.mark.parametrize(
    "detector",
    [
        make_detector(),
        make_detector().model_copy(update={"head": RetinaHead(kind="retina", convs=1)}),
        make_detector().model_copy(update={"head": ToodHead(kind="tood", convs=1)}),
        make_detector().model_copy(update={"head": YoloxHead(kind="yolox", channels=32)}),
    ],
    ids=["gfl", "retina", "tood", "yolox"],
)
def test_another_number_of_classes_is_reported_if_the_file_has_no_names(
    tmp_path: Path, detector: Detector
) -> None:
    model = build_detector(build_detector_config(detector, classes=CLASSES))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "original.pth")

    result = import_teacher(
        tmp_path / "original.pth",
        tmp_path / "out",
        *("--detector", str(write_config(detector, tmp_path / "detector.json"))),
        *("--classes", write_classes(("cat", "dog"), tmp_path / "classes.txt")),
    )

    assert "has 4 classes and 2 are given (cat, dog)" in read_refusal(result, tmp_path / "out")


def test_a_file_without_class_names_requires_the_classes_option(tmp_path: Path) -> None:
    model = make_mmdet_gfl(make_detector(), num_classes=4)
    save_in_old_format(model, tmp_path / "original.pth", classes=None)

    result = import_teacher(tmp_path / "original.pth", tmp_path / "out")

    assert "add --classes" in read_refusal(result, tmp_path / "out")


def test_missing_and_misshapen_layers_are_named(tmp_path: Path) -> None:
    model = make_mmdet_gfl(make_detector(), num_classes=4)
    weights = copy.copy(model.state_dict())
    del weights["neck.lateral_convs.0.conv.weight"]
    weights["bbox_head.gfl_reg.bias"] = torch.zeros(7)
    torch.save({"meta": {"CLASSES": CLASSES}, "state_dict": weights}, tmp_path / "original.pth")

    output = read_refusal(
        import_teacher(tmp_path / "original.pth", tmp_path / "out"), tmp_path / "out"
    )

    assert "1 missing - neck.lateral_convs.0.conv.weight" in output
    assert "1 of another shape - bbox_head.gfl_reg.bias (7,), not (36,)" in output


def test_a_deeper_detector_is_not_cut_to_a_shallower_one(tmp_path: Path) -> None:
    deeper = make_detector().model_copy(
        update={"backbone": make_detector().backbone.model_copy(update={"depth": 34})}
    )
    save_in_old_format(make_mmdet_gfl(deeper, num_classes=4), tmp_path / "original.pth")

    strict = import_teacher(tmp_path / "original.pth", tmp_path / "out")

    assert "unexpected: the detector has no such layer" in read_refusal(strict, tmp_path / "out")
    lenient = import_teacher(tmp_path / "original.pth", tmp_path / "out", "--drop-unknown")
    assert lenient.exit_code == 0, lenient.output


def test_another_file_than_the_one_that_is_meant_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "original.pth").write_bytes(b"anything")

    result = import_teacher(tmp_path / "original.pth", tmp_path / "out", "--sha256", "dd12f847")

    assert "expected dd12f847. It was not opened" in read_refusal(result, tmp_path / "out")


def test_code_in_a_checkpoint_is_refused_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_mmdet_gfl(make_detector(), num_classes=4)
    save_in_old_format(model, tmp_path / "original.pth", hooks=CodeExecution())

    output = read_refusal(
        import_teacher(tmp_path / "original.pth", tmp_path / "out"), tmp_path / "out"
    )

    assert "contains more than weights" in output
    assert "code from a checkpoint ran" not in output + capsys.readouterr().out


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"state_dict": {"w": 1}}, [1]])
def test_a_file_without_weights_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "original.pth")

    result = import_teacher(tmp_path / "original.pth", tmp_path / "out")

    assert "no weights by name" in read_refusal(result, tmp_path / "out")


@pytest.mark.parametrize(
    "options",
    [
        ("--name", "Big Name"),
        ("--sha256", "dd12"),
        ("--preset", "coco/none"),
        ("--classes", "cocoa"),
        ("--preset", "coco/teacher_r101", "--detector", __file__),
    ],
    ids=["name", "short hash", "preset", "class list", "two architectures"],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "original.pth").write_bytes(b"")

    result = import_teacher(tmp_path / "original.pth", tmp_path / "out", *options)

    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def make_spec_without_download(detector: Detector) -> Detector:
    """The detector without ImageNet weights, which would be downloaded."""
    backbone = detector.backbone.model_copy(update={"pretrained": None})
    return detector.model_copy(update={"backbone": backbone})
