"""Device placement of training, evaluation and other jobs, tested without a GPU.

Nothing mixes the devices, values are those of the CPU, and the host waits for the device and copies
to it no more often than the ceilings say. Lower a ceiling when a change makes it possible.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from configs.catalog import parse_spec
from configs.spec.references import TeacherFiles
from configs.spec.run import RunSpec
from tests.support.training.detectors import make_batch
from tests.support.training.device_events import DeviceEvent
from tests.support.training.digits import write_digits
from tests.support.training.distilled_students import (
    BOXES,
    HEADS,
    METHODS,
    list_heads_with_methods,
    make_detector,
    make_student,
)
from tests.support.training.jobs import load_digits_teacher
from tests.support.training.pretend_device import PretendDevice, PretendTensor
from tests.support.training.runs import make_spec
from workers.checkpoints.files import load_checkpoint, save_atomically
from workers.data.batches import HostBatch, to_device
from workers.data.loaders import build_validation_loader
from workers.data.resolve import resolve_run_dataset
from workers.distillation.teacher import share_teachers
from workers.evaluation.coco import evaluate
from workers.evaluation.detection import build_batch_detection
from workers.evaluation.inference import load_model
from workers.export.mmdet_files import WEIGHTS, write_mmdet
from workers.export.original import MmdetDetector
from workers.export.tandem_runtime import read_image
from workers.models.training_config import build_inference_pipeline
from workers.probe import costs as probe_costs
from workers.probe.builder import StudentFactory
from workers.probe.costs import measure_costs
from workers.probe.two_steps import trace_two_steps
from workers.probe.unit_losses import measure_unit_losses
from workers.training.loop import TrainLoop
from workers.training.optimizers import UncompiledSgd
from workers.training.resume import build_checkpoint, resume_runner
from workers.training.runner import Runner
from workers.training.step import TrainStep

CPU = torch.device("cpu")

CEILINGS: dict[str, tuple[int, int]] = {
    "step: gfl, bckd": (2, 7),
    "step: gfl, logit_kd": (2, 7),
    "step: gfl, ld": (4, 7),
    "step: gfl, fine_grained": (2, 7),
    "step: gfl, pkd": (2, 7),
    "step: gfl, cwd": (2, 7),
    "step: gfl, crosskd": (2, 7),
    "step: gfl, dist": (2, 7),
    "step: gfl, fgd": (2, 7),
    "step: gfl, mgd": (2, 8),
    "step: atss, bckd": (2, 12),
    "step: atss, logit_kd": (2, 8),
    "step: atss, fine_grained": (2, 8),
    "step: atss, pkd": (2, 8),
    "step: atss, cwd": (2, 8),
    "step: atss, crosskd": (2, 28),
    "step: atss, dist": (2, 8),
    "step: atss, fgd": (2, 8),
    "step: atss, mgd": (2, 9),
    "step: retina, bckd": (27, 12),
    "step: retina, logit_kd": (27, 8),
    "step: retina, fine_grained": (26, 8),
    "step: retina, pkd": (26, 8),
    "step: retina, cwd": (26, 8),
    "step: retina, crosskd": (42, 28),
    "step: retina, dist": (27, 8),
    "step: retina, fgd": (26, 8),
    "step: retina, mgd": (26, 9),
    "step: retina with one anchor, bckd": (31, 12),
    "step: retina with one anchor, logit_kd": (28, 8),
    "step: retina with one anchor, fine_grained": (28, 8),
    "step: retina with one anchor, pkd": (27, 8),
    "step: retina with one anchor, cwd": (27, 8),
    "step: retina with one anchor, crosskd": (42, 28),
    "step: retina with one anchor, dist": (28, 8),
    "step: retina with one anchor, fgd": (26, 8),
    "step: retina with one anchor, mgd": (26, 9),
    "step: fcos, bckd": (11, 14),
    "step: fcos, logit_kd": (8, 14),
    "step: fcos, fine_grained": (8, 14),
    "step: fcos, pkd": (7, 14),
    "step: fcos, cwd": (7, 14),
    "step: fcos, crosskd": (22, 14),
    "step: fcos, dist": (8, 14),
    "step: fcos, fgd": (6, 14),
    "step: fcos, mgd": (6, 15),
    "step: vfnet, bckd": (41, 17),
    "step: vfnet, logit_kd": (38, 17),
    "step: vfnet, fine_grained": (38, 17),
    "step: vfnet, pkd": (37, 17),
    "step: vfnet, cwd": (37, 17),
    "step: vfnet, dist": (38, 17),
    "step: vfnet, fgd": (36, 17),
    "step: vfnet, mgd": (36, 18),
    "step: tood, bckd": (55, 52),
    "step: tood, logit_kd": (55, 52),
    "step: tood, fine_grained": (54, 52),
    "step: tood, pkd": (54, 52),
    "step: tood, cwd": (54, 52),
    "step: tood, dist": (55, 52),
    "step: tood, fgd": (54, 52),
    "step: tood, mgd": (54, 53),
    "step: paa, bckd": (83, 33),
    "step: paa, logit_kd": (83, 25),
    "step: paa, fine_grained": (82, 25),
    "step: paa, pkd": (82, 25),
    "step: paa, cwd": (82, 25),
    "step: paa, crosskd": (82, 45),
    "step: paa, dist": (83, 25),
    "step: paa, fgd": (82, 25),
    "step: paa, mgd": (82, 26),
    "step: yolox, bckd": (19, 7),
    "step: yolox, logit_kd": (19, 7),
    "step: yolox, fine_grained": (18, 7),
    "step: yolox, pkd": (18, 7),
    "step: yolox, cwd": (18, 7),
    "step: yolox, dist": (19, 7),
    "step: gfl, every method": (54, 14),
    "step with loss shares: gfl, bckd": (48, 14),
    "step with loss shares: gfl, pkd": (45, 14),
    "detections: gfl": (10, 2),
    "detections: atss": (11, 4),
    "detections: retina": (11, 4),
    "detections: retina with one anchor": (11, 4),
    "detections: fcos": (7, 2),
    "detections: vfnet": (10, 2),
    "detections: tood": (8, 22),
    "detections: paa": (588, 33),
    "detections: yolox": (14, 4),
    "evaluation": (8, 7),
    "pack of two": (682, 611),
    "probe": (922, 1090),
    "export": (267, 262),
    "resume: sgd, fp32": (290, 678),
    "resume: adamw, fp16": (385, 769),
}
"""Maximum reads and copies of each job; a step copies a batch of two images, in 5 copies."""


def assert_within(device: PretendDevice, work: str) -> None:
    """No operator mixes devices, and reads and copies stay within limits; lists any excess."""
    reads, copies = CEILINGS[work]
    assert device.mixings == []
    assert len(device.reads) <= reads, _count_by_location(device.reads)
    assert len(device.copies) <= copies, _count_by_location(device.copies)


def _count_by_location(notes: list[DeviceEvent]) -> str:
    return "\n".join(f"{count} x {note}" for note, count in Counter(notes).most_common())


def make_distilled_student(folder: Path, head: str, method: dict[str, Any], **compute: Any) -> Any:
    teacher = make_detector(head, channels=64)
    return make_student(folder, make_detector(head), teacher, method, **compute)


def run_step(
    student: Any,
    device: torch.device,
    *,
    precision: Any = "fp32",
    max_grad_norm: float | None = None,
) -> dict[str, float]:
    """Losses of one step of SGD on two images, one without an object.

    torch adds up the gradient's norm in another order there, so without `max_grad_norm` weights are
    those of the CPU.
    """
    optimizer = UncompiledSgd(student.parameters(), lr=0.01, momentum=0.9)
    train_step = TrainStep(
        student, optimizer, device=device, precision=precision, max_grad_norm=max_grad_norm
    )
    losses: dict[str, float] = train_step.step([move_to(device, make_batch(BOXES))], number=1)[
        "log_vars"
    ]
    return losses


def move_to(device: torch.device, batch: dict[str, Any]) -> dict[str, Any]:
    return to_device(HostBatch(batch), device)


@pytest.mark.parametrize(("head", "method"), list_heads_with_methods())
def test_a_step_of_every_head_with_every_method(tmp_path: Path, head: str, method: str) -> None:
    student = make_distilled_student(tmp_path, head, METHODS[method])
    with PretendDevice() as device:
        student.to(device.device)
        device.reset()
        losses = run_step(student, device.device, max_grad_norm=35.0)

    assert_within(device, f"step: {head}, {method}")
    assert all(np.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("head", HEADS)
def test_losses_and_weights_are_those_of_the_cpu(tmp_path: Path, head: str) -> None:
    cpu_model, device_model = (
        make_distilled_student(tmp_path, head, METHODS["bckd"]) for _ in range(2)
    )
    with PretendDevice() as device:
        expected = run_step(cpu_model, CPU)
        assert device.events == []
        actual = run_step(device_model.to(device.device), device.device)
        device_model.to("cpu")

    assert actual == expected
    assert_equal(device_model.state_dict(), cpu_model.state_dict())


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


def test_all_methods_together_with_less_memory_and_precision(tmp_path: Path) -> None:
    extra = {name: method for name, method in METHODS.items() if name != "bckd"}
    method = {"method": "bckd", "extra": extra}
    compute = {"channels_last": True, "activation_checkpointing": True, "precision": "fp16"}
    student = make_distilled_student(tmp_path, "gfl", method, **compute)
    with PretendDevice() as device:
        student.to(device.device, memory_format=torch.channels_last)
        device.reset()
        run_step(student, device.device, precision="fp16")

    assert_within(device, "step: gfl, every method")


def test_the_students_classes_among_the_teachers_are_picked_on_the_device(tmp_path: Path) -> None:
    detector = make_detector("gfl")
    classes: dict[str, Any] = {"teacher_classes": 5, "columns": [4, 0, 2]}
    student = make_student(tmp_path, detector, detector, METHODS["bckd"], **classes)
    with PretendDevice() as device:
        student.to(device.device)
        device.reset()
        run_step(student, device.device)

    assert_within(device, "step: gfl, bckd")


@pytest.mark.parametrize("method", ["bckd", pytest.param("pkd", marks=pytest.mark.slow)])
def test_measuring_loss_shares(tmp_path: Path, method: str) -> None:
    cpu_model, device_model = (
        make_distilled_student(tmp_path, "gfl", METHODS[method]) for _ in range(2)
    )
    for student in (cpu_model, device_model):
        student.loss_shares.is_due = True
    with PretendDevice() as device:
        run_step(cpu_model, CPU)
        device_model.to(device.device)
        device.reset()
        run_step(device_model, device.device)

    assert_within(device, f"step with loss shares: gfl, {method}")
    assert device_model.loss_shares.shares == cpu_model.loss_shares.shares


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=2, val=2)


def make_distilled_run_spec(digits: Path, *, optimizer: Any = None, **changes: Any) -> RunSpec:
    """Train for one epoch of one step."""
    schedule = make_spec(digits)["schedule"] | {"epochs": 1, "max_grad_norm": None}
    if optimizer is not None:
        schedule |= {"optimizer": optimizer}
    fields = {"teacher": load_digits_teacher(), "distillation": {"method": "bckd"}}
    sizes = {
        "data": make_spec(digits)["data"] | {"batch_size": 2},
        "evaluation": {"pictures": 1, "batch_size": 2},
    }
    return parse_spec(make_spec(digits, schedule=schedule, **(fields | sizes | changes)))


def make_student_factory(spec: RunSpec, run_dir: Path, device: torch.device) -> StudentFactory:
    return StudentFactory(dataset=resolve_run_dataset(spec), run_dir=run_dir, device=device)


@pytest.mark.parametrize("head", HEADS)
def test_detections_of_every_head(tmp_path: Path, digits: Path, head: str) -> None:
    detector = make_student(tmp_path, make_detector(head)).eval()
    detector.bbox_head.test_cfg.score_thr = 1e-3  # it has learnt nothing
    spec = make_distilled_run_spec(digits)
    (batch,) = build_validation_loader(
        make_student_factory(spec, tmp_path, CPU).config(spec).data, spec=spec
    )

    def detect_on(device: torch.device) -> list[np.ndarray]:
        with torch.inference_mode():
            by_image = build_batch_detection(detector)(to_device(batch, device))
        return [boxes for of_image in by_image for boxes in of_image]

    expected = detect_on(CPU)
    with PretendDevice() as device:
        detector.to(device.device)
        device.reset()
        actual = detect_on(device.device)

    assert_within(device, f"detections: {head}")
    assert sum(len(boxes) for boxes in expected) > 0
    for actual_boxes, expected_boxes in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(actual_boxes, expected_boxes)


def test_an_evaluation_gives_the_scores_of_the_cpu(tmp_path: Path, digits: Path) -> None:
    files = TeacherFiles.model_validate(load_digits_teacher())
    spec = make_distilled_run_spec(digits)
    loader = build_validation_loader(
        make_student_factory(spec, tmp_path, CPU).config(spec).data, spec=spec
    )
    expected = evaluate(
        load_model(files, device=CPU).module, loader, device=CPU, max_detections=100
    )
    with PretendDevice() as device:
        model = load_model(files, device=device.device).module
        device.reset()
        actual = evaluate(model, loader, device=device.device, max_detections=100)

    assert_within(device, "evaluation")
    assert actual.mean_ap > 0
    assert actual.by_metric == expected.by_metric


def make_pack(digits: Path, run_dir: Path, device: torch.device) -> list[Runner]:
    """Two students of one teacher, trained for one epoch as a pack."""
    methods = [{"method": "bckd", "cls_weight": weight} for weight in (1.0, 2.0)]
    specs = [make_distilled_run_spec(digits, distillation=method) for method in methods]
    with share_teachers():
        factory = make_student_factory(specs[0], run_dir, device)
        runners = [factory.runner(spec) for spec in specs]
        TrainLoop(runners, factory.loader(specs[0]), device=device).run()
    return runners


def test_a_pack_with_one_teacher(tmp_path: Path, digits: Path) -> None:
    with PretendDevice() as device:
        expected = [runner.model.state_dict() for runner in make_pack(digits, tmp_path, CPU)]
        runners = make_pack(digits, tmp_path, device.device)
        for runner in runners:
            runner.model.to("cpu")

    assert runners[0].model.teacher is runners[1].model.teacher
    assert_within(device, "pack of two")
    for runner, state in zip(runners, expected, strict=True):
        assert_equal(runner.model.state_dict(), state)


@pytest.mark.slow  # half a minute; the probe's steps are those of the tests above
def test_a_probe_measures_costs_units_and_fingerprints(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_costs, "_REPEATS", 1)
    spec = make_distilled_run_spec(digits)
    with PretendDevice(), share_teachers():
        expected = trace_two_steps(make_student_factory(spec, tmp_path, CPU), spec)
    with PretendDevice() as device, share_teachers():
        device_factory = make_student_factory(spec, tmp_path, device.device)
        costs = measure_costs(device_factory, spec)
        units = measure_unit_losses(device_factory, spec)
        actual = trace_two_steps(device_factory, spec)

    assert_within(device, "probe")
    assert actual == expected
    assert units.by_weight.keys() == {"distillation.cls_weight", "distillation.loc_weight"}
    assert min(costs.load_s, costs.teacher_s, costs.student_s, costs.evaluation_s) > 0


def test_an_export_takes_a_model_on_the_device(tmp_path: Path, digits: Path) -> None:
    files = TeacherFiles.model_validate(load_digits_teacher())
    pipeline = build_inference_pipeline(files.detector, image_size=(96, 96))
    image = read_image(min((digits / "images" / "val").iterdir()))
    model = load_model(files, device=CPU).module
    expected, weights = MmdetDetector(model, pipeline).detect(image), model.state_dict()
    dataset = resolve_run_dataset(make_distilled_run_spec(digits))
    with PretendDevice() as device:
        model = load_model(files, device=device.device).module
        actual = MmdetDetector(model, pipeline).detect(image)
        write_mmdet(tmp_path, model, files, dataset=dataset, image_size=(96, 96))

    assert_within(device, "export")
    np.testing.assert_array_equal(actual.boxes_N4, expected.boxes_N4)
    assert_equal(load_checkpoint(tmp_path / WEIGHTS)["state_dict"], weights)


def save_and_load(runner: Runner, path: Path) -> dict[str, Any]:
    """The runner's checkpoint, after a round trip through the disk."""
    checkpoint = build_checkpoint(
        runner, identity={"spec": {}}, classes=("a",), epoch=0, step=runner.iter, hook_states={}
    )
    save_atomically(checkpoint, path)
    return load_checkpoint(path)


