"""Warnings about the data of a run, from the statistics of its dataset."""

from typing import Any

import pytest

from configs.catalog import parse_spec
from configs.protocol.dataset_statistics import DatasetStatistics, NearDuplicate, RelativeSizes
from configs.spec.run import RunSpec
from service.domain.planning.dataset_findings import dataset_findings
from tests.support.dataset_statistics import make_part, make_statistics
from tests.support.factories import make_spec

TINY = make_part(relative_sizes=(RelativeSizes(image_ratio=1.0, counts={-40: 200, -8: 200}),))
PAIR = NearDuplicate(val="b.jpg", train="a.jpg", distance=4)

FINDINGS: dict[str, tuple[DatasetStatistics, tuple[str, ...]]] = {
    "data.dataset class_not_validated": (
        make_statistics(val=make_part(class_objects=(400, 0))),
        ("1 of 2 classes has no object", "dog", "Split the images again"),
    ),
    "data.dataset class_rarely_validated": (
        make_statistics(val=make_part(class_objects=(391, 9))),
        ("1 of 2 classes has fewer than 10", "dog (9)", "Annotate more"),
    ),
    "data.dataset few_validation_images": (
        make_statistics(val=make_part(num_images=49)),
        ("evaluated on 49 images", "larger share for validation"),
    ),
    "evaluation.max_detections crowded_images": (
        make_statistics(train=make_part(num_crowded_images=3, max_objects=140)),
        (
            "up to 140 objects (a.jpg)",
            "at most 100 detections",
            "Set evaluation.max_detections=300",
            "tiles",
        ),
    ),
    "data.image_size tiny_objects": (
        make_statistics(train=TINY, val=TINY),
        ("50 % of the objects", "8 px at 96 x 96", "Raise data.image_size"),
    ),
    "data.dataset near_duplicates": (
        make_statistics(num_near_duplicates=7, near_duplicates=(PAIR,)),
        ("7 of 200 validation images look", "b.jpg like a.jpg", "Remove them"),
    ),
}


def parse(**changes: Any) -> RunSpec:
    spec = parse_spec(make_spec(**changes))
    assert isinstance(spec, RunSpec)
    return spec


def test_nothing_stands_against_data_with_enough_of_everything() -> None:
    assert list(dataset_findings(parse(), make_statistics())) == []


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_says_what_how_many_and_what_to_do(name: str) -> None:
    statistics, texts = FINDINGS[name]

    (finding,) = dataset_findings(parse(), statistics)

    assert finding.severity == "warning"
    assert f"{finding.field} {finding.code}" == name
    for text in texts:
        assert text in finding.message


def test_a_limit_of_the_spec_is_what_to_raise() -> None:
    spec = parse(evaluation={"val_images": 20})

    (finding,) = dataset_findings(spec, make_statistics())

    assert finding.field == "evaluation.val_images"
    assert "There are 200" in finding.message


@pytest.mark.parametrize(
    ("limit", "max_objects", "advice"),
    [
        (300, 140, None),
        (300, 300, None),
        (300, 301, "Set evaluation.max_detections=700"),
        (12, 13, "Set evaluation.max_detections=100"),
        (300, 999, "Set evaluation.max_detections=1000"),
        (300, 1001, "lose fewer with evaluation.max_detections=1000"),
        (1000, 1001, "1000 is the most that there is"),
    ],
)
def test_images_are_crowded_beyond_the_limit_of_the_spec(
    limit: int, max_objects: int, advice: str | None
) -> None:
    statistics = make_statistics(val=make_part(num_crowded_images=1, max_objects=max_objects))

    findings = list(dataset_findings(parse(evaluation={"max_detections": limit}), statistics))

    assert [advice is not None and advice in finding.message for finding in findings] == (
        [] if advice is None else [True]
    )


def test_a_larger_image_size_makes_objects_large_enough() -> None:
    spec = parse(data=make_spec()["data"] | {"image_size": [640, 640]})

    assert list(dataset_findings(spec, make_statistics(train=TINY, val=TINY))) == []
