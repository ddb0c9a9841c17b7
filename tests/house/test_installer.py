"""Installation from locks, with hashes, with the machine's settings for pip."""

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
LOCKS = sorted(DOCKER.glob("*.lock"))
ENTRY = re.compile(r"(?m)^([a-z0-9.-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$")


def load(name: str) -> ModuleType:
    """Import a module of docker/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run_uv() -> ModuleType:
    return load("run_uv")


def read_entries(lock: Path) -> list[tuple[str, str, str]]:
    """Read name, version and hashes of each entry."""
    return ENTRY.findall(lock.read_text(encoding="utf-8"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_line_of_a_lock_has_a_hash(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))

    assert ENTRY.sub("", code).strip() == ""
    assert code.strip()
    assert all(hashes for _name, _version, hashes in read_entries(lock))


def test_whatever_is_installed_from_a_lock_is_checked() -> None:
    files = [DOCKER / "Dockerfile", *DOCKER.glob("*.sh")]
    commands = [
        line
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(r"install\b.* -r ", line)
    ]

    assert len(commands) >= len(LOCKS)
    assert all("--require-hashes" in command for command in commands), commands


def test_uv_is_pinned_in_one_place() -> None:
    pinning_locks = [
        lock.name for lock in LOCKS for name, _, _ in read_entries(lock) if name == "uv"
    ]

    assert pinning_locks == ["installer.lock"]


def test_the_weights_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {f"{name}=={version}" for name, version, _ in read_entries(DOCKER / "weights.lock")}

    assert pins == set(project["optional-dependencies"]["bccd"])


def test_the_environment_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = {name: version for name, version, _ in read_entries(DOCKER / "environment.lock")}
    extras = {**project["optional-dependencies"], "bccd": []}
    texts = [*project["dependencies"], *(text for extra in extras.values() for text in extra)]

    for requirement in map(Requirement, texts):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name != "mmcv-full":
            assert versions[name] in requirement.specifier


LISTING = """\
:env:.cert='/etc/company.pem'
global.cert='/etc/old.pem'
global.extra-index-url='https://one.example/simple\\nhttps://two.example/simple'
global.index-url='https://user:word@mirror.example/simple?a=b'
install.timeout='60'
global.timeout='15'
wheel.find-links='/not/for/install'
"""


def test_a_later_section_of_pips_settings_overrides_an_earlier_one(run_uv: ModuleType) -> None:
    assert run_uv.parse_settings(LISTING) == {
        "cert": "/etc/company.pem",
        "extra-index-url": "https://one.example/simple\nhttps://two.example/simple",
        "index-url": "https://user:word@mirror.example/simple?a=b",
        "timeout": "60",
    }


def test_pips_settings_become_uvs(run_uv: ModuleType) -> None:
    settings = run_uv.parse_settings(LISTING) | {
        "find-links": "/wheels https://three.example/wheels",
        "trusted-host": "mirror.example",
        "client-cert": "/etc/me.pem",
        "proxy": "http://proxy.example:3128",
    }

    variables = run_uv.uv_variables(settings, {})

    assert variables.pop("UV_SYSTEM_CERTS", "1") == "1"
    assert variables == {
        "UV_DEFAULT_INDEX": "https://user:word@mirror.example/simple?a=b",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,https://three.example/wheels",
        "UV_INSECURE_HOST": "mirror.example",
        "UV_HTTP_TIMEOUT": "60",
        "SSL_CERT_FILE": "/etc/company.pem",
        "SSL_CLIENT_CERT": "/etc/me.pem",
        "ALL_PROXY": "http://proxy.example:3128",
    }


@pytest.mark.parametrize(
    ("environment", "omitted"),
    [
        ({"UV_DEFAULT_INDEX": "https://mine.example"}, {"UV_DEFAULT_INDEX"}),
        ({"UV_INDEX_URL": "https://mine.example"}, {"UV_DEFAULT_INDEX"}),
        ({"UV_INDEX": ""}, {"UV_INDEX", "UV_INDEX_STRATEGY"}),
        ({"UV_INDEX_STRATEGY": "first-index"}, {"UV_INDEX_STRATEGY"}),
        ({"SSL_CERT_FILE": "/mine.pem"}, {"SSL_CERT_FILE"}),
        ({"UV_SYSTEM_CERTS": "0"}, {"UV_SYSTEM_CERTS"}),
    ],
)
def test_settings_of_uv_win(
    run_uv: ModuleType, environment: dict[str, str], omitted: set[str]
) -> None:
    settings = run_uv.parse_settings(LISTING)
    variables = run_uv.uv_variables(settings, {})

    assert run_uv.uv_variables(settings, environment) == {
        name: value for name, value in variables.items() if name not in omitted
    }


def test_files_are_linked_only_within_a_file_system(run_uv: ModuleType) -> None:
    assert run_uv.can_hardlink(Path(sys.prefix) / "cache" / "uv")
    assert not run_uv.can_hardlink(Path("/proc/cache/uv"))


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"HOME": "/me"}, "/me/.cache/uv"),
        ({"HOME": "/me", "XDG_CACHE_HOME": "/caches"}, "/caches/uv"),
        ({"HOME": "/me", "XDG_CACHE_HOME": "/caches", "UV_CACHE_DIR": "/uv"}, "/uv"),
    ],
)
def test_the_cache_is_where_uv_has_it(
    run_uv: ModuleType, environment: dict[str, str], folder: str
) -> None:
    uv = Path(sys.executable).with_name("uv")
    result = subprocess.run(
        [uv, "cache", "dir"], env=environment, capture_output=True, text=True, check=True
    )

    assert str(run_uv.cache_folder(environment)) == folder == result.stdout.strip()


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A package index with one package; no other index is reachable."""
    wheel = tmp_path / "simple" / "tandem-example" / "tandem_example-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        folder = "tandem_example-1.0.dist-info"
        archive.writestr("tandem_example.py", "")
        archive.writestr(
            f"{folder}/METADATA", "Metadata-Version: 2.1\nName: tandem-example\nVersion: 1.0\n"
        )
        archive.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{folder}/RECORD", "")
    page = wheel.with_name("index.html")
    page.write_text(f'<a href="{wheel.name}">{wheel.name}</a>', encoding="utf-8")
    return wheel


