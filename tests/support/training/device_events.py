"""Events that a pretended device records: kind, operator, and location in the code."""

from dataclasses import dataclass
from types import FrameType
from typing import Literal

EventKind = Literal["mixing", "read", "copy"]

_PROJECTS = ("/tests/", "/workers/", "/mmdet/", "/mmcv/", "/configs/")


@dataclass(frozen=True)
class DeviceEvent:
    """An operation that a GPU would refuse or spend time on."""

    kind: EventKind
    operator: str
    location: str
    """`file:line` of the innermost frame outside of torch; in a backward pass, its caller's."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.operator} at {self.location}"


def find_location(frame: FrameType | None, *, excluded_file: str) -> str:
    """Find `file:line` of the innermost frame in Tandem, mmdet or mmcv, except `excluded_file`."""
    while frame is not None:
        name = frame.f_code.co_filename
        project = next((part for part in _PROJECTS if part in name), None)
        if project is not None and name != excluded_file:
            return f"{name[name.rindex(project) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside of the project"
