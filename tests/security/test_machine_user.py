"""What another user of the machine can read, and what he can prepare."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.adapters.home_permissions import home_umask, is_exposed, secure_home
from service.context import build_context
from service.doctor import check_permissions
from service.settings import Settings
from service.stack import components
from service.stack.components import StackConfig, build_components, prepare_component, ray_temp_dir
from service.stack.errors import ForeignFolder
from service.stack.processes import find_process, spawn, wait_for_exit
from tests.support.stack.configs import make_stack_config


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Other users may read new files, as on most machines."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def ray_temp_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "RAY_TEMP_ROOT", tmp_path)


@pytest.fixture
def config(tmp_path: Path) -> StackConfig:
    return make_stack_config(tmp_path, env={"PATH": os.environ["PATH"]})


def read_mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.lstat().st_mode))


class TestHome:
    """The folder with the database, the secrets and the runs."""

    def test_a_new_home_is_private_whoever_creates_it(
        self, tmp_path: Path, config: StackConfig
    ) -> None:
        ctx, resources = build_context(Settings(home=tmp_path / "of-a-command", auth="tokens"))
        with resources:
            ctx.store.migrate()
        prepare_component(build_components(config)[1], config)

        assert read_mode(tmp_path / "of-a-command") == "0o700"
        assert read_mode(tmp_path / "of-a-command" / "secret") == "0o600"
        assert read_mode(config.home) == "0o700"

    def test_an_open_home_is_closed_at_the_start(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        (home / "runs").mkdir(parents=True)
        (home / "tandem.db").touch()
        (home / "notes-of-the-user.txt").touch()

        _, resources = build_context(Settings(home=home))
        resources.close()

        modes = [read_mode(path) for path in (home, home / "runs", home / "tandem.db")]
        assert modes == ["0o700", "0o700", "0o600"]
        assert read_mode(home / "notes-of-the-user.txt") == "0o644"

    def test_a_link_in_the_home_is_not_followed(self, tmp_path: Path) -> None:
        home, large_disk = tmp_path / "home", tmp_path / "large-disk"
        large_disk.mkdir()
        home.mkdir()
        (home / "runs").symlink_to(large_disk)

        secure_home(home)

        assert read_mode(large_disk) == "0o755"

    def test_a_home_with_setgid_stays_shared_with_its_group(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        home.mkdir()
        home.chmod(0o3775)

        secure_home(home)

        assert read_mode(home) == "0o3770"
        assert home_umask(home) == 0o007

    def test_the_doctor_reports_an_open_home(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)

        result = check_permissions(tmp_path)

        assert not result.ok
        assert str(tmp_path) in result.detail
        assert "chmod" in result.advice
        tmp_path.chmod(0o700)
        assert check_permissions(tmp_path).ok
        assert not is_exposed(tmp_path / "not-yet")


def test_what_a_component_writes_is_private(tmp_path: Path) -> None:
    command = (sys.executable, "-S", "-c", "import os; open('file', 'w'); os.mkdir('folder')")

    identity = spawn(command, env={}, folder=tmp_path, log=tmp_path / "logs" / "log")
    while find_process(identity) is not None:
        wait_for_exit(identity, timeout_s=10.0)

    paths = [tmp_path / name for name in ("file", "folder", "logs", "logs/log")]
    assert [read_mode(path) for path in paths] == ["0o600", "0o700", "0o700", "0o600"]


class TestTemporaryFolderOfRay:
    """Its name follows from the home, everybody can write to /tmp, and Ray makes it writable."""

    @pytest.fixture
    def folder(self, config: StackConfig) -> Path:
        return ray_temp_dir(config.home).parent

    def test_it_is_made_private(self, config: StackConfig, folder: Path) -> None:
        ray = prepare_component(build_components(config)[0], config)

        assert read_mode(folder) == "0o700"
        assert f"--temp-dir={folder}/ray" in ray.command

    def test_ours_is_made_private_if_it_is_not(self, config: StackConfig, folder: Path) -> None:
        folder.mkdir(mode=0o755)

        prepare_component(build_components(config)[0], config)

        assert read_mode(folder) == "0o700"

    @pytest.mark.parametrize("kind", ["link", "file"])
    def test_what_is_no_folder_is_refused(
        self, config: StackConfig, folder: Path, tmp_path: Path, kind: str
    ) -> None:
        (tmp_path / "hers").mkdir()
        if kind == "link":
            folder.symlink_to(tmp_path / "hers")
        else:
            folder.touch()

        with pytest.raises(ForeignFolder, match="tandem-ray-"):
            prepare_component(build_components(config)[0], config)

        assert list((tmp_path / "hers").iterdir()) == []

    def test_a_folder_of_another_user_is_refused(
        self, config: StackConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.mkdir(mode=0o700)
        monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)

        with pytest.raises(ForeignFolder):
            prepare_component(build_components(config)[0], config)


def test_secrets_are_not_on_the_command_line_of_a_component(config: StackConfig) -> None:
    ray = prepare_component(build_components(config)[0], config)

    token = config.ray_token_file.read_text(encoding="ascii")

    assert not any(token in argument for argument in ray.command)


def test_a_backup_in_a_pipe_leaves_no_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    tandem = str(Path(sys.executable).parent / "tandem")
    env = {"PATH": os.environ["PATH"], "TANDEM_HOME": str(home), "HOME": str(tmp_path)}
    subprocess.run([tandem, "tokens", "create", "ada"], env=env, check=True, capture_output=True)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}

    backup = subprocess.run([tandem, "backup", "-"], env=env, check=True, capture_output=True)
    restored = subprocess.run(
        [tandem, "restore", "-"],
        env=env | {"TANDEM_HOME": str(tmp_path / "other")},
        input=backup.stdout,
        check=False,
        capture_output=True,
    )

    assert backup.stdout.startswith(b"PK")
    assert "knows the secrets" in backup.stderr.decode()
    assert {path for path in home.rglob("*") if path.is_file()} <= before
    assert restored.returncode == 0, restored.stderr.decode()
    assert read_mode(tmp_path / "other" / "tandem.db") == "0o600"
