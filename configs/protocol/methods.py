"""The distillation methods of other packages, as a worker's environment has them."""

from pydantic import JsonValue

from configs.spec.base import Contract
from configs.spec.installed_methods import MethodRelease


class MethodCard(Contract):
    """A method that another package adds."""

    name: str
    title: str
    package: str
    release: MethodRelease
    terms: dict[str, str]
    """The loss term of each weight, without `loss_`."""

    fields: dict[str, JsonValue]
    """JSON Schema of its fields."""


class MethodCatalog(Contract):
    """All methods of an environment that are not Tandem's own."""

    methods: tuple[MethodCard, ...]
    problems: tuple[str, ...] = ()
    """Why other methods that are installed cannot be used."""
