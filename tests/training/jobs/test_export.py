"""The export job, run by the command line: exported models detect what the original does."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import torch
from mmdet.apis import init_detector
from mmdet.models import build_detector

from configs.metric_keys import Metric
from configs.protocol.failure import FailureReason
from configs.protocol.names import ExitCode, RunFile
from configs.spec.detector import Detector
from configs.spec.jobs import explain_unsupported_export
from service.stack.ports import choose_free_port
from tests.support.training.digits import write_digits
from tests.support.training.distilled_students import HEADS, make_detector, randomize_head
from tests.support.training.jobs import (
    TIMEOUT_S,
    load_digits_teacher,
    make_export_spec,
    read_spool,
    run_job,
)
from tests.support.training.worker_processes import run_worker_captured
from workers.data.digits import CLASSES
from workers.data.manifest import check_dataset
from workers.data.resolve import LocalDataset
from workers.export.card import CARD, ExportCard
from workers.export.comparison import Agreement, DetectionLimits, compare
from workers.export.graph import DetectorGraph
from workers.export.mlflow_model import MlflowDetector, encode_image
from workers.export.onnx_file import write_onnx
from workers.export.original import MmdetDetector
from workers.export.tandem_runtime import (
    ImageDetections,
    ImageFormatError,
    OnnxDetector,
    read_image,
)
from workers.models.detector_config import build_detector_config
from workers.models.training_config import build_data_config

EXPORTED_HEADS = [
    head
    for head in HEADS
    if explain_unsupported_export(make_detector(head), format_="onnx") is None
]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=4, val=6)


@pytest.fixture(scope="module")
def export_dir(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export in all formats; torch needs half a minute for the ONNX file."""
    run_dir = tmp_path_factory.mktemp("jobs") / "run"
    assert run_job(make_export_spec(digits), run_dir) == ExitCode.SUCCEEDED
    return run_dir


