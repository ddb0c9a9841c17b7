"""Fixtures of probe tests; some modules override `digits` with a fixture of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.catalog import parse_spec
from configs.spec.run import RunSpec
from tests.support.training.digits import write_digits
from tests.support.training.probes import TRAIN, VAL, make_distilled_spec, open_student_factory
from workers.probe.builder import StudentFactory


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=TRAIN, val=VAL)


@pytest.fixture(scope="module")
def base(digits: Path) -> RunSpec:
    return parse_spec(make_distilled_spec(digits))


@pytest.fixture(scope="module")
def factory(base: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudentFactory]:
    with open_student_factory(base, tmp_path_factory.mktemp("probe")) as factory:
        yield factory
