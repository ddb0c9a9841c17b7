"""Files written before the first release, at commit 3f7ccf9: read, or refused in one sentence.

`before_release` has the text files of a run that was killed at step 3, the layers of an
EfficientNet-Lite that was trained, and the code of an exported MLflow model.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from mmdet.models import build_detector
from onnx import TensorProto, helper, numpy_helper

from configs.catalog import parse_spec
from configs.protocol.names import ExitCode, RunFile
from configs.spec.detector import Detector
from tests.support.factories import make_manifest, make_spec
from workers.cli.startup import read_spec
from workers.errors import IncompatibleRunFolder
from workers.export.mlflow_model import encode_image
from workers.models.detector_config import build_detector_config
from workers.telemetry.reporter import flush_run
from workers.telemetry.run_folder import read_run_spec
from workers.training.resume import resume_runner, run_identity

FILES = Path(__file__).parent / "before_release"
ROOT = Path(__file__).parents[2]
RENAMED = (
    "data.loader_workers",
    "compute.accumulate",
    "compute.checkpoint_backbone",
    "loss_budget_steps",
)
LOAD = """
import sys
if sys.argv[3:]:
    import workers.export.tandem_runtime
else:
    sys.modules.update(dict.fromkeys(("workers", "configs", "service")))  # cannot be imported
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.predict(pandas.DataFrame({"image": [sys.argv[2]]})).to_json(orient="values"))
"""


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return shutil.copytree(FILES / "run", tmp_path / "run")


def assert_names_the_fields(message: str, fields: tuple[str, ...]) -> None:
    assert "\n" not in message
    assert "another version of Tandem" in message
    assert "launch it again" in message
    assert all(field in message for field in fields)


def test_a_run_is_not_resumed_from_its_own_spec(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_spec(run_dir / RunFile.SPEC, task="train", run_dir=run_dir)

    assert ended.value.code == ExitCode.REFUSED
    assert_names_the_fields(capsys.readouterr().err.removesuffix("\n"), RENAMED)


def test_a_spec_of_a_person_is_refused_field_by_field(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_spec(run_dir / RunFile.SPEC, task="train", run_dir=tmp_path / "new")

    assert ended.value.code == ExitCode.REFUSED
    assert len(capsys.readouterr().err.splitlines()) == len(RENAMED)


def test_a_run_folder_is_no_model(run_dir: Path) -> None:
    with pytest.raises(IncompatibleRunFolder) as refused:
        read_run_spec(run_dir)

    assert_names_the_fields(str(refused.value), RENAMED)


def test_records_of_a_run_are_not_flushed(run_dir: Path) -> None:
    with pytest.raises(IncompatibleRunFolder) as refused:
        flush_run(run_dir, timeout_s=1)

    assert_names_the_fields(str(refused.value), ("report_url",))


def test_a_checkpoint_is_not_resumed_with_a_spec_of_this_version() -> None:
    identity = run_identity(parse_spec(make_spec()), dataset=make_manifest(), teacher_sha256=None)
    checkpoint = {"meta": {"identity": (FILES / "identity.json").read_text()}}

    with pytest.raises(IncompatibleRunFolder) as refused:
        resume_runner(cast("Any", None), checkpoint, identity=identity)

    assert_names_the_fields(str(refused.value), ("compute.accumulate",))


def test_the_detector_of_a_checkpoint_has_the_same_layers() -> None:
    spec = json.loads((FILES / "efficientnet_lite.json").read_text())

    model = build_detector(
        build_detector_config(Detector.model_validate(spec["detector"]), classes=spec["classes"])
    )

    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == spec["layers"]


@pytest.mark.parametrize("tandem", ["with_tandem", "without_tandem"])
def test_an_mlflow_model_predicts(tmp_path: Path, tandem: str) -> None:
    model = write_mlflow_model(tmp_path / "model")
    image = encode_image(np.zeros((32, 64, 3), np.uint8))
    arguments = [str(model), image, *(["tandem"] if tandem == "with_tandem" else [])]

    output = subprocess.check_output(
        [sys.executable, "-c", LOAD, *arguments],
        cwd=ROOT if tandem == "with_tandem" else tmp_path,
        text=True,
    )

    (detection,) = json.loads(output.splitlines()[-1])
    assert detection == [0, 2.0, 4.0, 6.0, 8.0, 0.75, 1, "dog"]


def write_mlflow_model(folder: Path) -> Path:
    """A model with the code of the release before, and a graph that always detects one dog."""
    shutil.copytree(FILES / "mlflow", folder)
    for file in list(folder.rglob("*.py.txt")):
        file.rename(file.with_suffix(""))
    outputs: dict[str, np.ndarray[Any, Any]] = {
        "boxes": np.array([[2, 4, 6, 8]], np.float32),
        "scores": np.array([0.75], np.float32),
        "labels": np.array([1], np.int64),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
            for name, array in outputs.items()
        ],
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in outputs.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(
        model, {"tandem.classes": '["cat", "dog"]', "tandem.image_size": "[64, 32]"}
    )
    (folder / "artifacts").mkdir(exist_ok=True)
    onnx.save(model, folder / "artifacts" / "student.onnx")
    return folder
