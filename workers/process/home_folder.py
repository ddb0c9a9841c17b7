"""A home folder for processes that have none, as in containers with any user."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def ensure_home() -> None:
    """Set HOME to a temporary folder if neither it nor the list of users names one.

    Libraries look for their caches there; yapf, which mmcv imports, fails without.
    """
    if os.environ.get("HOME"):
        return
    try:
        Path.home()
    except RuntimeError:
        folder = tempfile.mkdtemp(prefix="tandem-home-")
        os.environ["HOME"] = folder
        atexit.register(_remove, folder, owner=os.getpid())


def _remove(folder: str, *, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
