"""Which initial weights of a student were its teacher's."""

from configs.spec.base import Contract
from configs.spec.detector import Part

_MAX_LISTED_LAYERS = 8


class InheritedWeights(Contract):
    """The content of `RunFile.INHERITED_WEIGHTS`."""

    parts: tuple[Part, ...]
    tensors: tuple[str, ...]
    """Names of tensors in the student's state dict."""

    unmatched: tuple[str, ...]
    """Tensors of the same parts whose layer has another shape in the teacher, or is missing."""

    @property
    def summary(self) -> str:
        """As in `42 of 48 tensors of neck and head; not taken: neck.lateral_convs.0.conv`."""
        num_tensors = len(self.tensors) + len(self.unmatched)
        text = f"{len(self.tensors)} of {num_tensors} tensors of {' and '.join(self.parts)}"
        layers = list(dict.fromkeys(name.rpartition(".")[0] for name in self.unmatched))
        if not layers:
            return text
        num_more = len(layers) - _MAX_LISTED_LAYERS
        listed = ", ".join(layers[:_MAX_LISTED_LAYERS])
        return f"{text}; not taken: {listed}{f' and {num_more} more' if num_more > 0 else ''}"
