#!/usr/bin/python3
"""Removes from an environment what torch opens only where there is a GPU: about 2.3 of 7.3 GB.

without-gpu.py SITE_PACKAGES

The registry has one torch for Linux, with CUDA. It cannot be loaded without the libraries that
it is linked with; all others (most of cuDNN, cuSOLVER, triton's compiler, headers) are opened when
a GPU is used.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

FIRST = ("libtorch_global_deps.so", "libtorch_python.so")
"""What `import torch` loads, with all that these are linked with."""


def main() -> None:
    """Remove, and say how much."""
    packages = Path(sys.argv[1])
    libraries = {
        file.name: file
        for pattern in ("nvidia/**/*.so*", "torch/lib/*.so*")
        for file in packages.glob(pattern)
    }
    kept = linked(libraries)
    superfluous = [file for name, file in libraries.items() if name not in kept]
    folders = [*packages.glob("nvidia/**/include"), packages / "triton"]
    freed = sum(file.stat().st_size for file in superfluous) + sum(map(size_of, folders))
    for file in superfluous:
        file.unlink()
    for folder in folders:
        shutil.rmtree(folder)
    print(f"{len(superfluous)} libraries and {len(folders)} folders removed, {freed >> 20} MiB")


def linked(libraries: dict[str, Path]) -> set[str]:
    """The names of those that are loaded without a GPU."""
    found, todo = set[str](), list(FIRST)
    while todo:
        name = todo.pop()
        if name not in found and name in libraries:
            found.add(name)
            asked = ["readelf", "--dynamic", str(libraries[name])]
            told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
            todo += re.findall(r"\(NEEDED\).*\[(.*)\]", told)
    return found


def size_of(folder: Path) -> int:
    """Bytes of everything in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
