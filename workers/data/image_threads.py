"""Handles many image files at once."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import sched_getaffinity
from typing import TypeVar

from workers.data.images import silence_opencv

_MAX_THREADS = 8

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def map_images(
    handle: Callable[[ItemT], ResultT], items: Sequence[ItemT], *, on_image: Callable[[], None]
) -> Iterator[ResultT]:
    """The results of `handle` in the order of `items`; `on_image` is called before each is yielded.

    Reading and decoding release the interpreter's lock, so threads suffice.
    """
    with silence_opencv(), ThreadPoolExecutor(_count_threads()) as threads:
        for result in threads.map(handle, items):
            on_image()
            yield result


def _count_threads() -> int:
    return min(_MAX_THREADS, len(sched_getaffinity(0)))
