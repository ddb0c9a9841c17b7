#!/usr/bin/env python3
"""Compiles the mmcv-full wheel once per machine and prints its path.

PYTHON mmcv_wheel.py [DEVICE]

PYTHON is the interpreter of an environment that holds torch, numpy, opencv, setuptools<80, wheel,
ninja and psutil. mmcv-full 1.7.2 is published as source only, so the wheel is kept outside the
environment, in TANDEM_WHEELS or ~/.cache/tandem/wheels, under a name of everything that changes
its bytes. DEVICE is what device.sh prints, which is asked if it is not given. If the operators
cannot be compiled for CUDA, the reason is printed and they are compiled for the CPU, but with
FORCE_CUDA=1 that is an error.
"""

import contextlib
import hashlib
import importlib.util
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import psutil

DOCKER_DIR = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCKER_DIR))

import mmcv_units  # noqa: E402

VERSION = "1.7.2"
SHA256 = "aa276a2c68fa84db9bbcdcf6ae941e30f0cb4a7f175bd283516669e00bab3759"
"""Of the published source archive; pip compares it before anything of the archive runs."""

GIGABYTES_PER_JOB = 2.5
"""Peak memory of the largest unit."""

CPP_COST_S = 105.0
CUDA_COST_S, CUDA_COST_PER_ARCHITECTURE_S = 250.0, 220.0
"""CPU seconds to compile everything, as measured once; from them the time left is estimated."""


class BuildError(Exception):
    """The wheel cannot be compiled; the message says what is missing."""


@dataclass(frozen=True)
class Device:
    """What the operators are compiled for: architectures as in TORCH_CUDA_ARCH_LIST, or the CPU."""

    architectures: str = ""

    @property
    def is_cuda(self) -> bool:
        """Whether it is for GPUs too."""
        return bool(self.architectures)

    def __str__(self) -> str:
        return f"cuda {self.architectures}" if self.is_cuda else "cpu"


def main() -> None:
    """Print the path of the wheel; compile it first if necessary."""
    device = parse_device(" ".join(sys.argv[1:]))
    try:
        wheel = wheel_for(device)
    except BuildError as error:
        if not device.is_cuda or os.environ.get("FORCE_CUDA") == "1":
            sys.exit(str(error))
        say(f"{error}\nRuns will use the CPU. `FORCE_CUDA=1 make setup` tries again.")
        wheel = wheel_for(Device())
    print(wheel)


def parse_device(argument: str) -> Device:
    """The device that the argument names; the one that device.sh detects if it is empty."""
    if not argument:
        command = [DOCKER_DIR / "device.sh"]
        argument = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    kind, _, architectures = argument.strip().partition(" ")
    if kind not in ("cpu", "cuda") or bool(architectures) != (kind == "cuda"):
        raise SystemExit(f"{argument!r} is no device: cpu, or cuda and architectures.")
    return Device(architectures)


def wheel_for(device: Device) -> Path:
    """The wheel for a device, from the cache or compiled; `BuildError` if that fails."""
    cache_folder = cache_folder_for(device)
    for wheel in cache_folder.glob("*.whl"):
        return wheel
    require_compiler()
    cache_folder.mkdir(parents=True, exist_ok=True)
    log = cache_folder.parent / f"{cache_folder.name}.log"
    with tempfile.TemporaryDirectory() as folder, log.open("w", encoding="utf-8") as output:
        built = build(device, Path(folder), output.fileno(), log)
        # Copied to the same file system first, so that a wheel in the cache is always complete.
        copy = cache_folder / f"{built.name}.{os.getpid()}"
        shutil.copyfile(built, copy)
    return copy.rename(cache_folder / built.name)


