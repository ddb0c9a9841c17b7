"""Several processes: metrics are computed once, and running statistics are not synchronized."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from configs.catalog import parse_spec
from configs.spec.run import RunSpec
from tests.support.training.detectors import make_detector, make_mmdet_gfl
from tests.support.training.digits import write_digits
from tests.support.training.distilled_students import HEADS, make_student
from tests.support.training.distilled_students import make_detector as a_head_of
from tests.support.training.process_groups import join_two_processes, run_in_two_processes
from tests.support.training.runs import make_spec
from workers import distributed as workers_distributed
from workers.data.loaders import build_validation_loader, unwrap_dataset
from workers.data.manifest import check_dataset
from workers.data.resolve import LocalDataset
from workers.evaluation import coco
from workers.evaluation.coco import CocoMetrics, evaluate
from workers.evaluation.detection import Detections
from workers.models.training_config import build_training_data_config

NUM_IMAGES = 5
CPU = torch.device("cpu")


class Oracle:
    """A detector that returns the ground truth of a dataset."""

    training = False

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._index = {info["filename"]: at for at, info in enumerate(dataset.data_infos)}

    def eval(self) -> None: ...

    def train(self, mode: bool) -> None: ...

    def __call__(self, *, img_metas: Any, **_: Any) -> list[Detections]:
        (metas,) = img_metas
        return [self._truth(meta["ori_filename"]) for meta in metas]

    def _truth(self, name: str) -> Detections:
        truth = self._dataset.get_ann_info(self._index[name])
        rows = np.concatenate([truth["bboxes"], np.ones((len(truth["bboxes"]), 1))], axis=1)
        classes = range(len(self._dataset.CLASSES))
        return [rows[truth["labels"] == label].astype(np.float32) for label in classes]


def evaluate_in_process(rank: int, port: int, folder_name: str) -> None:
    folder = Path(folder_name)
    scored: list[int] = []
    score = coco.compute_metrics

    def count_and_score(
        detections: list[Detections], dataset: Any, *, max_detections: int = 100
    ) -> CocoMetrics:
        scored.append(len(detections))
        return score(detections, dataset, max_detections=max_detections)

    coco.compute_metrics = count_and_score
    with join_two_processes(rank, port):
        loader = make_loader(folder)
        scores = evaluate(Oracle(unwrap_dataset(loader)), loader, device=CPU, max_detections=100)
        sends = {norm_eval: is_sending_buffers(norm_eval=norm_eval) for norm_eval in (True, False)}
        torch.save(
            {
                "scored": scored,
                "map": scores.mean_ap,
                "images": len(scores.detections),
                "sends": sends,
            },
            folder / f"{rank}.pt",
        )


def make_loader(folder: Path) -> Any:
    spec = parse_spec(make_spec(folder / "digits"))
    assert isinstance(spec, RunSpec)
    root = folder / "digits"
    dataset = LocalDataset(root, check_dataset(root, digest=None))
    return build_validation_loader(build_training_data_config(spec, dataset=dataset), spec=spec)


def is_sending_buffers(*, norm_eval: bool) -> bool:
    model = make_mmdet_gfl(make_detector(), num_classes=2)
    model.backbone.norm_eval = norm_eval
    model.backbone.eval()
    shared: Any = workers_distributed.wrap_ddp(model)
    assert not model.backbone.training, "asking must not change a module's mode"
    return bool(shared.broadcast_buffers)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("group")
    write_digits(folder / "digits", train=2, val=NUM_IMAGES)
    run_in_two_processes(evaluate_in_process, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_only_the_first_process_scores_and_all_know_the_numbers(
    results: list[dict[str, Any]],
) -> None:
    first, second = results

    assert (first["scored"], second["scored"]) == ([NUM_IMAGES], [])
    assert first["map"] == second["map"] == pytest.approx(1.0)
    assert (first["images"], second["images"]) == (NUM_IMAGES, 0)


def test_running_statistics_are_sent_only_where_a_norm_trains(
    results: list[dict[str, Any]],
) -> None:
    assert all(result["sends"] == {True: False, False: True} for result in results)


@pytest.mark.parametrize("head", sorted(HEADS.keys() - {"yolox"}))  # the spec refuses it with yolox
def test_no_norm_of_a_head_waits_for_other_processes(head: str, tmp_path: Path) -> None:
    """Otherwise the main process would wait for the others when it measures its losses."""
    student = make_student(tmp_path, a_head_of(head))

    converted = nn.SyncBatchNorm.convert_sync_batchnorm(student)

    assert any(isinstance(norm, nn.SyncBatchNorm) for norm in converted.backbone.modules())
    assert not any(isinstance(norm, nn.SyncBatchNorm) for norm in converted.bbox_head.modules())
