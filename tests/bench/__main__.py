"""`make bench`: the training step, evaluation, data and start beside what they are compared with.

Each comparison takes turns within one run, so that whatever else the machine does falls on both
sides. Nothing else should run on the machine all the same.
"""

import argparse
import contextlib
import gc
import os
import tempfile
from pathlib import Path
from typing import Protocol

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


class Part(Protocol):
    """Measures in a number of rounds, with files in an empty folder."""

    def __call__(self, *, rounds: int, folder: Path) -> list[Comparison]:
        """One or more rows of the table."""


PUBLISHED = "published"

PARTS: dict[str, Part] = {
    "losses": lambda *, rounds, folder: compare_losses(rounds=rounds),
    "overhead": measure_overhead,
    "packs": compare_packs,
    "evaluation": measure_evaluation,
    "data": measure_data,
    "reporting": measure_reporting,
    "startup": measure_startup,
}


def main() -> None:
    """Measure the chosen parts, print their tables, and write them with every round."""
    names = [PUBLISHED, *PARTS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    silence_libraries()
    compat.apply_patches()
    comparisons: list[Comparison] = []
    counts: list[Count] = []
    for name in arguments.only:
        Console(stderr=True).print(f"{name} ...")
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(None),  # pycocotools says what it reads
        ):
            if name == PUBLISHED:
                new_comparisons, counts = _compare_published(arguments.rounds, Path(folder))
            else:
                new_comparisons = PARTS[name](rounds=arguments.rounds, folder=Path(folder))
        comparisons += new_comparisons
        # Workers end with their loader: one in a cycle would keep this program from ending.
        gc.collect()
    print(format_markdown(comparisons))  # noqa: T201
    if counts:
        print(format_counts(counts))  # noqa: T201
    write_report(comparisons, arguments.out)


def _compare_published(rounds: int, folder: Path) -> tuple[list[Comparison], list[Count]]:
    checkout = os.environ.get(CHECKOUT)
    if not checkout:
        Console(stderr=True).print(f"{CHECKOUT} is not set: nothing is compared with it.")
        return [], []
    return compare_with_published(Path(checkout), rounds=rounds, folder=folder)


if __name__ == "__main__":
    main()