@pytest.fixture(scope="module")
def checkpoint_export_dir(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("checkpoint") / "run"
    spec = make_export_spec(digits, formats=["checkpoint"], max_detections=300)
    assert run_job(spec, run_dir) == ExitCode.SUCCEEDED
    return run_dir


def list_images(digits: Path) -> list[Any]:
    return [read_image(path) for path in sorted((digits / "images" / "val").iterdir())]


@pytest.mark.parametrize(
    ("fixture", "formats"),
    [
        ("checkpoint_export_dir", {"checkpoint"}),
        pytest.param("export_dir", {"checkpoint", "onnx", "mlflow"}, marks=pytest.mark.slow),
    ],
    ids=["checkpoint", "all"],
)
def test_every_format_finds_what_the_original_finds(
    request: pytest.FixtureRequest, fixture: str, formats: set[str]
) -> None:
    export_dir: Path = request.getfixturevalue(fixture)
    card = ExportCard.model_validate_json((export_dir / RunFile.EXPORT / CARD).read_bytes())

    assert set(card.comparisons) == formats
    for comparison in card.comparisons.values():
        assert comparison.boxes > 0
        assert comparison.largest_edge_difference_px <= 1e-3
        assert comparison.largest_score_difference <= 1e-3
    (values,) = [r["values"] for r in read_spool(export_dir) if r["kind"] == "metrics"]
    assert values[Metric.EXPORT_EDGE_DIFFERENCE] <= 1e-3


def test_the_files_are_artifacts_and_their_hashes_are_on_the_card(
    checkpoint_export_dir: Path,
) -> None:
    folder = checkpoint_export_dir / RunFile.EXPORT
    card = json.loads((folder / "card.json").read_text())

    artifacts = {
        record["path"]
        for record in read_spool(checkpoint_export_dir)
        if record["kind"] == "artifact"
    }

    assert {f"{RunFile.EXPORT}/{name}" for name in card["sha256_by_file"]} <= artifacts
    assert all((folder / name).is_file() for name in card["sha256_by_file"])


def test_mmdet_loads_the_checkpoint_without_our_code(checkpoint_export_dir: Path) -> None:
    folder = checkpoint_export_dir / RunFile.EXPORT / "mmdet"

    text = (folder / "config.py").read_text()
    model = init_detector(str(folder / "config.py"), str(folder / "student.pth"), device="cpu")

    assert "Tandem" not in text
    assert type(model).__name__ == "GFL"
    assert model.test_cfg.max_per_img == model.bbox_head.test_cfg.max_per_img == 300
    assert tuple(model.CLASSES) == CLASSES


@pytest.mark.slow
def test_the_onnx_file_looks_at_images_of_any_size(export_dir: Path, digits: Path) -> None:
    onnx_file = next((export_dir / RunFile.EXPORT).glob("*.onnx"))
    detector = OnnxDetector(onnx_file)
    image = list_images(digits)[0]

    for size in ((60, 90), (200, 120), (96, 96)):
        detections = detector.detect(cv2.resize(image, size))

        assert (detections.boxes_N4[:, 2] <= size[0] + 1e-3).all()
        assert (detections.boxes_N4[:, 3] <= size[1] + 1e-3).all()
    assert detector.classes == CLASSES


@pytest.mark.slow
def test_mlflows_model_answers_with_names(export_dir: Path, digits: Path) -> None:
    detector = MlflowDetector(export_dir / RunFile.EXPORT / "mlflow")

    detections = detector.detect(list_images(digits)[0])

    assert len(detections.scores_N) > 0


@pytest.mark.parametrize("head", EXPORTED_HEADS)
def test_the_graph_of_every_head_agrees_with_mmdet(digits: Path, head: str) -> None:
    spec = make_detector(head)
    model = build_model_that_detects(spec)
    graph = DetectorGraph(model, spec).eval()

    agreement = compare_with_mmdet(model, spec, GraphDetector(graph), digits)

    assert agreement.boxes > 20
    agreement.check_within(1e-3, what=head)


@pytest.mark.parametrize("normalize", ["imagenet", "none"])
def test_the_graph_pads_as_mmdets_pipeline_does(digits: Path, normalize: str) -> None:
    spec = make_detector("yolox").model_copy(update={"normalize": normalize})
    model = build_model_that_detects(spec)
    graph = DetectorGraph(model, spec).eval()
    low_images = [image[:90] for image in list_images(digits)[:3]]

    agreement = compare(
        MmdetDetector(model, load_pipeline(spec, digits)),
        GraphDetector(graph),
        low_images,
        limits=DetectionLimits(0.05, 100, 1e-3),
    )

    assert agreement.boxes > 20
    agreement.check_within(1e-3, what="the graph")


@pytest.mark.parametrize("limit", [7, 150])
def test_the_graph_reports_as_many_detections_as_the_model(digits: Path, limit: int) -> None:
    spec = make_detector("gfl")
    model = build_model_that_detects(spec, max_detections=limit)
    image = list_images(digits)[0]

    expected = MmdetDetector(model, load_pipeline(spec, digits)).detect(image)
    actual = GraphDetector(DetectorGraph(model, spec).eval()).detect(image)

    assert len(expected.scores_N) == len(actual.scores_N) == limit


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's exporter warns of itself
@pytest.mark.parametrize("head", EXPORTED_HEADS)
def test_every_head_that_can_be_written_agrees(tmp_path: Path, digits: Path, head: str) -> None:
    spec = make_detector(head)
    model = build_model_that_detects(spec)
    write_onnx(tmp_path / "d.onnx", model, spec, image_size=(96, 96))

    agreement = compare_with_mmdet(model, spec, OnnxDetector(tmp_path / "d.onnx"), digits)

    assert agreement.boxes > 20
    agreement.check_within(1e-3, what=head)


def build_model_that_detects(spec: Detector, *, max_detections: int = 100) -> Any:
    """Build a model with random weights whose scores pass the threshold."""
    torch.manual_seed(0)
    model = build_detector(
        build_detector_config(spec, classes=CLASSES, max_detections=max_detections)
    )
    model.init_weights()
    randomize_head(model)
    for name, parameter in model.bbox_head.named_parameters():
        if re.search(r"cls(\.\d+)?\.bias$", name):
            torch.nn.init.constant_(parameter, -2.5)
    model.CLASSES = CLASSES
    return model.eval()


def compare_with_mmdet(model: Any, spec: Detector, detector: Any, digits: Path) -> Agreement:
    return compare(
        MmdetDetector(model, load_pipeline(spec, digits)),
        detector,
        list_images(digits)[:3],
        limits=DetectionLimits(0.05, 100, 1e-3),
    )


def load_pipeline(spec: Detector, digits: Path) -> list[dict[str, Any]]:
    dataset = LocalDataset(digits, check_dataset(digits, digest=None))
    data = build_data_config(spec, dataset=dataset, image_size=(96, 96))
    pipeline: list[dict[str, Any]] = data["test"]["pipeline"]
    return pipeline


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("vfnet", "deformable convolutions"),
        ("tood", "deformable convolutions"),
        ("paa", "votes about each box"),
    ],
)
def test_a_head_that_cannot_be_written_is_refused_with_the_reason(
    digits: Path, tmp_path: Path, kind: str, reason: str
) -> None:
    detector = load_digits_teacher()["detector"] | {"head": {"kind": kind}}

    code = run_job(
        make_export_spec(digits, model=load_digits_teacher() | {"detector": detector}),
        tmp_path / "run",
    )

    last = read_spool(tmp_path / "run")[-1]
    assert code == ExitCode.REFUSED
    assert last["reason"] == FailureReason.INVALID_SPEC
    assert reason in last["message"]


