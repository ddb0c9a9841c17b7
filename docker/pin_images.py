"""Writes the digests of the images that are not built here into base-images.txt, or checks it.

A tag can be moved to another image; a digest cannot. docker/new-env.sh copies what is pinned into
.env, from which compose.yaml takes it.

Usage: PYTHON pin_images.py [--check]
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LOCK = Path(__file__).with_name("base-images.txt")
UNPINNED = "-"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class BaseImage:
    """A line of the lock."""

    variable: str
    image: str
    digest: str

    @property
    def is_pinned(self) -> bool:
        return _DIGEST.fullmatch(self.digest) is not None


def main() -> None:
    """Ask the registry for all digests; with --check fail if one is missing."""
    comments, images = read_lock(LOCK)
    if sys.argv[1:] == ["--check"]:
        unpinned = [image.image for image in images if not image.is_pinned]
        if unpinned:
            sys.exit(f"{', '.join(unpinned)} without a digest: run `make pin-images`.")
        return
    pinned = [BaseImage(item.variable, item.image, ask_registry(item.image)) for item in images]
    lines = [f"{item.variable} {item.image} {item.digest}" for item in pinned]
    LOCK.write_text("\n".join([*comments, *lines, ""]), encoding="utf-8")


def read_lock(file: Path) -> tuple[list[str], list[BaseImage]]:
    """The comments and the images of a lock; raises `ValueError` for another line."""
    lines = file.read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    images = []
    for line in lines[len(comments) :]:
        variable, image, digest = line.split()
        if digest != UNPINNED and not _DIGEST.fullmatch(digest):
            raise ValueError(f"{file}: {digest} is no digest.")
        images.append(BaseImage(variable, image, digest))
    return comments, images


def ask_registry(image: str) -> str:
    """The digest to which a tag points now; nothing is downloaded but the index."""
    command = ["docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}"]
    answer = subprocess.run([*command, image], capture_output=True, text=True, check=False)
    digest = answer.stdout.strip()
    if answer.returncode != 0 or not _DIGEST.fullmatch(digest):
        cause = (answer.stderr.strip() or digest).partition("\n")[0]
        sys.exit(f"There is no digest of {image}; Docker with buildx asks its registry: {cause}")
    return digest


if __name__ == "__main__":
    main()