def install_from(wheel: Path, digest: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Install the package of the mirror into a separate folder, by hash."""
    folder = wheel.parents[2]
    lock = folder / "a.lock"
    lock.write_text(f"tandem-example==1.0 --hash=sha256:{digest}\n", encoding="utf-8")
    command = [sys.executable, str(DOCKER / "run_uv.py"), "pip", "install", "--no-deps"]
    command += ["--require-hashes", "--target", str(folder / "installed"), "-r", str(lock)]
    index = {"PIP_INDEX_URL": wheel.parents[1].as_uri(), "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **index, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_machine_behind_a_mirror_installs_from_there(mirror: Path) -> None:
    digest = hashlib.sha256(mirror.read_bytes()).hexdigest()

    result = install_from(mirror, digest, UV_CACHE_DIR=str(mirror.parents[2] / "cache"))

    assert result.returncode == 0, result.stderr
    assert (mirror.parents[2] / "installed" / "tandem_example.py").exists()


def test_a_package_with_another_hash_is_not_installed(mirror: Path) -> None:
    result = install_from(mirror, "0" * 64)

    assert result.returncode != 0
    assert "Hash mismatch" in result.stderr
    assert not (mirror.parents[2] / "installed" / "tandem_example.py").exists()


def test_where_pip_may_use_no_index_uv_uses_none(mirror: Path) -> None:
    digest = hashlib.sha256(mirror.read_bytes()).hexdigest()

    assert install_from(mirror, digest, PIP_NO_INDEX="1").returncode != 0


def test_a_cache_on_another_file_system_is_no_cause_for_a_warning(mirror: Path) -> None:
    digest = hashlib.sha256(mirror.read_bytes()).hexdigest()
    memory = Path("/dev/shm")
    if memory.stat().st_dev == Path(sys.prefix).stat().st_dev:
        pytest.skip("/dev/shm is no file system of its own here.")

    cache = memory / f"tandem-uv-{os.getpid()}"
    result = install_from(mirror, digest, UV_CACHE_DIR=str(cache))
    subprocess.run([Path(sys.executable).with_name("uv"), "cache", "clean", "--cache-dir", cache])

    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr


def test_the_source_of_mmcv_is_compared_before_anything_of_it_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mmcv_wheel = load("mmcv_wheel")
    has_run = tmp_path / "has_run"
    source = tmp_path / f"mmcv-full-{mmcv_wheel.VERSION}"
    source.mkdir()
    (source / "setup.py").write_text(
        f"open({str(has_run)!r}, 'w').close()\n"
        f"import setuptools; setuptools.setup(name='mmcv-full', version='{mmcv_wheel.VERSION}')\n",
        encoding="utf-8",
    )
    archive = tmp_path / "links" / f"{source.name}.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as file:
        file.add(source, source.name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    log = tmp_path / "log"

    def fetch(name: str) -> None:
        (tmp_path / name).mkdir()
        with log.open("w", encoding="utf-8") as output:
            mmcv_wheel.fetch_source(tmp_path / name, output.fileno(), log)

    with pytest.raises(mmcv_wheel.BuildError, match="DO NOT MATCH THE HASHES"):
        fetch("wrong")
    assert not has_run.exists()

    monkeypatch.setattr(mmcv_wheel, "SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    fetch("right")
    assert has_run.exists()
