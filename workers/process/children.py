"""What becomes of a process's children when it dies, and which group it leads."""

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
    """What a loader's worker does at its start: it ends with this process, and not before.

    Ray sends SIGTERM to all of a job's processes at once. A loader that obeyed would be a fault to
    the trainer, which is to leave with a checkpoint; the second SIGTERM is obeyed.
    """
    return partial(_die_with, os.getpid())


def _die_with(parent: int, _worker: int) -> None:
    """Have the kernel kill this process when its parent is gone; Linux only.

    To the kernel the parent is the thread that started it; ours live as long as their loaders.
    """
    signal.signal(signal.SIGTERM, _ignore_once)
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)  # it died before the kernel was asked


def kill_process_tree(code: ExitCode) -> NoReturn:
    """End this process at once, with all that it started; nothing is cleaned up."""
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
    """Make this process the head of a group of its own, so that all of it can be signalled.

    In a terminal the shell sees to that, and a background group could not read from it. Ray runs a
    job by a shell in a session of its own, and kills the shell's group if it has to: we stay there.
    """
    leader = os.getpgid(0)
    is_shells = leader == os.getppid() == os.getsid(0)
    if leader != os.getpid() and not is_shells and not _has_terminal():
        with contextlib.suppress(PermissionError):
            os.setpgrp()


def _has_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False
