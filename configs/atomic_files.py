"""Replaces files so that no reader and no crash ever meets a part of one."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

UNFINISHED_SUFFIX = ".unfinished"
"""Ends the names of temporary files; a killed writer leaves its file."""

_UNSUPPORTED_ERRNOS = {errno.EINVAL, errno.ENOTSUP}
"""How file systems that cannot sync a folder, as some over a network, refuse to."""


def write_atomically(
    path: Path,
    content: bytes | str,
    *,
    mode: int = 0o666,
    durable: bool = True,
    dir_fd: int | None = None,
) -> None:
    """Replace `path` by `content`, text in UTF-8, with the guarantee of `open_atomically`."""
    with open_atomically(path, mode=mode, durable=durable, dir_fd=dir_fd) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def open_atomically(
    path: Path, *, mode: int = 0o666, durable: bool = True, dir_fd: int | None = None
) -> Iterator[BinaryIO]:
    """Yield a new file, which replaces `path` when the block ends without an error.

    At any moment, also after a crash or a power failure, `path` is the complete old file or the
    complete new one; after the block it is the new one, on disk. Without `durable` nothing is
    synced to disk: that holds for readers and a killed process, but after a power failure the file
    may be the old one, or empty.

    The folder must exist. `mode` is reduced by the umask. The temporary file has a random name,
    because processes on several hosts, which may have the same pid, share a run's folder. A link
    with the name of `path` is replaced, not followed. With `dir_fd`, the descriptor of a folder,
    `path` is a name in that folder.
    """
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED_SUFFIX}")
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode, dir_fd=dir_fd)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(unfinished, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        # On a full disk, the rest of a failed write would make the next one fail, too.
        with suppress(FileNotFoundError):
            os.unlink(unfinished, dir_fd=dir_fd)
        raise
    if durable:
        _sync_folder(path.parent, dir_fd=dir_fd)


def _sync_folder(folder: Path, *, dir_fd: int | None) -> None:
    """Write the new name of a file in `folder` to disk, where the file system can."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY, dir_fd=dir_fd)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNSUPPORTED_ERRNOS:
            raise
    finally:
        os.close(handle)
