"""Steps with images without labels: what they add, what stays, in one process and in two."""

from pathlib import Path
from typing import Any

import pytest

from configs.metric_keys import UNLABELLED_PREFIX
from tests.support.training.detectors import make_batch
from tests.support.training.distilled_students import (
    HEADS,
    METHODS,
    make_detector,
    make_student,
    teach_itself,
)
from tests.support.training.process_groups import (
    FOUR_IMAGES,
    assert_step_agrees,
    join_two_processes,
    run_in_two_processes,
    save_half_step,
    train_step,
)
from workers.data.unlabelled import UNLABELLED

pytestmark = pytest.mark.usefixtures("one_thread")

BCKD = METHODS["bckd"]
WITH_FEATURES = BCKD | {"extra": {"pkd": METHODS["pkd"], "cwd": METHODS["cwd"]}}


def make_images(count: int = 4, *, size: int = 64, padded_to: int = 96) -> dict[str, Any]:
    """Images without labels, of another size than those of `make_batch`."""
    batch = make_batch([[]] * count, size=size, padded_to=padded_to)
    return {"img": batch["img"].flip(0) * 0.5, "img_metas": batch["img_metas"]}


def make_mixed_batch() -> dict[str, Any]:
    return make_batch(FOUR_IMAGES) | {UNLABELLED: make_images()}


def build(
    folder: Path, head: str = "gfl", method: dict[str, Any] = BCKD, *, width: int = 64
) -> Any:
    student = make_student(folder, make_detector(head), make_detector(head, channels=width), method)
    student.uses_unlabelled = True
    student.backbone.eval()  # BatchNorm over half of a batch is another BatchNorm
    return student


def train_in_process(rank: int, port: int, folder_name: str) -> None:
    folder = Path(folder_name)
    with join_two_processes(rank, port):
        for head in ("gfl", "retina"):
            own = folder / head / str(rank)
            own.mkdir(parents=True)
            file = folder / f"{head}.pt"
            save_half_step(file, build(own, head), make_mixed_batch(), rank=rank)


@pytest.fixture(scope="module")
def in_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    run_in_two_processes(train_in_process, folder)
    return folder


@pytest.mark.parametrize("head", [name for name in HEADS if name != "retina with one anchor"])
def test_labeled_terms_stay_and_terms_of_other_images_are_added(tmp_path: Path, head: str) -> None:
    labeled_only, _ = train_step(build(tmp_path, head), make_batch(FOUR_IMAGES))

    terms, gradients = train_step(build(tmp_path, head), make_mixed_batch())

    added = {name for name in terms if name.startswith(UNLABELLED_PREFIX)}
    assert added == {"unlabelled_loss_distill_cls", "unlabelled_loss_distill_loc"}
    assert all(terms[name] > 0.0 for name in added)
    labeled = {name: terms[name] for name in labeled_only if name != "loss"}
    assert labeled == pytest.approx(
        {n: v for n, v in labeled_only.items() if n != "loss"}, rel=1e-6
    )
    assert terms["loss"] == pytest.approx(labeled_only["loss"] + sum(terms[name] for name in added))
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_a_student_in_training_mode_normalizes_each_kind_of_images_by_itself(
    tmp_path: Path,
) -> None:
    labeled_only, _ = train_step(build(tmp_path).train(), make_batch(FOUR_IMAGES))

    terms, _ = train_step(build(tmp_path).train(), make_mixed_batch())

    assert {name: terms[name] for name in labeled_only if name != "loss"} == pytest.approx(
        {name: value for name, value in labeled_only.items() if name != "loss"}, rel=1e-6
    )


def test_methods_of_features_have_terms_of_images_without_labels(tmp_path: Path) -> None:
    terms, gradients = train_step(build(tmp_path, method=WITH_FEATURES), make_mixed_batch())

    assert {name for name in terms if name.startswith(UNLABELLED_PREFIX)} == {
        f"{UNLABELLED_PREFIX}loss_{term}" for term in ("distill_cls", "distill_loc", "pkd", "cwd")
    }
    assert {name for name in gradients if name.startswith("adapters")}


def test_a_student_that_is_its_own_teacher_has_nothing_to_learn_from_images(
    tmp_path: Path,
) -> None:
    student = build(tmp_path, width=32).eval()
    teach_itself(student, tmp_path, make_detector("gfl"))

    terms, _ = train_step(student, make_mixed_batch())

    assert terms["unlabelled_loss_distill_cls"] == pytest.approx(0.0, abs=1e-5)
    assert terms["unlabelled_loss_distill_loc"] == pytest.approx(0.0, abs=1e-5)


def test_a_student_without_the_setting_ignores_the_images_of_its_pack(tmp_path: Path) -> None:
    student = build(tmp_path)
    student.uses_unlabelled = False

    terms, _ = train_step(student, make_mixed_batch())

    assert terms == train_step(build(tmp_path), make_batch(FOUR_IMAGES))[0]


def test_a_step_without_any_term_does_not_run_on_the_images(tmp_path: Path) -> None:
    student = build(
        tmp_path, method=BCKD | {"cls_weight": {"stop_epoch": 1}, "loc_weight": {"stop_epoch": 1}}
    )
    student.use_weights({"distillation.cls_weight": 0.0, "distillation.loc_weight": 0.0})

    terms, _ = train_step(student, make_mixed_batch())

    stopped = {name: value for name, value in terms.items() if "distill" in name}
    assert stopped == {
        f"{prefix}loss_distill_{term}": 0.0
        for prefix in ("", UNLABELLED_PREFIX)
        for term in ("cls", "loc")
    }


def test_shares_are_those_of_labeled_images(tmp_path: Path) -> None:
    students = [build(tmp_path, method=WITH_FEATURES) for _ in range(2)]
    for student in students:
        student.gradient_norms.is_due = True
        student.loss_shares.is_due = True

    for student, batch in zip(students, (make_batch(FOUR_IMAGES), make_mixed_batch()), strict=True):
        train_step(student, batch)

    labeled_only, mixed = (student.gradient_norms.take() for student in students)
    assert mixed == pytest.approx(labeled_only, rel=1e-6)
    assert students[0].loss_shares.shares == students[1].loss_shares.shares


@pytest.mark.parametrize("head", ["gfl", "retina"])
def test_two_processes_compute_the_gradients_of_one(
    tmp_path: Path, in_two_processes: Path, head: str
) -> None:
    terms, gradients = train_step(build(tmp_path, head), make_mixed_batch())

    assert_step_agrees(in_two_processes / f"{head}.pt", terms, gradients)
