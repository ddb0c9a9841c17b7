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
from configs.spec.run import RunSpec, TeacherFiles
from tests.support.training.detectors import a_batch
from tests.support.training.device_notes import Note
from tests.support.training.digits import write_digits
from tests.support.training.distilled_students import (
    BOXES,
    HEADS,
    METHODS,
    a_detector,
    a_student,
    is_possible,
)
from tests.support.training.jobs import the_teacher
from tests.support.training.pretend_device import PretendDevice, PretendTensor
from tests.support.training.runs import a_spec
from workers.checkpoints.files import load_checkpoint, save_atomically
from workers.data.batches import HostBatch, to_device
from workers.data.loaders import build_validation_loader
from workers.data.resolve import resolve_run_dataset
from workers.distillation.teacher import share_teachers
from workers.evaluation.coco import evaluate
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
from workers.training.resume import build_checkpoint, resume_runner
from workers.training.runner import Runner
from workers.training.step import TrainStep

CPU = torch.device("cpu")

CEILINGS: dict[str, tuple[int, int]] = {
    "step: gfl, bckd": (47, 14),
    "step: gfl, logit_kd": (44, 14),
    "step: gfl, ld": (47, 14),
    "step: gfl, fine_grained": (44, 14),
    "step: gfl, pkd": (43, 14),
    "step: gfl, cwd": (43, 14),
    "step: gfl, crosskd": (43, 14),
    "step: atss, bckd": (43, 19),
    "step: atss, logit_kd": (40, 15),
    "step: atss, fine_grained": (40, 15),
    "step: atss, pkd": (39, 15),
    "step: atss, cwd": (39, 15),
    "step: atss, crosskd": (54, 35),
    "step: retina, bckd": (31, 12),
    "step: retina, logit_kd": (28, 8),
    "step: retina, fine_grained": (28, 8),
    "step: retina, pkd": (27, 8),
    "step: retina, cwd": (27, 8),
    "step: retina, crosskd": (42, 28),
    "step: retina with one anchor, bckd": (31, 12),
    "step: retina with one anchor, logit_kd": (28, 8),
    "step: retina with one anchor, fine_grained": (28, 8),
    "step: retina with one anchor, pkd": (27, 8),
    "step: retina with one anchor, cwd": (27, 8),
    "step: retina with one anchor, crosskd": (42, 28),
    "step: fcos, bckd": (11, 14),
    "step: fcos, logit_kd": (8, 14),
    "step: fcos, fine_grained": (8, 14),
    "step: fcos, pkd": (7, 14),
    "step: fcos, cwd": (7, 14),
    "step: fcos, crosskd": (22, 14),
    "step: vfnet, bckd": (41, 17),
    "step: vfnet, logit_kd": (38, 17),
    "step: vfnet, fine_grained": (38, 17),
    "step: vfnet, pkd": (37, 17),
    "step: vfnet, cwd": (37, 17),
    "step: gfl, every method": (54, 14),
    "step with loss shares: gfl, bckd": (48, 14),
    "step with loss shares: gfl, pkd": (45, 14),
    "detections: gfl": (26, 5),
    "detections: atss": (26, 25),
    "detections: retina": (26, 25),
    "detections: retina with one anchor": (26, 25),
    "detections: fcos": (26, 5),
    "detections: vfnet": (26, 5),
    "evaluation": (26, 10),
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
    assert len(device.reads) <= reads, _by_place(device.reads)
    assert len(device.copies) <= copies, _by_place(device.copies)


def _by_place(notes: list[Note]) -> str:
    return "\n".join(f"{count} x {note}" for note, count in Counter(notes).most_common())


def a_taught_student(folder: Path, head: str, method: dict[str, Any], **compute: Any) -> Any:
    teacher = a_detector(head, channels=64)
    return a_student(folder, a_detector(head), teacher, method, **compute)


def a_step(
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
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9)
    train_step = TrainStep(
        student, optimizer, device=device, precision=precision, max_grad_norm=max_grad_norm
    )
    losses: dict[str, float] = train_step.step([place_on(device, a_batch(BOXES))], number=1)[
        "log_vars"
    ]
    return losses


def place_on(device: torch.device, batch: dict[str, Any]) -> dict[str, Any]:
    return to_device(HostBatch(batch), device)


@pytest.mark.parametrize(
    ("head", "method"), [(h, m) for h in HEADS for m in METHODS if is_possible(h, m)]
)
def test_a_step_of_every_head_with_every_method(tmp_path: Path, head: str, method: str) -> None:
    student = a_taught_student(tmp_path, head, METHODS[method])
    with PretendDevice() as device:
        student.to(device.device)
        device.forget()
        losses = a_step(student, device.device, max_grad_norm=35.0)

    assert_within(device, f"step: {head}, {method}")
    assert all(np.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("head", HEADS)
def test_losses_and_weights_are_those_of_the_cpu(tmp_path: Path, head: str) -> None:
    here, there = (a_taught_student(tmp_path, head, METHODS["bckd"]) for _ in range(2))
    with PretendDevice() as device:
        wanted = a_step(here, CPU)
        assert device.notes == []
        found = a_step(there.to(device.device), device.device)
        there.to("cpu")

    assert found == wanted
    assert_equal(there.state_dict(), here.state_dict())


def assert_equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


def test_all_methods_together_with_less_memory_and_precision(tmp_path: Path) -> None:
    extra = {name: method for name, method in METHODS.items() if name != "bckd"}
    method = {"method": "bckd", "extra": extra}
    compute = {"channels_last": True, "activation_checkpointing": True, "precision": "fp16"}
    student = a_taught_student(tmp_path, "gfl", method, **compute)
    with PretendDevice() as device:
        student.to(device.device, memory_format=torch.channels_last)
        device.forget()
        a_step(student, device.device, precision="fp16")

    assert_within(device, "step: gfl, every method")


def test_the_students_classes_among_the_teachers_are_picked_on_the_device(tmp_path: Path) -> None:
    detector = a_detector("gfl")
    classes: dict[str, Any] = {"teacher_classes": 5, "columns": [4, 0, 2]}
    student = a_student(tmp_path, detector, detector, METHODS["bckd"], **classes)
    with PretendDevice() as device:
        student.to(device.device)
        device.forget()
        a_step(student, device.device)

    assert_within(device, "step: gfl, bckd")


@pytest.mark.parametrize("method", ["bckd", "pkd"])
def test_a_look_at_the_loss_shares(tmp_path: Path, method: str) -> None:
    here, there = (a_taught_student(tmp_path, "gfl", METHODS[method]) for _ in range(2))
    for student in (here, there):
        student.loss_shares.is_due = True
    with PretendDevice() as device:
        a_step(here, CPU)
        there.to(device.device)
        device.forget()
        a_step(there, device.device)

    assert_within(device, f"step with loss shares: gfl, {method}")
    assert there.loss_shares.shares == here.loss_shares.shares


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=2, val=2)


def a_taught_run(digits: Path, *, optimizer: Any = None, **changes: Any) -> RunSpec:
    """Train for one epoch of one step."""
    schedule = a_spec(digits)["schedule"] | {"epochs": 1, "max_grad_norm": None}
    if optimizer is not None:
        schedule |= {"optimizer": optimizer}
    taught = {"teacher": the_teacher(), "distillation": {"method": "bckd"}}
    sizes = {
        "data": a_spec(digits)["data"] | {"batch_size": 2},
        "evaluation": {"pictures": 1, "batch_size": 2},
    }
    return parse_spec(a_spec(digits, schedule=schedule, **(taught | sizes | changes)))


def a_bench(spec: RunSpec, run_dir: Path, device: torch.device) -> StudentFactory:
    return StudentFactory(dataset=resolve_run_dataset(spec), run_dir=run_dir, device=device)


@pytest.mark.parametrize("head", HEADS)
def test_detections_of_every_head(tmp_path: Path, digits: Path, head: str) -> None:
    detector = a_student(tmp_path, a_detector(head)).eval()
    detector.bbox_head.test_cfg.score_thr = 1e-3  # it has learnt nothing
    spec = a_taught_run(digits)
    (batch,) = build_validation_loader(a_bench(spec, tmp_path, CPU).config(spec).data, spec=spec)

    def found_on(device: torch.device) -> list[np.ndarray]:
        with torch.inference_mode():
            by_image = detector(return_loss=False, rescale=True, **to_device(batch, device))
        return [boxes for of_image in by_image for boxes in of_image]

    wanted = found_on(CPU)
    with PretendDevice() as device:
        detector.to(device.device)
        device.forget()
        found = found_on(device.device)

    assert_within(device, f"detections: {head}")
    assert sum(len(boxes) for boxes in wanted) > 0
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_evaluation_gives_the_scores_of_the_cpu(tmp_path: Path, digits: Path) -> None:
    files = TeacherFiles.model_validate(the_teacher())
    spec = a_taught_run(digits)
    loader = build_validation_loader(a_bench(spec, tmp_path, CPU).config(spec).data, spec=spec)
    wanted = evaluate(load_model(files, device=CPU).module, loader, device=CPU)
    with PretendDevice() as device:
        model = load_model(files, device=device.device).module
        device.forget()
        found = evaluate(model, loader, device=device.device)

    assert_within(device, "evaluation")
    assert found.mean_ap > 0
    assert found.by_metric == wanted.by_metric


def a_pack(digits: Path, run_dir: Path, device: torch.device) -> list[Runner]:
    """Two students of one teacher, trained for one epoch as a pack."""
    methods = [{"method": "bckd", "cls_weight": weight} for weight in (1.0, 2.0)]
    specs = [a_taught_run(digits, distillation=method) for method in methods]
    with share_teachers():
        bench = a_bench(specs[0], run_dir, device)
        runners = [bench.runner(spec) for spec in specs]
        TrainLoop(runners, bench.loader(specs[0]), device=device).run()
    return runners


def test_a_pack_with_one_teacher(tmp_path: Path, digits: Path) -> None:
    with PretendDevice() as device:
        wanted = [runner.model.state_dict() for runner in a_pack(digits, tmp_path, CPU)]
        runners = a_pack(digits, tmp_path, device.device)
        for runner in runners:
            runner.model.to("cpu")

    assert runners[0].model.teacher is runners[1].model.teacher
    assert_within(device, "pack of two")
    for runner, state in zip(runners, wanted, strict=True):
        assert_equal(runner.model.state_dict(), state)


def test_a_probe_measures_costs_units_and_fingerprints(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_costs, "_REPEATS", 1)
    spec = a_taught_run(digits)
    with PretendDevice(), share_teachers():
        wanted = trace_two_steps(a_bench(spec, tmp_path, CPU), spec)
    with PretendDevice() as device, share_teachers():
        there = a_bench(spec, tmp_path, device.device)
        costs = measure_costs(there, spec)
        units = measure_unit_losses(there, spec)
        found = trace_two_steps(there, spec)

    assert_within(device, "probe")
    assert found == wanted
    assert units.by_weight.keys() == {"distillation.cls_weight", "distillation.loc_weight"}
    assert min(costs.load_s, costs.teacher_s, costs.student_s, costs.evaluation_s) > 0


def test_an_export_takes_a_model_on_the_device(tmp_path: Path, digits: Path) -> None:
    files = TeacherFiles.model_validate(the_teacher())
    pipeline = build_inference_pipeline(files.detector, image_size=(96, 96))
    image = read_image(min((digits / "images" / "val").iterdir()))
    model = load_model(files, device=CPU).module
    wanted, weights = MmdetDetector(model, pipeline).detect(image), model.state_dict()
    dataset = resolve_run_dataset(a_taught_run(digits))
    with PretendDevice() as device:
        model = load_model(files, device=device.device).module
        found = MmdetDetector(model, pipeline).detect(image)
        write_mmdet(tmp_path, model, files, dataset=dataset, image_size=(96, 96))

    assert_within(device, "export")
    np.testing.assert_array_equal(found.boxes_N4, wanted.boxes_N4)
    assert_equal(load_checkpoint(tmp_path / WEIGHTS)["state_dict"], weights)


def saved(runner: Runner, path: Path) -> dict[str, Any]:
    """The runner's checkpoint, after a round trip through the disk."""
    checkpoint = build_checkpoint(
        runner, identity={}, classes=("a",), epoch=0, step=runner.iter, hook_states={}
    )
    save_atomically(checkpoint, path)
    return load_checkpoint(path)


@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [({"kind": "sgd", "lr": 0.01}, "fp32"), ({"kind": "adamw", "lr": 1e-3}, "fp16")],
)
def test_a_run_goes_on_from_the_device_on_the_cpu_and_back(
    tmp_path: Path, digits: Path, optimizer: dict[str, Any], precision: str
) -> None:
    spec = a_taught_run(digits, optimizer=optimizer, compute={"precision": precision})
    here = a_bench(spec, tmp_path, CPU)
    with PretendDevice() as device:
        there = a_bench(spec, tmp_path, device.device)
        first = there.runner(spec)
        first.train_step.step(there.batch(spec), number=1)
        on_device = saved(first, tmp_path / "device.pth")
    second = here.runner(spec)
    resume_runner(second, on_device, identity={})
    on_cpu = saved(second, tmp_path / "cpu.pth")
    for part in ("state_dict", "optimizer", "scaler"):
        assert_equal(flat(on_cpu[part]), flat(on_device[part]))
    with PretendDevice() as device:
        third = there.runner(spec)
        resume_runner(third, on_cpu, identity={})
        state = [value for of in third.optimizer.state.values() for value in of.values()]
        assert all(isinstance(of, PretendTensor) for of in third.model.parameters())
        assert any(isinstance(of, PretendTensor) for of in state)
        third.train_step.step(there.batch(spec), number=2)
        back = saved(third, tmp_path / "back.pth")

    assert_within(device, f"resume: {optimizer['kind']}, {precision}")
    if precision == "fp32":
        with PretendDevice():
            second.train_step.step(here.batch(spec), number=2)
        assert_equal(flat(back["state_dict"]), flat(second.model.state_dict()))
    assert on_device["scaler"] == {} or on_device["scaler"]["scale"] > 1


def flat(value: Any, name: str = "") -> dict[str, Tensor]:
    """Every tensor and number of nested values, by its path, as tensors on the CPU."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {
            place: tensor
            for key, part in items
            for place, tensor in flat(part, f"{name}.{key}").items()
        }
    if isinstance(value, Tensor):
        assert value.device == CPU
        return {name: value}
    return {name: torch.tensor(value)} if isinstance(value, int | float) else {}
