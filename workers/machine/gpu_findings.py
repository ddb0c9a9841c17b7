"""Compares the GPUs that the driver shows with those that torch can use."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from configs.protocol.names import GPUS_FINDING
from workers.machine.driver import DriverInfo, min_driver_branch
from workers.machine.finding import MachineFinding
from workers.machine.gpu import GpuReport, examine_gpus

_DEFAULT_ADVICE = "Read `nvidia-smi` and, as root, `dmesg | grep -i -e xid -e nvrm`."
_ADVICE = (
    (
        r"\b802\b|system not yet initialized",
        "The machine has an NVSwitch: start nvidia-fabricmanager, of the driver's own version.",
    ),
    (
        r"\b803\b|unsupported display driver|version mismatch",
        "Libraries and kernel module have two driver versions: reboot after a driver update, and "
        "recreate containers.",
    ),
    (
        r"\b804\b|forward compatibility was attempted",
        "cuda-compat is for data-center GPUs: remove it and install a newer driver.",
    ),
    (
        r"\b999\b|unknown error",
        "Reload the kernel module nvidia_uvm, or reboot; this is common after a suspend.",
    ),
    (
        r"\b46\b|busy or unavailable",
        "Another process uses it: `nvidia-smi` shows which, and whether its compute mode is "
        "exclusive (`nvidia-smi --compute-mode=0` ends that).",
    ),
    (
        r"out of memory",
        "Other processes use its memory: `nvidia-smi` shows which.",
    ),
    (
        r"no kernel image|unsupported PTX|device kernel image is invalid",
        "Compile mmcv-full for this GPU: add its capability to CUDA_ARCHITECTURES and build the "
        "image again, or `FORCE_CUDA=1 make clean setup`.",
    ),
    (
        r"compiled without operators for GPUs|implementation for device|not compiled with CUDA",
        "Use the image tandem-worker-cuda, or `FORCE_CUDA=1 make clean setup`; a node without GPUs "
        "needs CUDA_VISIBLE_DEVICES set and empty (RAY_WORKER_GPUS=0 in a container).",
    ),
    (
        r"No CUDA GPUs are available|\b100\b|no CUDA-capable device|Found no NVIDIA driver",
        "This process cannot open it: check the permissions of /dev/nvidia*, the container's "
        "devices (--gpus all), and CUDA_VISIBLE_DEVICES.",
    ),
    (
        r"no answer within",
        "It hangs: read `dmesg | grep -i xid` as root, and reset it or reboot.",
    ),
    (
        r"differs from its reference",
        "It computes wrong results: read `nvidia-smi -q -d ECC`, and take it out of service.",
    ),
)
"""Advice by patterns in error messages; numbers are codes of cudaError_t."""


@dataclass(frozen=True)
class TorchBuild:
    """What the comparison needs of torch."""

    cuda: str | None
    """The CUDA version that torch was built for, as "13.0"; None if for CPUs only."""

    count_gpus: Callable[[], int]


def load_torch_build() -> TorchBuild:
    """Import torch, which takes seconds, and describe it."""
    import torch  # noqa: PLC0415

    return TorchBuild(torch.version.cuda, torch.cuda.device_count)


@dataclass(frozen=True)
class GpuExamination:
    """The driver, and a report for each GPU that this process may use."""

    driver: DriverInfo
    reports: tuple[GpuReport, ...] = ()
    cuda: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def usable(self) -> tuple[GpuReport, ...]:
        """Reports of the GPUs that passed."""
        return tuple(report for report in self.reports if report.is_usable)

    def findings(self) -> Iterator[MachineFinding]:
        """One finding for all GPUs, then one for each GPU whose name torch could read."""
        yield self._summary_finding()
        for report in self.reports:
            if report.name:
                yield self._gpu_finding(report)

    def _summary_finding(self) -> MachineFinding:
        broken = [report for report in self.reports if not report.is_usable]
        offered = self.environment.get("RAY_WORKER_GPUS", "")
        if broken:
            detail = f"{len(self.usable)} of {len(self.reports)} GPUs can be used; "
            detail += "; ".join(_group_by_error(broken))
            advice = self._advice(broken[0])
            if self.usable:
                selectors = ",".join(report.selector for report in self.usable)
                advice += f" CUDA_VISIBLE_DEVICES={selectors} excludes it."
            return self._failed(f"{detail}. {self._describe_driver()}", advice)
        if offered.isdigit() and int(offered) > len(self.reports):
            return self._failed(
                f"RAY_WORKER_GPUS is {offered}, but torch can use {len(self.reports)}",
                "Lower RAY_WORKER_GPUS, or name every MIG slice in CUDA_VISIBLE_DEVICES.",
            )
        return MachineFinding(name=GPUS_FINDING, ok=True, detail=self._healthy_detail())

    def _healthy_detail(self) -> str:
        if self.reports:
            return f"all {len(self.reports)} can be used. {self._describe_driver()}"
        if self.driver.selectors == ():
            return "CUDA_VISIBLE_DEVICES hides them; training runs on the CPU"
        if self.driver.version is not None:
            return f"this machine or container has none. {self._describe_driver()}"
        return "none; training runs on the CPU"

    def _failed(self, detail: str, advice: str) -> MachineFinding:
        return MachineFinding(name=GPUS_FINDING, ok=False, detail=detail, advice=advice)

    def _gpu_finding(self, report: GpuReport) -> MachineFinding:
        detail = (
            f"{report.name}, capability {report.capability}, "
            f"{report.memory_bytes / 2**30:.1f} GiB, driver {self.driver.version or 'unknown'}; "
        )
        if report.is_usable:
            largest = max(report.differences.values(), default=0.0)
            detail += f"{', '.join(report.differences)} differ by at most {largest:.1g}"
            return MachineFinding(name=f"GPU {report.selector}", ok=True, detail=detail)
        return MachineFinding(
            name=f"GPU {report.selector}",
            ok=False,
            detail=detail + report.error,
            advice=self._advice(report),
        )

    def _describe_driver(self) -> str:
        text = f"Driver: {self.driver.version or 'unknown'}"
        if self._is_driver_too_old:
            text = f"Driver {self._required_driver} or newer is needed for CUDA {self.cuda}, "
            text += f"found {self.driver.version}"
        error = self.driver.nvml.error
        return f"{text} ({error})" if error else text

    @property
    def _required_driver(self) -> int | None:
        return None if self.cuda is None else min_driver_branch(self.cuda)

    @property
    def _is_driver_too_old(self) -> bool:
        required, version = self._required_driver, self.driver.version
        return (
            required is not None and version is not None and int(version.split(".")[0]) < required
        )

    def _advice(self, report: GpuReport) -> str:
        # With cuda-compat an older driver works, so its version alone is not a fault.
        if self._is_driver_too_old and not report.name:
            return (
                f"Install NVIDIA's driver {self._required_driver} or newer on the host; "
                "data-center GPUs may use the package cuda-compat instead."
            )
        text = f"{report.error} {self.driver.nvml.error}"
        for pattern, advice in _ADVICE:
            if re.search(pattern, text, re.IGNORECASE):
                return advice
        return _DEFAULT_ADVICE


def examine_machine(
    driver: DriverInfo,
    *,
    environment: Mapping[str, str],
    torch_build: TorchBuild,
    examine: Callable[..., Sequence[GpuReport]] = examine_gpus,
) -> GpuExamination:
    """Examine the GPUs in CUDA_VISIBLE_DEVICES, or else all that the driver or torch shows."""
    selectors = driver.selectors
    if selectors is None:
        selectors = tuple(map(str, range(max(driver.num_gpus, torch_build.count_gpus()))))
    reports: Sequence[GpuReport] = ()
    if selectors:
        reports = examine(selectors, is_from_environment=driver.selectors is not None)
    return GpuExamination(driver, tuple(reports), torch_build.cuda, environment)


def _group_by_error(broken: Sequence[GpuReport]) -> Iterator[str]:
    """One description for all GPUs that fail with the same error."""
    by_error: dict[str, list[str]] = {}
    for report in broken:
        by_error.setdefault(report.error, []).append(report.selector)
    for error, selectors in by_error.items():
        yield f"GPU {', '.join(selectors)}: {error}"
