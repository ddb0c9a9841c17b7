"""Probes of runs with images without labels count them in memory and time, and in no own loss."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.catalog import parse_spec
from configs.spec.run import RunSpec
from tests.support.training.digits import write_unlabelled
from tests.support.training.probes import (
    UNMEASURED,
    choice,
    make_analyzer,
    make_distilled_spec,
    make_probe_spec,
    open_student_factory,
)
from workers.data.unlabelled import UNLABELLED
from workers.probe.builder import StudentFactory
from workers.probe.costs import measure_costs
from workers.probe.shapes import largest_batch
from workers.probe.unit_losses import measure_unit_losses


@pytest.fixture(scope="module")
def base(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    photos = write_unlabelled(tmp_path_factory.mktemp("unlabelled"), images=5)
    spec = make_distilled_spec(digits)
    unlabelled = {"dataset": {"root": str(photos)}, "images_per_batch": 4}
    return parse_spec(spec | {"data": spec["data"] | {"unlabelled": unlabelled}})


@pytest.fixture(scope="module")
def factory(base: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudentFactory]:
    with open_student_factory(base, tmp_path_factory.mktemp("probe")) as factory:
        yield factory


def test_the_largest_batch_has_them(factory: StudentFactory, base: RunSpec) -> None:
    (micro_batch,) = largest_batch(factory, base)

    assert micro_batch["img"].shape == (8, 3, 96, 96)
    assert micro_batch[UNLABELLED]["img"].shape == (4, 3, 96, 96)
    assert measure_costs(factory, base).student_s > 0


def test_unit_losses_are_those_of_labeled_images(factory: StudentFactory, base: RunSpec) -> None:
    data = base.data.model_copy(update={"unlabelled": None})
    labeled_only = base.model_copy(update={"data": data})

    assert measure_unit_losses(factory, base) == measure_unit_losses(factory, labeled_only)


def test_their_number_has_an_effect(factory: StudentFactory, base: RunSpec) -> None:
    document = base.model_dump(mode="json")
    spec = make_probe_spec(document, {"data.unlabelled.images_per_batch": choice(2, 4)})

    effect = make_analyzer(factory, spec, UNMEASURED).analyze(
        spec.space, "data.unlabelled.images_per_batch"
    )

    assert effect.detail == "the image preprocessing"
