"""Writes a detector for plain mmdet: a config without our classes, and a checkpoint."""

from pathlib import Path
from typing import Any

from configs.spec.references import TeacherFiles
from workers.checkpoints.files import save_atomically
from workers.data.resolve import LocalDataset
from workers.models.config_file import write_config
from workers.models.detector_config import build_detector_config, load_template
from workers.models.training_config import build_data_config

CONFIG, WEIGHTS = "config.py", "student.pth"


def write_mmdet(
    folder: Path,
    model: Any,
    files: TeacherFiles,
    *,
    dataset: LocalDataset,
    image_size: tuple[int, int],
) -> None:
    """Write `config.py` and `student.pth` for `mmdet.apis.init_detector`.

    mmdet has no EfficientNet-Lite backbone, so that config imports ours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.cpu() for name, weight in model.state_dict().items()}
    save_atomically({"meta": {"CLASSES": files.classes}, "state_dict": weights}, folder / WEIGHTS)
    config = load_template(files.detector.head.kind)
    config.model = build_detector_config(
        files.detector, classes=files.classes, max_detections=model.test_cfg.max_per_img
    )
    config.model.backbone.pop("init_cfg", None)
    config.data = build_data_config(files.detector, dataset=dataset, image_size=image_size)
    if files.detector.backbone.kind == "efficientnet_lite":
        config.model.backbone.pretrained = False
        config.custom_imports = {"imports": ["workers.models.efficientnet_lite"]}
    write_config(config, folder / CONFIG)
