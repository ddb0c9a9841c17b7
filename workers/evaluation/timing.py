"""Measures the speed of a detector: throughput in batches, and latency of single images."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from configs.spec.jobs import Timing
from workers.data.batches import Batch, to_device
from workers.evaluation.detection import DetectBatch, Detections, build_batch_detection


@dataclass(frozen=True)
class Latency:
    """Time from a loaded image to its boxes, measured on single images."""

    images: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


@dataclass(frozen=True)
class TimingConditions:
    """The conditions under which times were measured."""

    device: str
    threads: int
    """Threads of torch; loader workers are not counted."""

    batch_size: int
    image_size: tuple[int, int]
    precision: str = "fp32"


@dataclass
class Throughput:
    """Times of the batches that a function has detected objects in.

    The first batch is not counted, unless it is the only one: it initializes caches and kernels.
    """

    seconds: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)

    def measure(self, detect: DetectBatch) -> DetectBatch:
        """Wrap the function; each call records its time and number of images."""

        def detect_and_record(batch: Batch) -> list[Detections]:
            start_s = time.perf_counter()
            detections = detect(batch)  # numpy arrays, so the GPU has finished
            self.seconds.append(time.perf_counter() - start_s)
            self.images.append(len(detections))
            return detections

        return detect_and_record

    @property
    def images_per_s(self) -> float:
        """Images per second of forward pass, decoding and NMS; loading is not counted."""
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
    """Measure the latency of single images; `loader` has batch size 1 and is repeated if short.

    `on_image` is called between two images, outside of the measured time.
    """
    milliseconds = []
    detect = build_batch_detection(detector)
    with torch.inference_mode():
        for number, batch in enumerate(_repeat(loader, timing.warm_up + timing.images)):
            on_image()
            start_s = time.perf_counter()
            detect(to_device(batch, device))
            if number >= timing.warm_up:
                milliseconds.append(1000 * (time.perf_counter() - start_s))
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99))
    return Latency(
        images=len(milliseconds),
        mean_ms=round(float(np.mean(milliseconds)), 3),
        p50_ms=round(float(p50), 3),
        p90_ms=round(float(p90), 3),
        p99_ms=round(float(p99), 3),
    )


def build_speed_document(
    conditions: TimingConditions, *, images_per_s: float, latency: Latency | None
) -> dict[str, Any]:
    """Throughput and latency as a JSON document."""
    return {
        **asdict(conditions),
        "images_per_s": round(images_per_s, 3),
        "counted": "forward, decoding and NMS; not loading and resizing",
        "single_images": None if latency is None else asdict(latency),
    }


def _repeat(loader: DataLoader[Any], count: int) -> Iterator[Any]:
    """Yield `count` batches; the loader's batches are cached and repeated."""
    batches = []
    for _, batch in zip(range(count), loader, strict=False):
        batches.append(batch)
        yield batch
    for number in range(len(batches), count):
        yield batches[number % len(batches)]
