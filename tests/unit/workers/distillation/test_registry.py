"""All distillation methods by name."""

from typing import Any, get_args

import pytest

from configs.metric_keys import DISTILLATION_TERMS
from configs.spec.distillation import Bckd, ExtraMethods, Method
from workers.distillation.methods.registry import METHODS


def test_every_method_of_the_spec_has_its_code() -> None:
    spec_types = {spec_type.name(): spec_type for spec_type in get_args(Method)}

    assert {name: method.spec_type for name, method in METHODS.items()} == spec_types


def test_every_method_except_bckd_can_be_added_to_it() -> None:
    assert set(ExtraMethods.model_fields) == METHODS.keys() - {Bckd.name()}


def test_no_two_methods_share_a_loss_term() -> None:
    terms = [term for method in METHODS.values() for term in method.spec_type.traits.terms.values()]

    assert len(terms) == len(set(terms))
    assert set(terms) == DISTILLATION_TERMS


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_a_loss_term_belongs_to_a_weight(method: Any) -> None:
    spec_type = method.spec_type

    assert spec_type.traits.terms.keys() <= spec_type.model_fields.keys()
