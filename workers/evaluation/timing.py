"""How fast a detector is: whole batches, and images one by one."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from configs.spec.jobs import Timing
from workers.data.batches import to_device


@dataclass(frozen=True)
class Latency:
    """Milliseconds from a loaded image to its boxes, over single images."""

    images: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


@dataclass(frozen=True)
class TimingConditions:
    """What a time is worth nothing without."""

    device: str
    threads: int
    """Of torch; those that load images are not counted."""

    batch_size: int
    image_size: tuple[int, int]
    precision: str = "fp32"


@dataclass
class TimedDetector:
    """A detector that counts the time in its calls; it looks like the one inside.

    The first batch is not counted, unless it is the only one: it sets up caches and kernels.
    """

    detector: Any
    seconds: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)

    def __call__(self, **batch: Any) -> Any:
        """The detector's answer."""
        began = time.perf_counter()
        found = self.detector(**batch)  # numpy arrays: a GPU is done when they are there
        self.seconds.append(time.perf_counter() - began)
        self.images.append(len(found))
        return found

    @property
    def training(self) -> bool:
        """Whether the detector is in training mode."""
        return bool(self.detector.training)

    def train(self, mode: bool = True) -> None:
        """Put the detector into training mode."""
        self.detector.train(mode)

    def eval(self) -> None:
        """Put the detector into evaluation mode."""
        self.detector.eval()

    @property
    def images_per_s(self) -> float:
        """Images in a second of forward, decoding and NMS; loading is not counted."""
        first = 1 if len(self.seconds) > 1 else 0
        return sum(self.images[first:]) / sum(self.seconds[first:])


def measure_latency(
    detector: Any,
    loader: DataLoader[Any],
    timing: Timing,
    *,
    device: torch.device,
    on_image: Callable[[], None] = lambda: None,
) -> Latency:
    """Times single images of `loader`, which gives one at a time; few images come round again.

    `on_image` is called between two images, outside of the time that is taken.
    """
    milliseconds = []
    with torch.inference_mode():
        for number, batch in enumerate(_endless(loader, timing.warm_up + timing.images)):
            on_image()
            began = time.perf_counter()
            detector(return_loss=False, rescale=True, **to_device(batch, device))
            if number >= timing.warm_up:
                milliseconds.append(1000 * (time.perf_counter() - began))
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99))
    return Latency(
        images=len(milliseconds),
        mean_ms=round(float(np.mean(milliseconds)), 3),
        p50_ms=round(float(p50), 3),
        p90_ms=round(float(p90), 3),
        p99_ms=round(float(p99), 3),
    )


def build_speed_document(
    setting: TimingConditions, *, images_per_s: float, latency: Latency | None
) -> dict[str, Any]:
    """Speed as JSON holds it."""
    return {
        **asdict(setting),
        "images_per_s": round(images_per_s, 3),
        "counted": "forward, decoding and NMS; not loading and resizing",
        "single_images": None if latency is None else asdict(latency),
    }


def _endless(loader: DataLoader[Any], count: int) -> Iterator[Any]:
    """The loader's batches, kept and given again until there are `count`."""
    batches = []
    for _, batch in zip(range(count), loader, strict=False):
        batches.append(batch)
        yield batch
    for number in range(len(batches), count):
        yield batches[number % len(batches)]
