"""`tandem-worker doctor`: runs what training needs of a machine, and reports findings."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from configs.protocol.names import GPUS_FINDING
from workers.machine.driver import DriverInfo, NvmlResult, query_nvml, read_driver
from workers.machine.extension import compiled_targets
from workers.machine.finding import MachineFinding
from workers.machine.gpu import GpuReport, examine_gpus
from workers.machine.gpu_findings import TorchBuild, examine_machine, load_torch_build
from workers.machine.proof import (
    PACKAGES,
    OperatorProof,
    describe_circumstances,
    forget_proof,
    read_proof,
    write_proof,
)

_GIB = 1 << 30
_SHARED_MEMORY_FOR_GPU = 2 * _GIB
"""For data loaders and NCCL: 4 loader workers prefetch 1.65 GiB of COCO images in batches of 16."""

_MIN_SHARED_MEMORY = _GIB


@dataclass(frozen=True)
class DoctorEnvironment:
    """What the checks read; tests pass another one."""

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    ask_nvml: Callable[[], NvmlResult] = query_nvml
    torch_build: TorchBuild | None = None
    """None: that of this process, whose import takes seconds."""

    examine: Callable[..., Sequence[GpuReport]] = examine_gpus


def run_checks(
    machine: DoctorEnvironment | None = None,
    *,
    proof_file: Path | None = None,
    reuses_proof: bool = False,
) -> list[MachineFinding]:
    """Run all checks; a failed one does not prevent the others.

    If the test of mmcv's operators passes, `proof_file` remembers that; if it fails, a former proof
    is removed. `reuses_proof`: do not run that test while the proof in the file is valid. GPUs are
    always examined: they break without any file that changes.
    """
    machine = machine or DoctorEnvironment()
    driver = read_driver(machine.root, environment=machine.environment, ask_nvml=machine.ask_nvml)
    circumstances = describe_circumstances(machine.root)
    proof = None
    if proof_file is not None and reuses_proof:
        proof = read_proof(proof_file, circumstances)
    operators = _check_libraries() if proof is None else _recall_findings(proof)
    gpus, num_gpus = _check_gpus(machine, driver, proof)
    if proof_file is not None and proof is None:
        if all(finding.ok for finding in operators):
            cuda = load_torch_build().cuda
            write_proof(proof_file, tuple(operators), circumstances=circumstances, cuda=cuda)
        else:
            forget_proof(proof_file)
    shared_memory = machine.root / "dev" / "shm"
    return [
        *operators,
        *gpus,
        _run_check(
            "shared memory",
            lambda: _check_shared_memory(shared_memory, num_gpus=num_gpus),
            "Give the container more (RAY_GPU_SHM in .env, or --shm-size; 2 GiB for each GPU), "
            "remove what fills it, or set data.num_workers to 0.",
        ),
    ]


def _check_libraries() -> list[MachineFinding]:
    return [
        _run_check("versions", _describe_versions, "Run `make setup`."),
        _run_check(
            "mmcv operators",
            _check_operators,
            "Run `make clean setup`: mmcv-full was built for another torch.",
        ),
    ]


def _recall_findings(proof: OperatorProof) -> list[MachineFinding]:
    *versions, operators = proof.findings
    detail = (
        f"{operators.detail}; checked {proof.checked_at:%Y-%m-%d %H:%M} UTC, no library has "
        "changed since (`tandem doctor --full` runs it again)"
    )
    return [*versions, operators.model_copy(update={"detail": detail})]


def _check_gpus(
    machine: DoctorEnvironment, driver: DriverInfo, proof: OperatorProof | None
) -> tuple[list[MachineFinding], int]:
    """Findings about all GPUs, and how many were examined."""
    try:
        gpus = examine_machine(
            driver,
            environment=machine.environment,
            torch_build=_find_torch_build(machine, driver, proof),
            examine=machine.examine,
        )
    except (ImportError, OSError) as error:
        detail = f"not examined, because torch cannot be imported: {error}"
        return [
            MachineFinding(name=GPUS_FINDING, ok=False, detail=detail, advice="Run `make setup`.")
        ], 0
    return list(gpus.findings()), len(gpus.reports)


def _find_torch_build(
    machine: DoctorEnvironment, driver: DriverInfo, proof: OperatorProof | None
) -> TorchBuild:
    """Describe torch; what the proof says suffices if torch need not look for GPUs."""
    if machine.torch_build is not None:
        return machine.torch_build
    has_gpus = driver.num_gpus > 0 or (machine.root / "dev" / "dxg").exists()
    if proof is not None and (driver.selectors == () or not has_gpus):
        return TorchBuild(proof.cuda, lambda: 0)
    return load_torch_build()


def _run_check(name: str, check: Callable[[], str], advice: str) -> MachineFinding:
    try:
        return MachineFinding(name=name, ok=True, detail=check())
    except Exception as error:
        return MachineFinding(
            name=name, ok=False, detail=f"{type(error).__name__}: {error}", advice=advice
        )


def _describe_versions() -> str:
    build = load_torch_build()
    cuda = f"CUDA {build.cuda}" if build.cuda else "no CUDA"
    return ", ".join(f"{name} {version(name)}" for name in PACKAGES) + f", {cuda}"


def _check_operators() -> str:
    # Imported here, so that a broken mmcv is a finding and does not prevent the others.
    import torch  # noqa: PLC0415

    from workers.machine.operators import TOLERANCE, check_operators  # noqa: PLC0415

    target = compiled_targets()
    differences = check_operators(torch.device("cpu"))
    return (
        f"compiled for {target}; {', '.join(differences)} are correct to {TOLERANCE:g} on the CPU"
    )


def _check_shared_memory(folder: Path, *, num_gpus: int) -> str:
    required = max(_SHARED_MEMORY_FOR_GPU * num_gpus, _MIN_SHARED_MEMORY)
    usage = shutil.disk_usage(folder)
    if usage.total < required:
        raise RuntimeError(
            f"{folder} has {usage.total / _GIB:.1f} GiB; {num_gpus} GPUs and their loaders need "
            f"{required / _GIB:.0f} GiB"
        )
    if usage.free < _MIN_SHARED_MEMORY:
        raise RuntimeError(
            f"{folder} has {usage.free >> 20} MiB free; data loaders need about 1 GiB"
        )
    return f"{usage.free / _GIB:.1f} of {usage.total / _GIB:.1f} GiB free in {folder}"
