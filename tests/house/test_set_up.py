"""Decisions of docker/setup.sh and mmcv_wheel.py, without compiling."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
TOOLS = ("awk", "bash", "cat", "cut", "dirname", "env", "grep", "paste", "sh", "sha256sum", "sort")
"""Commands of the scripts; a machine with GPUs has nvidia-smi in the same folder as these."""

Environment = dict[str, str]


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], Environment]:
    """Makes the environment of a machine whose nvidia-smi is a script; an empty one is missing."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for tool in TOOLS:
        (binaries / tool).symlink_to(shutil.which(tool) or pytest.fail(f"{tool} is missing"))

    def make(nvidia_smi: str = "") -> Environment:
        if nvidia_smi:
            write_script(binaries / "nvidia-smi", nvidia_smi)
        return {"PATH": str(binaries), "HOME": str(tmp_path)}

    return make


def write_script(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    file.chmod(0o755)


def format_gpus(*lines: str) -> str:
    return "\n".join(f"echo '{line}'" for line in lines)


def run_device_sh(environment: Environment) -> tuple[str, str]:
    """Run device.sh; returns its standard output and error."""
    script = DOCKER / "device.sh"
    result = subprocess.run([script], env=environment, capture_output=True, text=True, check=True)
    return result.stdout.strip(), result.stderr


@pytest.fixture(scope="module")
def mmcv_wheel() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mmcv_wheel", DOCKER / "mmcv_wheel.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mmcv_wheel"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_a_machine_without_a_gpu_compiles_for_the_cpu(machine: Callable[..., Environment]) -> None:
    assert run_device_sh(machine())[0] == "cpu"


def test_gpus_of_the_driver_mean_cuda_for_their_architectures(
    machine: Callable[[str], Environment],
) -> None:
    environment = machine(format_gpus("12.0, 580.65.06", "8.6, 580.65.06", "12.0, 580.65.06"))

    assert run_device_sh(environment) == ("cuda 8.6;12.0", "")
    assert run_device_sh(environment | {"TORCH_CUDA_ARCH_LIST": "9.0+PTX"})[0] == "cuda 9.0+PTX"
    assert run_device_sh(environment | {"FORCE_CUDA": "0"}) == ("cpu", "")


@pytest.mark.parametrize(
    ("nvidia_smi", "reason"),
    [
        (
            format_gpus("9.0, 550.54.15"),
            "driver is 550.54.15, and torch (CUDA 13) needs 580 or newer",
        ),
        (format_gpus("6.1, 580.65.06"), "No GPU has the architecture 7.5 or newer"),
        ("echo 'Failed to initialize NVML: Unknown Error'; exit 9", "Failed to initialize NVML"),
        (format_gpus("No devices were found"), "No GPU has the architecture 7.5 or newer"),
    ],
)
def test_a_gpu_that_torch_cannot_use_means_the_cpu_and_a_reason(
    machine: Callable[[str], Environment], nvidia_smi: str, reason: str
) -> None:
    device, message = run_device_sh(machine(nvidia_smi))

    assert device == "cpu"
    assert reason in message
    assert "Runs will use the CPU" in message


def test_cuda_can_be_asked_for_where_no_gpu_can_be_used(
    machine: Callable[..., Environment],
) -> None:
    forced = {"FORCE_CUDA": "1"}

    assert run_device_sh(machine() | forced) == (f"cuda {read_architectures()}", "")
    assert run_device_sh(machine(format_gpus("9.0, 550.54.15")) | forced) == ("cuda 9.0", "")


def read_architectures() -> str:
    return find_only_match(r'all_architectures="(.*)"', "docker/device.sh")


def find_only_match(pattern: str, file: str) -> str:
    (match,) = re.findall(pattern, (ROOT / file).read_text(encoding="utf-8"))
    return str(match)


def test_the_image_is_compiled_for_all_that_torch_is_compiled_for() -> None:
    import torch  # noqa: PLC0415

    architectures = read_architectures()
    names = {
        f"sm_{name.replace('.', '')}" for name in architectures.removesuffix("+PTX").split(";")
    }

    assert names >= set(torch.cuda.get_arch_list())
    assert architectures.endswith("+PTX")
    assert find_only_match(r'ARG CUDA_ARCHITECTURES="(.*)"', "docker/Dockerfile") == architectures
    assert find_only_match(r"\$\{CUDA_ARCHITECTURES:-(.*)\}", "compose.yaml") == architectures
    assert find_only_match(r"(?m)^CUDA_ARCHITECTURES=(.*)$", ".env.example") == architectures


def test_only_the_image_for_gpus_asks_for_a_driver() -> None:
    stages = (DOCKER / "Dockerfile").read_text(encoding="utf-8").split("\nFROM ")
    asking = [stage.splitlines()[0] for stage in stages if "NVIDIA_REQUIRE_CUDA" in stage]

    assert asking == ["worker-any AS worker-cuda"]
    assert any(stage.startswith("worker-${DEVICE} AS worker") for stage in stages)


def test_each_device_has_a_cache_folder_of_its_own(
    mmcv_wheel: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TANDEM_WHEELS", str(tmp_path))
    devices = ("", "9.0", "9.0+PTX", "8.6;9.0")

    folders = [mmcv_wheel.cache_folder_for(mmcv_wheel.Device(device)).name for device in devices]

    assert len(set(folders)) == len(devices)
    assert "-cpu-" in folders[0]
    assert "-cuda_8.6_9.0-" in folders[3]


@pytest.mark.parametrize("device", ["", "9.0"])
def test_another_source_has_a_cache_folder_of_its_own(
    mmcv_wheel: ModuleType, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    before = mmcv_wheel.cache_folder_for(mmcv_wheel.Device(device))

    monkeypatch.setattr(mmcv_wheel, "SHA256", "0" * 64)

    assert mmcv_wheel.cache_folder_for(mmcv_wheel.Device(device)) != before


@pytest.fixture
def wheels(mmcv_wheel: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache with a wheel for the CPU and none for CUDA."""
    monkeypatch.setenv("TANDEM_WHEELS", str(tmp_path / "wheels"))
    folder = mmcv_wheel.cache_folder_for(mmcv_wheel.Device())
    folder.mkdir(parents=True)
    (folder / "mmcv_full.whl").touch()
    return tmp_path / "wheels"


def run_mmcv_wheel(environment: Environment, wheels: Path) -> subprocess.CompletedProcess[str]:
    """Run mmcv-wheel.sh without access to any package."""
    uv_settings = wheels.parent / "uv.toml"
    uv_settings.write_text("[pip]\nreinstall = true\n", encoding="utf-8")
    no_index = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    no_index["UV_CONFIG_FILE"] = str(uv_settings)
    return subprocess.run(
        [DOCKER / "mmcv-wheel.sh", sys.executable],
        env={**environment, **no_index, "TANDEM_WHEELS": str(wheels)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_gpu_without_a_compiler_is_named_and_the_cpu_is_used(
    machine: Callable[[str], Environment], wheels: Path
) -> None:
    environment = machine(format_gpus("9.0, 580.65.06"))
    needed = {
        "PATH": f"{environment['PATH']}:{compilers(wheels.parent)}",
    }

    result = run_mmcv_wheel(environment | needed, wheels)

    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).name == "mmcv_full.whl"
    assert "-cpu-" in result.stdout
    assert "compiler nvcc" in result.stderr
    assert "Runs will use the CPU" in result.stderr


def compilers(folder: Path) -> Path:
    """A folder with compilers that are never called, for a machine without any."""
    binaries = folder / "compilers"
    binaries.mkdir()
    for name in ("gcc", "g++"):
        write_script(binaries / name, "exit 1")
    return binaries


def test_cuda_that_was_asked_for_and_cannot_be_had_is_an_error(
    machine: Callable[[str], Environment], wheels: Path
) -> None:
    environment = machine(format_gpus("9.0, 580.65.06")) | {"FORCE_CUDA": "1"}
    needed = {"PATH": f"{environment['PATH']}:{compilers(wheels.parent)}"}

    result = run_mmcv_wheel(environment | needed, wheels)

    assert result.returncode == 1
    assert result.stdout == ""
    assert "compiler nvcc" in result.stderr


def test_a_machine_with_gpus_can_be_told_to_use_its_cpu(
    machine: Callable[[str], Environment], wheels: Path
) -> None:
    environment = machine(format_gpus("9.0, 580.65.06")) | {"FORCE_CUDA": "0"}

    result = run_mmcv_wheel(environment, wheels)

    assert "-cpu-" in result.stdout
    assert result.stderr == ""


def test_nothing_is_left_for_the_build_of_mmcv_to_decide(mmcv_wheel: ModuleType) -> None:
    settings = mmcv_wheel.build_environment(mmcv_wheel.Device())

    assert (settings["FORCE_CUDA"], settings["CUDA_VISIBLE_DEVICES"]) == ("0", "")
    assert 1 <= int(settings["MAX_JOBS"]) <= len(os.sched_getaffinity(0))


def test_setup_runs_again_only_when_the_device_is_another(
    machine: Callable[..., Environment], tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(DOCKER, project / "docker", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", project)
    (project / ".venv/bin").mkdir(parents=True)
    write_script(project / ".venv/bin/python", STUB_PYTHON)
    # Its test of the environment may fail: containers have little shared memory.
    write_script(project / ".venv/bin/tandem-worker", 'echo "tested by $*" >> "$LOG"; exit 1')

    def run_setup(**variables: str) -> bool:
        """Run setup.sh; returns whether it installed something."""
        log = project / "log"
        log.write_text("", encoding="utf-8")
        environment = machine() | variables | {"LOG": str(log)}
        subprocess.run([project / "docker/setup.sh"], env=environment, check=True)
        calls = log.read_text(encoding="utf-8")
        assert ("tested by doctor" in calls) == ("pip" in calls)
        return "pip" in calls

    assert run_setup()
    assert not run_setup()
    assert run_setup(FORCE_CUDA="1", GIVEN="cuda_9.0")
    assert not run_setup(FORCE_CUDA="1")
    assert run_setup()

    machine(format_gpus("9.0, 580.65.06"))
    assert run_setup()  # and comes out with operators for the CPU
    assert not run_setup()
    assert run_setup(FORCE_CUDA="1", GIVEN="cuda_9.0")
    assert not run_setup(FORCE_CUDA="1")


STUB_PYTHON = """\
echo "$*" >> "$LOG"
case $* in *mmcv_wheel.py*) echo "/wheels/mmcv-1.7.2-torch-2-${GIVEN:-cpu}-x86_64-0/x.whl" ;; esac
"""
"""A Python stub that logs its arguments; its wheel is for the device GIVEN."""


def test_a_wheel_without_code_for_gpus_is_recognized(
    mmcv_wheel: ModuleType, tmp_path: Path
) -> None:
    def write_wheel(content: bytes) -> Path:
        file = tmp_path / "mmcv_full.whl"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("mmcv/__init__.py", "")
            archive.writestr("mmcv/_ext.cpython-311-x86_64-linux-gnu.so", content)
        return file

    assert mmcv_wheel.has_cuda_code(write_wheel(b"ELF .text .nv_fatbin .data"))
    assert not mmcv_wheel.has_cuda_code(write_wheel(b"ELF .text .data"))


def test_the_time_left_follows_from_the_cpu_time_that_the_compiler_gets(
    mmcv_wheel: ModuleType,
) -> None:
    cpu, cuda = mmcv_wheel.Device(), mmcv_wheel.Device("8.6;9.0")
    half_s = mmcv_wheel.CPP_COST_S / 2
    cuda_s = mmcv_wheel.CUDA_COST_S + 2 * mmcv_wheel.CUDA_COST_PER_ARCHITECTURE_S

    remaining_s = mmcv_wheel.estimate_time_left(cpu, elapsed_s=half_s / 2, used_s=half_s)
    crowded = mmcv_wheel.estimate_time_left(cpu, elapsed_s=half_s * 4, used_s=half_s)

    assert remaining_s == f"about {half_s / 2:.0f} s left"
    assert crowded == f"about {half_s * 4:.0f} s left"
    assert mmcv_wheel.estimate_time_left(cuda, elapsed_s=half_s, used_s=half_s) == (
        f"about {half_s + cuda_s:.0f} s left"
    )
    assert mmcv_wheel.estimate_time_left(cpu, elapsed_s=9.0, used_s=half_s * 3) == "nearly done"


def test_every_source_is_in_exactly_one_unit(mmcv_wheel: ModuleType, tmp_path: Path) -> None:
    units = mmcv_wheel.mmcv_units
    sources = tmp_path / "mmcv/ops/csrc/pytorch"
    names = ["pybind.cpp", "nms.cpp", "cpu/nms.cpp", "cpu/psamask.cpp", "cpu/voxelization.cpp"]
    names += ["cpu/roi_align.cpp", "cpu/roi_align_rotated.cpp", "cpu/rotated_feature_align.cpp"]
    names += ["cuda/cudabind.cpp", "cuda/knn_cuda.cu", "cuda/focal_loss_cuda.cu"]
    names += [f"cuda/{name}.cu" for unit in units.CUDA_UNITS for name in unit.split()]
    for name in names:
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).write_text("int x;\n", encoding="utf-8")
    (tmp_path / "setup.py").write_text(SETUP, encoding="utf-8")

    units.write(tmp_path)

    texts = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.glob("units/*")}
    included = re.findall(r'#include "\.\./mmcv/ops/csrc/pytorch/(.*)"', "".join(texts.values()))
    assert sorted(included) == sorted(names)
    assert texts["cpu.cpp"].rstrip().endswith('psamask.cpp"')  # defines macros called min and max
    assert set(units.names(tmp_path, is_cuda=True)) == set(texts)
    assert units.names(tmp_path, is_cuda=False) == ["cpu.cpp", "dispatch.cpp", "pybind.cpp"]


SETUP = """\
        extra_compile_args['cxx'] = ['-std=c++17']
        ext_ops = extension(
            sources=op_files)
"""


def test_setup_py_compiles_the_units_and_another_one_is_refused(mmcv_wheel: ModuleType) -> None:
    patched = mmcv_wheel.mmcv_units.with_units(SETUP)

    assert "-std=c++17" not in patched
    assert patched.index("./units/") < patched.index("sources=op_files")
    with pytest.raises(ValueError, match=r"not the one of 1\.7\.2"):
        mmcv_wheel.mmcv_units.with_units("setup()")
