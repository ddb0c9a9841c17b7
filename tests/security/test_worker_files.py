"""What a hostile worker can make the service read, write and reveal."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.protocol.names import RunFile, attempt_log_path
from configs.spec.dataset import MANIFEST
from service.adapters.confined_files import ConfinedFolder, UnconfinedPath
from service.adapters.log_store import LocalLogStore
from service.settings import Settings
from service.stack.components import ComponentName, build_components
from service.usecases.attempts.records import count_unshipped_records
from service.usecases.runs.queries import get_run
from tests.support.factories import write_dataset
from tests.support.service.runs import submit_run
from tests.support.service.stage import Stage
from tests.support.stack.configs import make_stack_config

SECRET = "the admin's token"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that only the service may read, in a folder of its own."""
    file = tmp_path / "of-the-service" / "secret"
    file.parent.mkdir()
    file.write_text(SECRET, encoding="utf-8")
    return file


class TestReads:
    """A worker replaces a file of its run's folder by something else."""

    @pytest.mark.parametrize("path", ["/proc/self/environ", "secret"])
    def test_a_log_that_is_a_link_is_not_shown(
        self, stage: Stage, secret: Path, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TANDEM_ADMIN_TOKEN", SECRET)
        log = prepare_log(stage)
        log.symlink_to(secret if path == "secret" else path)

        response = stage.http.get(f"/v1/runs/{get_run_id(log)}/logs")

        assert (response.status_code, response.text) == (200, "")

    def test_a_log_below_a_link_to_a_folder_is_not_shown(self, stage: Stage, secret: Path) -> None:
        log = prepare_log(stage)
        log.parent.rmdir()
        log.parent.symlink_to(secret.parent)
        (secret.parent / log.name).write_text(SECRET, encoding="utf-8")

        response = stage.http.get(f"/v1/runs/{get_run_id(log)}/logs")

        assert (response.status_code, response.text) == (200, "")

    @pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["pipe", "folder"])
    def test_a_log_that_is_no_file_keeps_nobody_waiting(
        self, stage: Stage, make: Callable[[Path], None]
    ) -> None:
        log = prepare_log(stage)
        make(log)

        response = stage.http.get(f"/v1/runs/{get_run_id(log)}/logs")

        assert (response.status_code, response.text) == (200, "")

    def test_a_spool_that_is_a_link_is_not_imported(self, stage: Stage, secret: Path) -> None:
        run_id = submit_run(stage)
        folder = stage.ctx.files.run_dir(run_id)
        record = '{"kind": "note", "at": "2026-01-01T00:00:00Z", "attempt": 1, "text": "hers"}\n'
        secret.write_text(record, encoding="utf-8")
        (folder / RunFile.SPOOL).symlink_to(secret)

        assert stage.ctx.files.spool_records(run_id, 0) == []

    def test_a_checkpoint_that_is_a_link_does_not_exist(self, stage: Stage, secret: Path) -> None:
        run_id = submit_run(stage)
        checkpoint = stage.ctx.files.run_dir(run_id) / RunFile.LAST
        checkpoint.parent.mkdir()
        checkpoint.symlink_to(secret)

        assert not stage.ctx.files.has(checkpoint)
        assert stage.ctx.files.sha256(checkpoint) is None

    def test_a_manifest_that_is_a_link_is_refused(self, stage: Stage, secret: Path) -> None:
        root = write_dataset(stage.home / "datasets" / "pets")
        (root / MANIFEST).unlink()
        (root / MANIFEST).symlink_to(secret)

        response = stage.http.post("/v1/datasets", json={"root": str(root), "name": "pets"})

        assert response.status_code == 422
        assert SECRET not in response.text
        assert "link" in response.text

    @pytest.mark.parametrize("content", ["-5", "many", "9" * 30, "²"])
    def test_a_position_that_is_no_number_stops_no_loop(self, stage: Stage, content: str) -> None:
        run_id = submit_run(stage)
        position = stage.ctx.files.run_dir(run_id) / "spool.mlflow.position"
        position.write_text(content, encoding="utf-8")

        assert count_unshipped_records(get_run(run_id, ctx=stage.ctx), ctx=stage.ctx) == 0


class TestWrites:
    """A worker plants a name that the service is about to write."""

    def test_a_planted_name_is_replaced_and_not_followed(self, stage: Stage, secret: Path) -> None:
        spec = stage.ctx.files.run_dir("r000000000001") / RunFile.SPEC
        spec.parent.mkdir(parents=True)
        spec.symlink_to(secret)

        stage.ctx.files.write(spec, "{}")

        assert secret.read_text(encoding="utf-8") == SECRET
        assert not spec.is_symlink()
        assert spec.read_text(encoding="utf-8") == "{}"

    def test_nothing_is_written_below_a_link(self, stage: Stage, secret: Path) -> None:
        folder = stage.ctx.files.run_dir("r000000000001")
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(secret.parent)

        with pytest.raises(UnconfinedPath):
            stage.ctx.files.write(folder / RunFile.TOKEN, "token", is_secret=True)

        assert [path.name for path in secret.parent.iterdir()] == ["secret"]

    @pytest.mark.parametrize("name", ["lock", "000000000000000.log"])
    def test_a_stored_log_is_not_appended_through_a_link(
        self, tmp_path: Path, secret: Path, name: str
    ) -> None:
        store = LocalLogStore(tmp_path / "logs")
        planted = tmp_path / "logs" / "r1" / "attempt-1" / name
        planted.parent.mkdir(parents=True)
        planted.symlink_to(secret)

        with pytest.raises(UnconfinedPath):
            store.append("r1", 1, offset=0, content=b"hers")

        assert secret.read_text(encoding="utf-8") == SECRET


