"""A run and its record have the same values."""

import pytest

from service.domain.run_fields import RUN_FIELDS, build_run, flatten_run
from tests.support.factories import make_run


def test_a_run_and_its_record_have_the_same_values() -> None:
    run = make_run(pack_size=4, pack_job="p1", best_map=0.3, trial=1, message="m")

    record = flatten_run(run)

    assert set(record) == set(RUN_FIELDS)
    assert (record["pack_size"], record["pack_job"]) == (4, "p1")
    assert build_run(record) == run


def test_no_two_fields_have_one_name() -> None:
    assert len(set(RUN_FIELDS)) == len(RUN_FIELDS)


def test_a_value_of_no_field_is_refused() -> None:
    with pytest.raises(TypeError, match="color"):
        make_run(color="red")
