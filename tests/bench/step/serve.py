"""One training step for each line of standard input, and what was measured on standard output.

The program of the published code runs with another mmdet, so this module imports nothing of Tandem.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

HOST_READS = ("aten::_local_scalar_dense", "aten::nonzero")
"""Operators for which the host waits for the device."""


def serve_steps(step: Callable[[], dict[str, float]]) -> None:
    """Answer each line, `step` or `count`, with a line of JSON.

    Both run a step. `step` answers with `seconds`, `losses` and `peak_mib`, the peak memory so far;
    `count` with its `operators`, those nested in others included, and its `host_reads`.
    """
    for line in sys.stdin:
        answer = _count(step) if line.strip() == "count" else _time(step)
        print(json.dumps(answer), flush=True)  # noqa: T201


def _time(step: Callable[[], dict[str, float]]) -> dict[str, Any]:
    start_s = time.perf_counter()
    losses = step()
    seconds = time.perf_counter() - start_s
    return {"seconds": seconds, "losses": losses, "peak_mib": _read_peak_mib()}


def _count(step: Callable[[], dict[str, float]]) -> dict[str, Any]:
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    counts = {event.key: event.count for event in profiler.key_averages()}
    return {
        "operators": sum(count for name, count in counts.items() if name.startswith("aten::")),
        "host_reads": sum(counts.get(name, 0) for name in HOST_READS),
    }


def _read_peak_mib() -> float:
    """Peak memory of this program; `getrusage` would include the process before `exec`."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024