class TestConfinedFolder:
    """Nothing outside of a folder is opened, whatever is in it."""

    def test_a_link_to_the_folder_itself_is_followed(self, tmp_path: Path) -> None:
        (tmp_path / "large-disk" / "r1").mkdir(parents=True)
        (tmp_path / "large-disk" / "r1" / "spec.json").write_text("{}", encoding="utf-8")
        (tmp_path / "runs").symlink_to(tmp_path / "large-disk")
        folder = ConfinedFolder(tmp_path / "runs")

        with folder.open_file(tmp_path / "runs" / "r1" / "spec.json") as file:
            assert file.read() == b"{}"

    def test_a_folder_that_becomes_a_link_later_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "runs").mkdir()
        folder = ConfinedFolder(tmp_path / "runs")
        (tmp_path / "runs").rename(tmp_path / "moved")
        (tmp_path / "runs").symlink_to(tmp_path / "moved")
        (tmp_path / "moved" / "spec.json").write_text("{}", encoding="utf-8")

        with pytest.raises(UnconfinedPath):
            folder.open_file(tmp_path / "runs" / "spec.json")

    @pytest.mark.parametrize("path", ["../secret", "r1/../../secret", "/etc/passwd"])
    def test_a_path_outside_is_refused(self, tmp_path: Path, path: str) -> None:
        with pytest.raises(UnconfinedPath):
            ConfinedFolder(tmp_path / "runs").open_file(tmp_path / "runs" / path)

    def test_the_token_of_a_shared_folder_is_for_its_group(self, tmp_path: Path) -> None:
        private, shared = tmp_path / "private", tmp_path / "shared"
        private.mkdir(mode=0o700)
        shared.mkdir()
        shared.chmod(0o2770)

        for folder in (private, shared):
            ConfinedFolder(folder).write_file(folder / "report.token", "t", is_secret=True)

        modes = [(folder / "report.token").stat().st_mode & 0o777 for folder in (private, shared)]
        assert [oct(mode) for mode in modes] == ["0o600", "0o640"]


def test_no_secret_of_the_service_reaches_jobs_or_mlflow(tmp_path: Path) -> None:
    settings = {f"TANDEM_{name.upper()}": SECRET for name in Settings.model_fields}
    secrets = settings | dict.fromkeys(
        (
            *("PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE", "POSTGRES_PASSWORD", "RAY_AUTH_TOKEN"),
            *("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "GITHUB_TOKEN"),
            *("MLFLOW_BACKEND_STORE_URI", "SSH_AUTH_SOCK", "ANYTHING_ELSE"),
        ),
        SECRET,
    )
    useful = dict.fromkeys(
        (
            *("LANG", "LC_ALL", "HTTPS_PROXY", "SSL_CERT_FILE", "LD_LIBRARY_PATH"),
            *("CUDA_VISIBLE_DEVICES", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "HF_HOME"),
            *("TORCH_HOME", "PYTORCH_ALLOC_CONF", "OMP_NUM_THREADS", "XDG_CACHE_HOME", "HOME"),
        ),
        "useful",
    )
    components = build_components(make_stack_config(tmp_path, env=secrets | useful))

    environments = {component.name: component.env for component in components}

    for name in (ComponentName.RAY, ComponentName.MLFLOW):
        assert SECRET not in environments[name].values(), environments[name]
    assert useful.items() <= environments[ComponentName.RAY].items()
    service = {key for key, value in environments[ComponentName.SERVICE].items() if value == SECRET}
    assert {"TANDEM_ADMIN_TOKEN", "TANDEM_DATABASE_URL", "PGPASSWORD"} <= service
    assert not service & {"TANDEM_TOKEN", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN"}


def test_jobs_get_what_the_operator_names(tmp_path: Path) -> None:
    config = make_stack_config(
        tmp_path,
        env={"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"},
        job_environment=("AWS_ACCESS_KEY_ID", "NOT_SET"),
    )

    ray, mlflow, _ = build_components(config)

    assert ray.env["AWS_ACCESS_KEY_ID"] == "x"
    assert "AWS_SECRET_ACCESS_KEY" not in ray.env
    assert "AWS_ACCESS_KEY_ID" not in mlflow.env


def prepare_log(stage: Stage) -> Path:
    """The path of the first attempt's log of a new run; its folder exists, the file does not."""
    run_id = submit_run(stage)
    log = stage.ctx.files.run_dir(run_id) / attempt_log_path(1)
    log.parent.mkdir(parents=True, exist_ok=True)
    return log


def get_run_id(log: Path) -> str:
    return log.parent.parent.name
