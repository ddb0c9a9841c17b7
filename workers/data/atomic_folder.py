"""Creates a dataset's folder atomically: it is complete, or it does not exist."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from configs.spec.dataset import MANIFEST
from workers.errors import DatasetError


def check_output_folder(out: Path, *, replace: bool, sources: Sequence[Path] = ()) -> None:
    """Raise `DatasetError` if `out` cannot take a dataset; a cheap check before the import.

    `sources` are what the dataset is read from; they must not lie in a folder that is replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST).is_file():
        raise DatasetError(f"{out} exists and is no dataset; choose another folder.")
    if not replace:
        raise DatasetError(
            f"{out} holds a dataset already; choose another folder or add --replace."
        )
    for source in sources:
        if source.resolve().is_relative_to(out.resolve()):
            raise DatasetError(f"{source} lies in {out}, which --replace would remove.")


@contextmanager
def open_atomic_folder(out: Path, *, replace: bool) -> Iterator[Path]:
    """Yield an empty folder that is renamed to `out` at the end, and removed after an error."""
    out = out.resolve()
    check_output_folder(out, replace=replace)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
        _rename(unfinished, out, replace=replace)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _rename(unfinished: Path, out: Path, *, replace: bool) -> None:
    """Rename to `out`; an old dataset is moved away first, as a rename needs an empty target."""
    check_output_folder(out, replace=replace)
    if not out.exists() or not any(out.iterdir()):
        unfinished.rename(out)
        return
    old = unfinished.with_suffix(".old")
    out.rename(old)
    try:
        unfinished.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)