def test_a_difference_beyond_the_tolerance_is_reported_with_its_size() -> None:
    expected = ImageDetections(np.array([[0.0, 0, 10, 10]]), np.array([0.9]), np.array([1]))
    shifted = ImageDetections(expected.boxes_N4 + 0.01, expected.scores_N, expected.labels_N)

    agreement = compare(
        Fixed(expected), Fixed(shifted), [np.zeros(1)], limits=DetectionLimits(0.05, 100, 1e-3)
    )

    assert agreement.largest_edge_difference_px == pytest.approx(0.01)
    with pytest.raises(Exception, match=r"differ by up to 0\.01 px"):
        agreement.check_within(1e-3, what="The file")


def test_a_box_that_only_one_side_has_is_counted() -> None:
    expected = ImageDetections(np.array([[0.0, 0, 10, 10]]), np.array([0.9]), np.array([1]))
    empty = ImageDetections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=int))

    agreement = compare(
        Fixed(expected), Fixed(empty), [np.zeros(1)], limits=DetectionLimits(0.05, 100, 1e-3)
    )

    assert agreement.unmatched == 1


@pytest.mark.slow  # the same model is loaded and asked above
def test_mlflow_serves_the_model_over_http(export_dir: Path, digits: Path, tmp_path: Path) -> None:
    port = choose_free_port()
    folder = export_dir / RunFile.EXPORT / "mlflow"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(folder)]
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    bin_first = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    server = subprocess.Popen(
        [*command, *options], env=os.environ | bin_first, cwd=tmp_path, start_new_session=True
    )
    image = list_images(digits)[0]
    try:
        response = request_when_ready(f"http://127.0.0.1:{port}", encode_image(image))
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    rows = response["predictions"]
    expected = (
        OnnxDetector(export_dir / RunFile.EXPORT / "student.onnx")
        .detect(image)
        .filter_by_score(0.05)
    )
    assert [row["score"] for row in rows] == pytest.approx(list(expected.scores_N), abs=1e-6)
    assert {row["name"] for row in rows} <= set(CLASSES)


def request_when_ready(url: str, image: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline_s:
        try:
            if httpx.get(f"{url}/ping", trust_env=False).is_success:
                break
        except httpx.TransportError:
            time.sleep(0.2)
    body = {"dataframe_split": {"columns": ["image"], "data": [[image]]}}
    response = httpx.post(f"{url}/invocations", json=body, trust_env=False, timeout=60)
    assert response.is_success, response.text
    return dict(response.json())


@pytest.mark.slow
def test_predictions_are_drawn_by_an_export_and_by_an_onnx_file(
    export_dir: Path, digits: Path, tmp_path: Path
) -> None:
    image = sorted((digits / "images" / "val").iterdir())[0]
    for number, model in enumerate((export_dir, export_dir / RunFile.EXPORT / "student.onnx")):
        out = tmp_path / str(number)
        arguments = ("predict", str(model), str(image), "--out", str(out))

        result = run_worker_captured(*arguments, timeout_s=TIMEOUT_S)

        assert result.returncode == 0, result.stderr
        assert f"{image} -> {out / image.stem}.png" in result.stdout
        assert (out / f"{image.stem}.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("model", "reason"),
    [("folder", "contains no detector"), ("text", "cannot be opened")],
)
def test_what_holds_no_detector_is_named(tmp_path: Path, model: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    text = tmp_path / "text"
    text.write_text("neither image nor model")
    arguments = ("predict", str(tmp_path / model), str(text), "--out", str(tmp_path / "out"))

    result = run_worker_captured(*arguments, timeout_s=TIMEOUT_S)

    assert result.returncode == ExitCode.REFUSED
    assert reason in result.stderr


@pytest.mark.slow
def test_what_is_no_image_is_named(export_dir: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no image")

    result = run_worker_captured(
        *("predict", str(export_dir), str(text), "--out", str(tmp_path / "out")),
        timeout_s=TIMEOUT_S,
    )

    assert result.returncode == ExitCode.REFUSED
    assert "OpenCV" in result.stderr


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ImageFormatError):
        read_image(b"text")


class GraphDetector(OnnxDetector):
    """Runs the graph itself, with the same preprocessing as its ONNX file."""

    def __init__(self, graph: DetectorGraph) -> None:
        self._graph = graph
        self._session = self
        self.classes = CLASSES
        self.image_size = (96, 96)

    def run(self, _names: list[str], inputs: dict[str, Any]) -> list[Any]:
        with torch.inference_mode():
            return [output.numpy() for output in self._graph(torch.from_numpy(inputs["image"]))]


class Fixed:
    def __init__(self, detections: ImageDetections) -> None:
        self._found = detections

    def detect(self, image_HW3: Any) -> ImageDetections:
        return self._found
