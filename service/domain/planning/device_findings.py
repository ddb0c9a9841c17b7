"""Warnings about inefficient use of a GPU."""

from collections.abc import Iterator

from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.domain.planning.findings import Finding, warning

_MIN_WORKERS = 4
"""With fewer data loader workers, a GPU usually waits for images."""


def device_findings(spec: JobSpec) -> Iterator[Finding]:
    """Warnings about a training run on GPUs; other jobs, and runs on CPUs, get none."""
    if isinstance(spec, RunSpec) and spec.resources.num_gpus > 0:
        yield from _worker_findings(spec)
        yield from _precision_findings(spec)


def _worker_findings(spec: RunSpec) -> Iterator[Finding]:
    workers, cpus = spec.data.num_workers, spec.resources.num_cpus
    if workers < _MIN_WORKERS:
        yield warning(
            "data.num_workers",
            "too_few_loader_workers",
            f"The GPU is likely to wait for images: data.num_workers is {workers}. "
            f"{_MIN_WORKERS} or more are usual, with as many resources.num_cpus.",
        )
    if workers > cpus:
        yield warning(
            "resources.num_cpus",
            "more_loader_workers_than_cpus",
            f"{workers} processes (data.num_workers) load images on {cpus} CPUs; "
            "raise resources.num_cpus so that each process has a core.",
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
    kind = spec.student.head.kind
    if precision in ("bf16", "fp16") and kind in ("vfnet", "tood"):
        yield warning(
            "compute.precision",
            "head_stays_fp32",
            f"A {kind} head computes in fp32 whatever compute.precision says ({precision}): its "
            "deformable convolutions have no bf16. Backbone and neck gain, the head does not.",
        )
