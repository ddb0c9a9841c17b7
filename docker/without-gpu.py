#!/usr/bin/python3
"""Removes the files that torch needs only with a GPU from an environment: about 2.3 of 7.3 GB.

Usage: without-gpu.py SITE_PACKAGES

The registry's torch for Linux includes CUDA. It requires the libraries that it is linked with; all
others (most of cuDNN, cuSOLVER, triton's compiler, headers) are loaded only if a GPU is used.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT_LIBRARIES = ("libtorch_global_deps.so", "libtorch_python.so")
"""The libraries that `import torch` loads, before those that they are linked with."""


def main() -> None:
    """Remove the files, and print how much space was freed."""
    packages = Path(sys.argv[1])
    libraries = {
        file.name: file
        for pattern in ("nvidia/**/*.so*", "torch/lib/*.so*")
        for file in packages.glob(pattern)
    }
    required = find_linked(libraries)
    superfluous = [file for name, file in libraries.items() if name not in required]
    folders = [*packages.glob("nvidia/**/include"), packages / "triton"]
    freed = sum(file.stat().st_size for file in superfluous) + sum(map(size_of, folders))
    for file in superfluous:
        file.unlink()
    for folder in folders:
        shutil.rmtree(folder)
    print(f"{len(superfluous)} libraries and {len(folders)} folders removed, {freed >> 20} MiB")


def find_linked(libraries: dict[str, Path]) -> set[str]:
    """Names of the libraries that are loaded without a GPU."""
    linked, todo = set[str](), list(ROOT_LIBRARIES)
    while todo:
        name = todo.pop()
        if name not in linked and name in libraries:
            linked.add(name)
            command = ["readelf", "--dynamic", str(libraries[name])]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            todo += re.findall(r"\(NEEDED\).*\[(.*)\]", output)
    return linked


def size_of(folder: Path) -> int:
    """Size of all files in a folder in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
