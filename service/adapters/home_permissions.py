"""Keeps the folder of the stack from other users of the machine.

A home with the setgid bit is shared: workers of another user, in its group, use it, too.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

_CONTENTS = (
    *("tandem.db", "tandem.db-wal", "tandem.db-shm", "secret", "ray/token", "mlflow/mlflow.db"),
    *("runs", "sweeps", "logs", "logs-of-runs", "ray", "mlflow", "stack", "datasets", "teachers"),
)
"""What is in a home; other files are not ours."""


def secure_home(home: Path) -> list[Path]:
    """Create the home for this user only, and take the rights of others from what is in it.

    Returns what has other rights now. What belongs to another user stays as it is; `tandem doctor`
    reports it. Raises `OSError` if the home cannot be created or changed.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    denied, changed = home_umask(home), []
    for path, status in _list_exposed(home):
        if status.st_uid == os.geteuid():
            path.chmod(stat.S_IMODE(status.st_mode) & ~denied)
            changed.append(path)
    return changed


def is_exposed(home: Path) -> bool:
    """Whether other users can open the home; else nothing in it is in their reach."""
    return any(path == home for path, _ in _list_exposed(home))


def home_umask(home: Path) -> int:
    """The umask of the processes that write into a home."""
    return 0o007 if home.exists() and home.stat().st_mode & stat.S_ISGID else 0o077


def _list_exposed(home: Path) -> list[tuple[Path, os.stat_result]]:
    """The home, and what is in it, if other users have rights there; links are left out."""
    exposed = []
    denied = home_umask(home)
    for path in (home, *(home / name for name in _CONTENTS)):
        with suppress(FileNotFoundError):
            status = path.lstat()
            if not stat.S_ISLNK(status.st_mode) and status.st_mode & denied:
                exposed.append((path, status))
    return exposed
