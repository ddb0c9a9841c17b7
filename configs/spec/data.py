"""The images of a training run: batches, augmentation, and those that only the teacher labels."""

from typing import Annotated

from pydantic import Field

from configs.spec.base import OMIT_IF_NONE, Contract, Fraction
from configs.spec.references import Dataset

Pixels = Annotated[int, Field(ge=32, le=4096)]


class Mixture(Contract):
    """An augmentation that makes a training image of several."""

    stop_epochs: Annotated[int, Field(ge=0)] = 2
    """Last epochs without it: the student ends with images as they are (YOLOX)."""

    probability: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the training images."""


class Mosaic(Mixture):
    """Four images around a random point, each shrunk to 50 to 100 % and cropped (YOLOv4)."""


class Mixup(Mixture):
    """The mean of two images, with the boxes of both (Zhang et al., 2018)."""

    probability: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5


class Unlabelled(Contract):
    """Images that only the teacher labels, in addition to the labeled ones of each batch."""

    dataset: Dataset
    """Its training images; labels that it has are ignored."""

    images_per_batch: Annotated[int, Field(ge=1, le=1024)]
    """Images without labels per optimizer step, over all processes."""


class Data(Contract):
    """Images, their size and their batches."""

    dataset: Dataset
    image_size: tuple[Pixels, Pixels] = (1333, 800)
    """Longest and shortest edge after resizing, in pixels; the aspect ratio is kept."""

    multi_scale: tuple[Pixels, Pixels] | None = None
    """Range to sample the shortest edge of each training image from. None for a fixed size."""

    flip: Fraction = 0.5
    """Probability to flip a training image horizontally."""

    mosaic: Annotated[Mosaic | None, OMIT_IF_NONE] = None
    """None for no mosaic."""

    mixup: Annotated[Mixup | None, OMIT_IF_NONE] = None
    """It follows after the mosaic. None for no mixup."""

    train_images: Annotated[int, Field(ge=1)] | None = None
    """Train on the first so many images only. None for all."""

    batch_size: Annotated[int, Field(ge=1, le=1024)] = 16
    """Images per optimizer step, over all processes."""

    num_workers: Annotated[int, Field(ge=0, le=64)] = 2
    """Processes that load and augment images; 0 loads them in the training process."""

    unlabelled: Annotated[Unlabelled | None, OMIT_IF_NONE] = None
    """None for labeled images alone."""
