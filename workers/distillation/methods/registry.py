"""All distillation methods by name."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from configs.spec.distillation import MethodSpec
from workers.distillation.batch import DistillationBatch
from workers.distillation.methods.base import DistillationMethod, Terms
from workers.distillation.methods.bckd import BckdMethod
from workers.distillation.methods.crosskd import CrossKdMethod
from workers.distillation.methods.cwd import CwdMethod
from workers.distillation.methods.fine_grained import FineGrainedMethod
from workers.distillation.methods.ld import LdMethod
from workers.distillation.methods.logit_kd import LogitKdMethod
from workers.distillation.methods.pkd import PkdMethod

METHODS: Mapping[str, DistillationMethod[Any]] = MappingProxyType(
    {
        method.spec_type.name(): method
        for method in (
            BckdMethod(),
            LogitKdMethod(),
            LdMethod(),
            FineGrainedMethod(),
            PkdMethod(),
            CwdMethod(),
            CrossKdMethod(),
        )
    }
)


def compute_terms(spec: MethodSpec, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:
    """Compute the loss terms of one method. Terms with weight 0 are not computed at all."""
    return METHODS[spec.method].terms(spec, batch, adapters)


def build_adapters(specs: Iterable[MethodSpec], student: Any, teacher: Any) -> nn.ModuleDict:
    """Build the adapters of all methods.

    They are trained with the student and are not exported.
    """
    adapters = nn.ModuleDict()
    for spec in specs:
        adapters.update(METHODS[spec.method].build_adapters(spec, student, teacher))
    return adapters
