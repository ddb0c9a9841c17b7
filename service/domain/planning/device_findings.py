"""What speaks against how a spec would use a GPU: nothing that fails, all that disappoints."""

from collections.abc import Iterator

from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.domain.planning.findings import Finding, warning

_FEWEST_LOADERS = 4
"""Processes that load images below which a GPU usually waits for them."""


def device_findings(spec: JobSpec) -> Iterator[Finding]:
    """Warnings about a training run on GPUs; none for other jobs, nor on CPUs."""
    if isinstance(spec, RunSpec) and spec.resources.num_gpus > 0:
        yield from _loader_findings(spec)
        yield from _precision_findings(spec)


def _loader_findings(spec: RunSpec) -> Iterator[Finding]:
    loaders, cpus = spec.data.num_workers, spec.resources.num_cpus
    if loaders < _FEWEST_LOADERS:
        yield warning(
            "data.num_workers",
            "few_loader_workers",
            f"The GPU is likely to wait for images: data.num_workers is {loaders}. "
            f"{_FEWEST_LOADERS} or more are usual, with as many resources.num_cpus.",
        )
    if loaders > cpus:
        yield warning(
            "resources.num_cpus",
            "more_loader_workers_than_cpus",
            f"{loaders} processes load images (data.num_workers) on resources.num_cpus {cpus}; "
            "raise num_cpus so that each has a core.",
        )


def _precision_findings(spec: RunSpec) -> Iterator[Finding]:
    precision = spec.compute.precision
    if precision == "fp32":
        yield warning(
            "compute.precision",
            "fp32_without_tensor_cores",
            "fp32 is IEEE fp32 and uses no tensor cores; tf32 does, on NVIDIA Ampere and later, "
            "and is recommended for training. Evaluation is in fp32 either way.",
        )
    if precision in ("bf16", "fp16") and spec.student.head.kind == "vfnet":
        yield warning(
            "compute.precision",
            "head_stays_fp32",
            f"VFNet's head computes in fp32 whatever compute.precision says ({precision}): its "
            "deformable convolutions have no bf16. Backbone and neck gain, the head does not.",
        )