def cache_folder_for(device: Device) -> Path:
    """The cache folder of the wheel; its name has everything that the wheel depends on."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tandem" / "wheels"
    return Path(os.environ.get("TANDEM_WHEELS") or cache) / "-".join(
        (
            f"mmcv-{VERSION}-torch-{torch_version()}",
            f"cp{sys.version_info[0]}{sys.version_info[1]}",
            re.sub(r"[^A-Za-z0-9.+]+", "_", str(device)),
            platform.machine(),
            recipe_digest(device),
        )
    )


def torch_version() -> str:
    """Version of the torch to compile against, read without importing torch."""
    package = importlib.util.find_spec("torch")
    if package is None or package.origin is None:
        raise BuildError("torch is not installed: mmcv-full is compiled against it.")
    return str(runpy.run_path(str(Path(package.origin).with_name("version.py")))["__version__"])


def recipe_digest(device: Device) -> str:
    """Digest of source, units and flags, and of the CUDA compiler: eight hexadecimal digits."""
    files = ["mmcv_units.py"]
    files += ["cuda-toolkit.sh", "cuda-toolkit.lock"] if device.is_cuda else []
    recipe = [SHA256.encode("ascii"), *((DOCKER_DIR / file).read_bytes() for file in files)]
    return hashlib.sha256(b"".join(recipe)).hexdigest()[:8]


def require_compiler() -> None:
    """Raise `BuildError` that names what is missing to compile C++ for Python."""
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    missing = [tool for tool in ("gcc", "g++") if shutil.which(tool) is None]
    missing += [] if headers.exists() else ["the Python headers"]
    if missing:
        raise BuildError(
            f"mmcv-full {VERSION} has to be compiled. Missing on this machine: "
            f"{', '.join(missing)}.\n"
            "On Debian or Ubuntu: apt-get install build-essential python3-dev"
        )


def build(device: Device, folder: Path, output: int, log: Path) -> Path:
    """Compile the wheel into a folder; `BuildError` if a step fails."""
    say(
        f"Compiling mmcv-full {VERSION} ({device}) on torch {torch_version()}, once on this machine"
    )
    say(f"The compiler's output is in {log}")
    environment = build_environment(device)
    source = fetch_source(folder, output, log)
    mmcv_units.write(source)
    command = [sys.executable, "setup.py", "bdist_wheel", "--dist-dir", str(folder / "dist")]
    with subprocess.Popen(
        command, cwd=source, env=environment, stdout=output, stderr=subprocess.STDOUT
    ) as compiler:
        show_progress(compiler, source, device)
    if compiler.returncode != 0:
        raise BuildError(
            f"{read_tail(log)}\nCompiling mmcv-full failed; the whole output is in {log}"
        )
    (wheel,) = (folder / "dist").glob("*.whl")
    if has_cuda_code(wheel) != device.is_cuda:
        raise BuildError(f"{wheel.name} was not compiled for {device}; the output is in {log}")
    return wheel


def build_environment(device: Device) -> dict[str, str]:
    """Environment variables that determine everything in mmcv's setup.py."""
    jobs = int(os.environ.get("MAX_JOBS") or default_jobs())
    binaries = [str(Path(sys.executable).parent)]
    settings = {"MMCV_WITH_OPS": "1", "MAX_JOBS": str(jobs)}
    if device.is_cuda:
        home = cuda_home()
        binaries.append(f"{home}/bin")
        settings |= {
            "FORCE_CUDA": "1",
            "CUDA_HOME": home,
            "TORCH_CUDA_ARCH_LIST": device.architectures,
            # More cores than units: several architectures of a unit at the same time.
            "MMCV_CUDA_ARGS": f"--threads={max(1, jobs // len(mmcv_units.CUDA_UNITS))}",
        }
    else:
        settings |= {"FORCE_CUDA": "0", "CUDA_VISIBLE_DEVICES": ""}
    path = os.pathsep.join([*binaries, os.environ.get("PATH", os.defpath)])
    return {**os.environ, **settings, "PATH": path}


def default_jobs() -> int:
    """Number of compiler jobs for the available cores and memory."""
    memory = re.search(
        r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii")
    )
    available = int(memory[1]) / 1e6 if memory else GIGABYTES_PER_JOB
    return max(1, min(len(os.sched_getaffinity(0)), int(available / GIGABYTES_PER_JOB)))


def cuda_home() -> str:
    """Install the CUDA compiler; returns its CUDA_HOME. `BuildError` if that fails."""
    command = [DOCKER_DIR / "cuda-toolkit.sh", sys.executable]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BuildError(
            f"{result.stderr.strip()}\nThe CUDA compiler nvcc, which docker/cuda-toolkit.sh "
            "installs, is missing, so the GPU operators of mmcv-full cannot be compiled."
        )
    return result.stdout.strip()


def fetch_source(folder: Path, output: int, log: Path) -> Path:
    """Download and unpack the source, verified by its SHA-256; `BuildError` if that fails."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"mmcv-full=={VERSION} --hash=sha256:{SHA256}\n", encoding="ascii")
    # uv cannot download without installing.
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
    command += ["--require-hashes"]
    command += ["--no-build-isolation", "--no-binary=mmcv-full", f"--dest={folder}"]
    command += [f"--requirement={requirement}"]
    if subprocess.run(command, stdout=output, stderr=output, check=False).returncode != 0:
        raise BuildError(f"{read_tail(log)}\nThe source of mmcv-full could not be fetched.")
    (archive,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(archive, folder)
    return folder / f"mmcv-full-{VERSION}"


def show_progress(compiler: subprocess.Popen[bytes], source: Path, device: Device) -> None:
    """Print every ten seconds how many units are compiled, and the estimated time left."""
    units = mmcv_units.names(source, is_cuda=device.is_cuda)
    start_s = time.monotonic()
    while True:
        try:
            compiler.wait(timeout=10)
        except subprocess.TimeoutExpired:
            done = len([*source.glob("build/**/units/*.o")])
            elapsed_s, used_s = time.monotonic() - start_s, cpu_seconds(compiler.pid)
            time_left = estimate_time_left(device, elapsed_s=elapsed_s, used_s=used_s)
            progress = f"{done} of {len(units)} units compiled"
            say(f"  mmcv-full: {progress}, {elapsed_s:.0f} s, {time_left}")
        else:
            return


def cpu_seconds(pid: int) -> float:
    """CPU time in seconds of a process and its descendants."""
    root = psutil.Process(pid)
    used_s = 0.0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used_s += times.user + times.children_user
    return used_s


def estimate_time_left(device: Device, *, elapsed_s: float, used_s: float) -> str:
    """Estimate the remaining time from the CPU time that the compiler has used so far."""
    count = len(re.split("[; ]", device.architectures)) if device.is_cuda else 0
    cuda_cost_s = CUDA_COST_S + CUDA_COST_PER_ARCHITECTURE_S * count if device.is_cuda else 0.0
    left_s = (CPP_COST_S + cuda_cost_s - used_s) * elapsed_s / max(used_s, 0.1)
    return f"about {left_s:.0f} s left" if left_s > 0 else "nearly done"


def has_cuda_code(wheel: Path) -> bool:
    """Whether the operators in a wheel have a section of GPU machine code."""
    with zipfile.ZipFile(wheel) as archive:
        (library,) = (name for name in archive.namelist() if name.startswith("mmcv/_ext."))
        return b".nv_fatbin" in archive.read(library)


def read_tail(log: Path) -> str:
    """The last 30 lines of a log file."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])


def say(text: str) -> None:
    """Print to standard error; standard output is for the path of the wheel."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