@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [
        ({"kind": "sgd", "lr": 0.01}, "fp32"),
        pytest.param({"kind": "adamw", "lr": 1e-3}, "fp16", marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_from_the_device_on_the_cpu_and_back(
    tmp_path: Path, digits: Path, optimizer: dict[str, Any], precision: str
) -> None:
    spec = make_distilled_run_spec(digits, optimizer=optimizer, compute={"precision": precision})
    cpu_factory = make_student_factory(spec, tmp_path, CPU)
    with PretendDevice() as device:
        device_factory = make_student_factory(spec, tmp_path, device.device)
        first = device_factory.runner(spec)
        first.train_step.step(device_factory.batch(spec), number=1)
        on_device = save_and_load(first, tmp_path / "device.pth")
    second = cpu_factory.runner(spec)
    resume_runner(second, on_device, identity={"spec": {}})
    on_cpu = save_and_load(second, tmp_path / "cpu.pth")
    for part in ("state_dict", "optimizer", "scaler"):
        assert_equal(flatten(on_cpu[part]), flatten(on_device[part]))
    with PretendDevice() as device:
        third = device_factory.runner(spec)
        resume_runner(third, on_cpu, identity={"spec": {}})
        state = [value for tensor in third.optimizer.state.values() for value in tensor.values()]
        assert all(isinstance(tensor, PretendTensor) for tensor in third.model.parameters())
        assert any(isinstance(tensor, PretendTensor) for tensor in state)
        third.train_step.step(device_factory.batch(spec), number=2)
        resumed = save_and_load(third, tmp_path / "back.pth")

    assert_within(device, f"resume: {optimizer['kind']}, {precision}")
    if precision == "fp32":
        with PretendDevice():
            second.train_step.step(cpu_factory.batch(spec), number=2)
        assert_equal(flatten(resumed["state_dict"]), flatten(second.model.state_dict()))
    assert on_device["scaler"] == {} or on_device["scaler"]["scale"] > 1


def flatten(value: Any, name: str = "") -> dict[str, Tensor]:
    """Every tensor and number of nested values, by its path, as tensors on the CPU."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {
            path: tensor
            for key, part in items
            for path, tensor in flatten(part, f"{name}.{key}").items()
        }
    if isinstance(value, Tensor):
        assert value.device == CPU
        return {name: value}
    return {name: torch.tensor(value)} if isinstance(value, int | float) else {}
