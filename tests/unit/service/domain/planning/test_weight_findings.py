"""ImageNet weights of a student's backbone: what the plan says of them."""

from typing import Any

import pytest

from configs.catalog import parse_spec
from service.domain.planning.findings import Facts
from service.domain.planning.weight_findings import weight_findings
from service.domain.ports import Node, WeightsStatus
from tests.support.factories import make_spec

NODE = Node(2.0, 0.0, 2.0, 0.0)
LITE0 = {"kind": "efficientnet_lite", "variant": 0, "pretrained": "imagenet"}
LITE2 = {"kind": "efficientnet_lite", "variant": 2, "pretrained": "imagenet"}
R50 = {"kind": "resnet", "depth": 50, "pretrained": "imagenet"}
SWIN = {"kind": "swin", "pretrained": "imagenet"}
RANDOM = {"kind": "resnet", "depth": 18}
PRESENT = WeightsStatus(is_present=True, command="get them")
MISSING = WeightsStatus(is_present=False, command="get them")

FINDINGS: dict[str, tuple[dict[str, Any], Facts, list[tuple[str, str]]]] = {
    "no weights": (RANDOM, Facts(), []),
    "a package that is there": (LITE2, Facts(weights=PRESENT), []),
    "a file that is there": (R50, Facts(weights=PRESENT), []),
    "a missing package": (
        LITE2,
        Facts(weights=MISSING, nodes=(NODE,)),
        [("error", "weights_missing")],
    ),
    "a missing package of the worker itself": (
        LITE0,
        Facts(weights=MISSING, nodes=(NODE,)),
        [("error", "weights_missing")],
    ),
    "a package that other machines may have": (
        LITE2,
        Facts(weights=MISSING, nodes=(NODE, NODE)),
        [("warning", "weights_missing")],
    ),
    "a cluster that does not answer": (
        LITE2,
        Facts(weights=MISSING, nodes=None),
        [("warning", "weights_missing")],
    ),
    "a file that will be downloaded": (
        SWIN,
        Facts(weights=MISSING, nodes=(NODE,)),
        [("warning", "weights_not_cached")],
    ),
    "a package out of sight": (LITE2, Facts(), [("warning", "weights_unchecked")]),
    "a package of every worker, out of sight": (LITE0, Facts(), []),
    "a file out of sight": (R50, Facts(), [("warning", "weights_unchecked")]),
}


@pytest.mark.parametrize(("backbone", "facts", "expected"), FINDINGS.values(), ids=FINDINGS.keys())
def test_missing_weights_are_a_finding(
    backbone: dict[str, Any], facts: Facts, expected: list[tuple[str, str]]
) -> None:
    spec = parse_spec(make_spec(student={"backbone": backbone}))

    findings = list(weight_findings(spec, facts))

    assert [(finding.severity, finding.code) for finding in findings] == expected
    for finding in findings:
        assert finding.field == "student.backbone.pretrained"
        assert ("get them" in finding.message) == (facts.weights is MISSING)
