"""Lifetime of child processes, and the process group of a job."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import NoReturn

import psutil

from configs.protocol.names import ExitCode

_PR_SET_PDEATHSIG = 1


def make_worker_init_fn() -> Callable[[int], None]:
    """A `worker_init_fn` for data loaders: their workers end with this process, and not before.

    Ray sends SIGTERM to all processes of a job at once. Workers ignore the first one, because the
    trainer would fail without them before it has written a checkpoint.
    """
    return partial(_tie_to_parent, os.getpid())


def _tie_to_parent(parent: int, _worker: int) -> None:
    """Have the kernel kill this process when its parent ends; Linux only.

    For the kernel, the parent is the thread that forked; ours live as long as their data loaders.
    """
    signal.signal(signal.SIGTERM, _ignore_once)
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)  # it ended before prctl was called


def kill_process_tree(code: ExitCode) -> NoReturn:
    """Kill all descendants and end this process at once, without any cleanup."""
    for child in _children():
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(code)


def _children() -> list[psutil.Process]:
    try:
        return psutil.Process().children(recursive=True)
    except psutil.Error:
        return []


def _ignore_once(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)


def become_group_leader() -> None:
    """Move this process to a process group of its own, so that the whole group can be signaled.

    Not in a terminal, where the shell does it and a background group could not read. Not below
    Ray's shell either, which leads a session: Ray kills that shell's group.
    """
    leader = os.getpgid(0)
    is_in_shells_group = leader == os.getppid() == os.getsid(0)
    if leader != os.getpid() and not is_in_shells_group and not _has_terminal():
        with contextlib.suppress(PermissionError):
            os.setpgrp()


def _has_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False
