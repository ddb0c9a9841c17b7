"""What a pretended device notes: the kind of event, the operator, and the place in our code."""

from dataclasses import dataclass
from types import FrameType
from typing import Literal

Kind = Literal["mixing", "read", "copy"]

_PROJECTS = ("/tests/", "/workers/", "/mmdet/", "/mmcv/", "/configs/")


@dataclass(frozen=True)
class Note:
    """One event that a GPU would refuse or pay for."""

    kind: Kind
    operator: str
    place: str
    """`file:line` of the innermost frame outside of torch; in a backward pass, its caller's."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.operator} at {self.place}"


def place_of(frame: FrameType | None, *, leaving_out: str) -> str:
    """Where the innermost frame is that is ours, mmdet's or mmcv's, not of file `leaving_out`."""
    while frame is not None:
        name = frame.f_code.co_filename
        project = next((part for part in _PROJECTS if part in name), None)
        if project is not None and name != leaving_out:
            return f"{name[name.rindex(project) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside of the project"
