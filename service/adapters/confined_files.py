"""Opens files in folders that workers can write to, without following links.

A worker can replace any name in its run's folder by a link, at any moment. So every component of a
path below a trusted folder is opened by itself, relative to the descriptor of the one before
(`openat` with O_NOFOLLOW), and only regular files are opened.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path

from configs.atomic_files import write_atomically

_FOLDER_FLAGS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Not blocking, because opening a pipe waits for its other end."""

_LINK_ERRNOS = {errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EMLINK}


class UnconfinedPath(OSError):
    """A path leads through a link, or to something that is not a regular file."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(errno.ELOOP, why, str(path))


class ConfinedFolder:
    """A trusted folder, below which no link is followed."""

    def __init__(self, root: Path, *, folder_mode: int = 0o777) -> None:
        """Links to `root` itself are followed once, now: an administrator may have made some.

        `folder_mode`: the mode of folders that are created, reduced by the umask.
        """
        self._root = root
        self._resolved = root.resolve()
        self._folder_mode = folder_mode

    @property
    def root(self) -> Path:
        """The folder's path, as it was given."""
        return self._root

    @property
    def depth(self) -> int:
        """The number of components of the folder's path."""
        return len(self._root.parts)

    def contains(self, path: Path) -> bool:
        """Whether the name of `path` is below the folder; nothing is looked up."""
        return path.is_relative_to(self._root) or path.is_relative_to(self._resolved)

    def open_file(self, path: Path) -> BufferedReader:
        """Open a regular file to read it.

        Raises `UnconfinedPath` if something else has its name, or a link is on the way to it.
        """
        return os.fdopen(self._open(path, os.O_RDONLY), "rb")

    def append_file(self, path: Path) -> BufferedWriter:
        """Open a regular file to append to it, and create a missing one; raises as `open_file`."""
        return os.fdopen(self._open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")

    def size_bytes(self, path: Path) -> int:
        """The size of a regular file; raises as `open_file` does, and needs no right to read it."""
        with self.open_folder(path.parent) as folder:
            status = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise UnconfinedPath(path, "it is not a regular file")
        return status.st_size

    def select_files(self, path: Path, names: Iterable[str]) -> list[str]:
        """Those of the names that regular files in a folder have; raises as `open_folder` does."""
        with self.open_folder(path) as folder:
            return [name for name in names if _is_file(name, folder=folder)]

    def write_file(self, path: Path, content: str, *, is_secret: bool = False) -> None:
        """Replace a file atomically and create its folders; a link of its name is replaced.

        A secret is readable by its owner, and by the group of a folder that users share (setgid).
        """
        with self.open_folder(path.parent, create=True) as folder:
            is_shared = bool(os.fstat(folder).st_mode & stat.S_ISGID)
            mode = 0o666 if not is_secret else 0o640 if is_shared else 0o600
            write_atomically(Path(path.name), content, mode=mode, dir_fd=folder)

    @contextmanager
    def open_folder(self, path: Path, *, create: bool = False) -> Iterator[int]:
        """Yield a descriptor of a folder, for `dir_fd`; missing folders are created on request.

        Raises `UnconfinedPath` if a component is a link or no folder, `FileNotFoundError` if one is
        missing.
        """
        mode = self._folder_mode if create else None
        handle = os.open(self._resolved.anchor, _FOLDER_FLAGS)
        try:
            for name in self._components(path):
                with _refuse_links(path):
                    child = _open_child(name, parent=handle, create_mode=mode)
                os.close(handle)
                handle = child
            yield handle
        finally:
            os.close(handle)

    def _open(self, path: Path, flags: int) -> int:
        with self.open_folder(path.parent) as folder, _refuse_links(path):
            handle = os.open(path.name, flags | _FILE_FLAGS, 0o666, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise UnconfinedPath(path, "it is not a regular file")
        return handle

    def _components(self, path: Path) -> tuple[str, ...]:
        """The names from the file system's root to `path`, without links above the folder."""
        if path.is_relative_to(self._root):
            path = self._resolved / path.relative_to(self._root)
        if not path.is_relative_to(self._resolved) or ".." in path.parts:
            raise UnconfinedPath(path, f"it is outside of {self._root}")
        return path.parts[1:]


def list_names(folder: int) -> list[str]:
    """The names in a folder, of which `ConfinedFolder.open_folder` gave the descriptor."""
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        with os.scandir(readable) as entries:
            return [entry.name for entry in entries]
    finally:
        os.close(readable)


def _is_file(name: str, *, folder: int) -> bool:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode)


def _open_child(name: str, *, parent: int, create_mode: int | None) -> int:
    """Open a folder; a missing one is created if there is a mode for it."""
    try:
        return os.open(name, _FOLDER_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        if create_mode is None:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, create_mode, dir_fd=parent)
    return os.open(name, _FOLDER_FLAGS, dir_fd=parent)


@contextmanager
def _refuse_links(path: Path) -> Iterator[None]:
    """Raise `UnconfinedPath` for the errors with which the kernel refuses a link or a pipe."""
    try:
        yield
    except OSError as error:
        if error.errno in _LINK_ERRNOS:
            raise UnconfinedPath(path, "a part of it is a link or no folder") from error
        raise
