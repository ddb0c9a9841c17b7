"""What `tandem distill` chooses for a dataset: presets, image size, name."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from configs.catalog import preset_names, spec_from_preset
from configs.dataset_summary import compute_share_below, format_share
from configs.derived_specs import is_distilled
from configs.protocol.dataset_statistics import TINY_PX, DatasetStatistics
from configs.spec.references import NamedDataset, NamedTeacher
from configs.spec.run import RunSpec
from configs.teacher_catalog import known_teachers
from service.cli.errors import CliError, ErrorMessage

IMAGE_SIZE, _EPOCHS = "data.image_size", "schedule.epochs"

DEFAULT_PRESET = "bccd/bckd"
"""EfficientNet-Lite0 from ImageNet weights with a Lite2 teacher: both also train on CPUs."""

_MAX_TINY_SHARE = 0.25
_SCALES = (1, 2, 3, 4)
_EDGE_STEP_PX = 16
_MIN_STEPS = 300
"""Steps of the default preset on its own dataset; a detector learns little in fewer."""

_MAX_EPOCHS = 100
_MAX_NAME_LENGTH = 63


@dataclass(frozen=True)
class PresetChoice:
    """The preset of the distilled student, that of its teacher, and why."""

    distilled: str
    teacher: str | None
    """None if no preset trains the teacher that the student's preset names."""

    reason: str
    is_for_dataset: bool
    """Whether the preset was made for this dataset, or the user named it."""

    @property
    def spec(self) -> RunSpec:
        """The spec of the distilled student."""
        return spec_from_preset(self.distilled)


@dataclass(frozen=True)
class ImageSizeChoice:
    """Longest and shortest edge of resized images, and why."""

    size: tuple[int, int]
    reason: str


def choose_preset(dataset: str, requested: str | None) -> PresetChoice:
    """The requested preset; else one for this dataset; else the smallest one for photographs.

    Raises `CliError` for a preset without a teacher, `UnknownPreset` for none at all.
    """
    if requested is not None:
        return _describe_preset(requested, "as requested", is_for_dataset=True)
    for name in preset_names():
        spec = spec_from_preset(name)
        if is_distilled(spec) and spec.data.dataset == NamedDataset(name=dataset):
            return _describe_preset(name, f"made for {dataset}", is_for_dataset=True)
    return _describe_preset(
        DEFAULT_PRESET,
        "small detectors from ImageNet weights, which also train on CPUs",
        is_for_dataset=False,
    )


def _describe_preset(name: str, reason: str, *, is_for_dataset: bool) -> PresetChoice:
    spec = spec_from_preset(name)
    if not is_distilled(spec):
        distilled = [item for item in preset_names() if is_distilled(spec_from_preset(item))]
        raise CliError(
            ErrorMessage(
                f"The preset {name} has no teacher, so there is nothing to distill.",
                advice=(f"Presets with a teacher: {', '.join(distilled)}.",),
            )
        )
    teacher = spec.teacher.name if isinstance(spec.teacher, NamedTeacher) else ""
    card = known_teachers().get(teacher)
    return PresetChoice(name, None if card is None else card.preset, reason, is_for_dataset)


def choose_image_size(
    choice: PresetChoice, statistics: DatasetStatistics | None
) -> ImageSizeChoice | None:
    """The smallest multiple of the preset's size at which fewer than a quarter of the objects are
    tiny, in the shape of most images; None to keep the preset's size."""
    if choice.is_for_dataset or statistics is None:
        return None
    longest = max(choice.spec.data.image_size)
    ratio = _find_median_ratio(statistics)
    sizes = [_scale_size(longest * scale, ratio) for scale in _SCALES]
    shares = [compute_share_below(statistics, TINY_PX, image_size=size) for size in sizes]
    accepted = [index for index, share in enumerate(shares) if share < _MAX_TINY_SHARE]
    index = accepted[0] if accepted else len(sizes) - 1
    reason = f"{format_share(shares[index])} of the objects are below {TINY_PX:g} px"
    if index:
        reason += f"; at {sizes[0][0]} x {sizes[0][1]} it would be {format_share(shares[0])}"
    return ImageSizeChoice(sizes[index], reason)


def choose_epochs(choice: PresetChoice, statistics: DatasetStatistics | None) -> int | None:
    """As many epochs as 300 steps take, at most 100; None if the preset's are enough."""
    if choice.is_for_dataset or statistics is None:
        return None
    spec = choice.spec
    steps_per_epoch = math.ceil(statistics.train.num_images / spec.data.batch_size)
    epochs = min(_MAX_EPOCHS, math.ceil(_MIN_STEPS / max(1, steps_per_epoch)))
    return epochs if epochs > spec.schedule.epochs else None


def fit_changes(
    changes: Mapping[str, JsonValue],
    dataset: str,
    choice: PresetChoice,
    statistics: DatasetStatistics | None,
) -> dict[str, JsonValue]:
    """The changes with the dataset, and with image size and epochs that suit it; those that are
    changed already stay."""
    fitted = dict(changes)
    epochs = None if _EPOCHS in fitted else choose_epochs(choice, statistics)
    if epochs is not None:
        fitted[_EPOCHS] = epochs
    size = None if IMAGE_SIZE in fitted else choose_image_size(choice, statistics)
    if size is not None and size.size != choice.spec.data.image_size:
        fitted[IMAGE_SIZE] = list(size.size)
    if choice.spec.data.dataset != NamedDataset(name=dataset):
        fitted["data.dataset"] = {"name": dataset}
    return fitted


def _find_median_ratio(statistics: DatasetStatistics) -> float:
    """Shortest / longest edge of the image that the median object of `train` is in."""
    half = statistics.train.num_objects / 2
    total = 0
    for sizes in statistics.train.relative_sizes:
        total += sum(sizes.counts.values())
        if total >= half:
            return sizes.image_ratio
    return 1.0


def _scale_size(longest: int, ratio: float) -> tuple[int, int]:
    shortest = max(1, round(longest * ratio / _EDGE_STEP_PX)) * _EDGE_STEP_PX
    return longest, min(longest, shortest)


def suggest_name(folder_name: str) -> str:
    """A dataset's name from that of its folder: lower case, without other characters."""
    name = re.sub(r"[^a-z0-9._-]+", "-", folder_name.lower()).strip("-._")
    return name[:_MAX_NAME_LENGTH] or "own-data"
