"""`make bench`: the training step, evaluation, data and start beside what they are compared with.

Each comparison takes turns within one run, so that whatever else the machine does falls on both
sides. Nothing else should run on the machine all the same.
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from tests.bench.data import measure_data
from tests.bench.evaluation import measure_evaluation
from tests.bench.packs import compare_packs
from tests.bench.reporting import measure_reporting
from tests.bench.startup import measure_startup
from tests.bench.step.measure import (
    Count,
    compare_losses,
    compare_with_published,
    format_counts,
    measure_overhead,
)
from tests.bench.table import Comparison, format_markdown, write_report
from workers.process import compat
from workers.process.logs import silence_libraries

CHECKOUT = "BCKD_CHECKOUT"
"""Environment variable: the folder of the published code, github.com/TinyTigerPan/BCKD."""


@dataclass(frozen=True)
class Benchmark:
    """What all parts get: how often to measure, and a folder for their files."""

    rounds: int
    folder: Path
    checkout: Path | None


Result = tuple[list[Comparison], list[Count]]


def _compare_published(benchmark: Benchmark) -> Result:
    if benchmark.checkout is None:
        Console(stderr=True).print(f"{CHECKOUT} is not set: nothing is compared with it.")
        return [], []
    return compare_with_published(
        benchmark.checkout, rounds=benchmark.rounds, folder=benchmark.folder
    )


def _compare_losses(benchmark: Benchmark) -> Result:
    return compare_losses(rounds=benchmark.rounds), []


def _measure_overhead(benchmark: Benchmark) -> Result:
    return [measure_overhead(rounds=benchmark.rounds, folder=benchmark.folder)], []


def _compare_packs(benchmark: Benchmark) -> Result:
    return compare_packs(rounds=benchmark.rounds, folder=benchmark.folder), []


def _measure_evaluation(benchmark: Benchmark) -> Result:
    return measure_evaluation(rounds=benchmark.rounds, folder=benchmark.folder / "eval"), []


def _measure_data(benchmark: Benchmark) -> Result:
    return measure_data(rounds=benchmark.rounds, folder=benchmark.folder / "data"), []


def _measure_reporting(benchmark: Benchmark) -> Result:
    return measure_reporting(rounds=benchmark.rounds, folder=benchmark.folder / "reporting"), []


def _measure_startup(benchmark: Benchmark) -> Result:
    return measure_startup(rounds=min(5, benchmark.rounds), folder=benchmark.folder / "start"), []


PARTS: dict[str, Callable[[Benchmark], Result]] = {
    "published": _compare_published,
    "losses": _compare_losses,
    "overhead": _measure_overhead,
    "packs": _compare_packs,
    "evaluation": _measure_evaluation,
    "data": _measure_data,
    "reporting": _measure_reporting,
    "startup": _measure_startup,
}


def main() -> None:
    """Measure the chosen parts, print their tables, and write them with every round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    silence_libraries()
    compat.apply_patches()
    checkout = os.environ.get(CHECKOUT)
    comparisons: list[Comparison] = []
    counts: list[Count] = []
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(arguments.rounds, Path(folder), Path(checkout) if checkout else None)
        for name in arguments.only:
            Console(stderr=True).print(f"{name} ...")
            with contextlib.redirect_stdout(None):  # pycocotools says what it reads
                new_comparisons, new_counts = PARTS[name](benchmark)
            comparisons += new_comparisons
            counts += new_counts
    print(format_markdown(comparisons))  # noqa: T201
    if counts:
        print(format_counts(counts))  # noqa: T201
    write_report(comparisons, arguments.out)


if __name__ == "__main__":
    main()
