"""A test of mmcv's operators that passed is not repeated until something changes."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import workers.cli.doctor
import workers.machine.proof
from configs.protocol.names import GPUS_FINDING
from tests.support.workers.machines import make_doctor_environment, write_machine
from workers.cli.doctor import DoctorEnvironment, run_checks
from workers.machine.finding import MachineFinding
from workers.machine.gpu_findings import TorchBuild

RESULT = "compiled for CPU; nms is correct"


class OperatorTests:
    """Counts tests of the operators, and decides on their result."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None

    def run(self) -> str:
        self.count += 1
        if self.error is not None:
            raise self.error
        return RESULT


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only file that a test loads."""
    file = tmp_path / "_ext.so"
    file.write_bytes(b"\x7fELF")
    monkeypatch.setattr(workers.machine.proof, "_list_loaded_files", lambda: [str(file)])
    return file


@pytest.fixture
def tests(library: Path, monkeypatch: pytest.MonkeyPatch) -> OperatorTests:
    assert library.exists()
    tests = OperatorTests()
    monkeypatch.setattr(workers.cli.doctor, "_check_operators", tests.run)
    return tests


@pytest.fixture
def proof_file(tmp_path: Path) -> Path:
    return tmp_path / "proof.json"


@pytest.fixture
def machine(tmp_path: Path) -> DoctorEnvironment:
    return make_doctor_environment(write_machine(tmp_path / "root"))


def check_operators(
    machine: DoctorEnvironment, proof_file: Path, *, reuses_proof: bool = True
) -> MachineFinding:
    findings = run_checks(machine, proof_file=proof_file, reuses_proof=reuses_proof)
    assert findings[0].name == "versions"
    return findings[1]


def test_a_passed_test_is_reused_and_says_when_it_ran(
    tests: OperatorTests, machine: DoctorEnvironment, proof_file: Path
) -> None:
    first, second = (check_operators(machine, proof_file) for _ in range(2))

    assert tests.count == 1
    assert first.detail == RESULT
    assert second.ok
    assert second.detail.startswith(f"{RESULT}; checked 20")
    assert "`tandem doctor --full` runs it again" in second.detail
    assert proof_file.stat().st_mode & 0o777 == 0o600


def test_a_full_doctor_tests_again(
    tests: OperatorTests, machine: DoctorEnvironment, proof_file: Path
) -> None:
    for _ in range(2):
        assert check_operators(machine, proof_file, reuses_proof=False).detail == RESULT

    assert tests.count == 2


def grow(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b".")


def replace_by_file_of_same_size(file: Path) -> None:
    file.write_bytes(b"\0" * file.stat().st_size)
    os.utime(file, ns=(0, 0))


@pytest.mark.parametrize("change", [grow, replace_by_file_of_same_size, Path.unlink])
def test_a_changed_or_missing_library_is_tested_again(
    tests: OperatorTests,
    machine: DoctorEnvironment,
    proof_file: Path,
    library: Path,
    change: Callable[[Path], None],
) -> None:
    check_operators(machine, proof_file)
    change(library)

    assert check_operators(machine, proof_file).detail == RESULT
    assert tests.count == 2


@pytest.mark.parametrize(
    "key", ["python", "sys.path", "processor", "driver", "setup", "LD_LIBRARY_PATH", "torch"]
)
def test_other_circumstances_are_tested_again(
    tests: OperatorTests,
    machine: DoctorEnvironment,
    proof_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
) -> None:
    before = workers.machine.proof.describe_circumstances(machine.root)
    assert key in before
    check_operators(machine, proof_file)
    after = {**before, key: "another"}
    monkeypatch.setattr(workers.cli.doctor, "describe_circumstances", lambda _root: after)

    assert check_operators(machine, proof_file).detail == RESULT
    assert tests.count == 2


def test_the_driver_and_the_processor_are_read_from_the_machine(tmp_path: Path) -> None:
    root = write_machine(tmp_path, driver="580.95.05")
    core = "processor\t: {}\nmodel name\t: Fast\ncpu MHz\t: {}\nflags\t: avx512\n\n"
    (root / "proc/cpuinfo").write_text(core.format(0, 800) + core.format(1, 2600))

    circumstances = workers.machine.proof.describe_circumstances(root)

    assert circumstances["driver"] == "580.95.05"
    assert circumstances["processor"] == "model name\t: Fast\nflags\t: avx512"


def test_a_failure_is_not_remembered_and_removes_what_was(
    tests: OperatorTests, machine: DoctorEnvironment, proof_file: Path
) -> None:
    check_operators(machine, proof_file)
    tests.error = ImportError("undefined symbol")

    assert not check_operators(machine, proof_file, reuses_proof=False).ok
    assert not proof_file.exists()
    assert not check_operators(machine, proof_file).ok
    assert tests.count == 3


@pytest.mark.parametrize("text", ["", "{}", '{"files": '])
def test_an_unreadable_proof_counts_for_nothing(
    tests: OperatorTests, machine: DoctorEnvironment, proof_file: Path, text: str
) -> None:
    proof_file.write_text(text)

    check_operators(machine, proof_file)

    assert tests.count == 1


def test_an_environment_that_cannot_be_written_is_tested_each_time(
    tests: OperatorTests, machine: DoctorEnvironment, tmp_path: Path
) -> None:
    for _ in range(2):
        assert check_operators(machine, tmp_path / "missing" / "proof.json").ok

    assert tests.count == 2


def test_gpus_are_examined_whatever_is_remembered(
    tests: OperatorTests, proof_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_machine(tmp_path / "gpus", device_files=1, driver="580.95.05")
    calls: list[tuple[str, ...]] = []
    machine = replace(make_doctor_environment(root, calls=calls), torch_build=None)
    build = TorchBuild(cuda="13.0", count_gpus=lambda: 1)
    monkeypatch.setattr(workers.cli.doctor, "load_torch_build", lambda: build)

    for _ in range(2):
        check_operators(machine, proof_file)

    assert tests.count == 1
    assert len(calls) == 2


def test_a_torch_that_cannot_be_imported_is_a_fault_with_advice(
    machine: DoctorEnvironment, proof_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> TorchBuild:
        raise OSError("libtorch_cpu.so: file too short")

    monkeypatch.setattr(workers.cli.doctor, "load_torch_build", load)

    findings = {
        finding.name: finding
        for finding in run_checks(replace(machine, torch_build=None), proof_file=proof_file)
    }

    for name in ("versions", GPUS_FINDING):
        assert not findings[name].ok
        assert "libtorch_cpu.so" in findings[name].detail
        assert "make setup" in findings[name].advice
    assert not proof_file.exists()


REUSE = """\
import sys
from pathlib import Path
from workers.cli.doctor import run_checks
from workers.machine.finding import MachineFinding
from workers.machine.proof import describe_circumstances, write_proof

file = Path(sys.argv[1])
passed = tuple(MachineFinding(name=name, ok=True, detail="") for name in ("versions", "operators"))
write_proof(file, passed, circumstances=describe_circumstances(), cuda="13.0")
findings = run_checks(proof_file=file, reuses_proof=True)
print([name for name in ("torch", "mmcv", "mmdet", "numpy") if name in sys.modules])
print("checked" in findings[1].detail)
"""


def test_a_reused_proof_imports_none_of_the_libraries(proof_file: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", REUSE, str(proof_file)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.splitlines() == ["[]", "True"]
