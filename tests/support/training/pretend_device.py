"""A device for tests without a GPU: tensors that report another device and compute on the CPU.

Within `PretendDevice()` a tensor on its `device` is a wrapper around a CPU tensor, so that values
are those of the CPU. Three things are recorded that a GPU would refuse or pay for, each with the
place in the code that caused it:

- mixing: an operator that got tensors of both devices, which CUDA refuses;
- read: the host waits for a value or a size, which CUDA pays with a synchronization;
- copy: values go from the host to the device.

Limits. The device's type is `meta`, so code that asks for `device.type == "cuda"` or `is_cuda`
takes its CPU branch; autocast does nothing; kernels, streams, memory and asynchronous errors do
not exist; an operator with several CUDA kernels counts once. In a backward pass torch has formulas
of its own for such wrappers, of which products (`prod`) round otherwise: compare values with a CPU
step that is taken within the context, too.
"""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.training.device_notes import Kind, Note, place_of

DEVICE = torch.device("meta")
"""The only type besides the CPU's that autograd serves without a backend of its own."""

_MOVING = {"aten::copy_", "aten::_to_copy"}
"""Operators that may get tensors of both devices."""

_READING = {
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "torchvision::nms",
    "mmcv::nms",
}
"""Operators whose result is a value on the host, or has a size that the host must know."""

_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


class PretendTensor(torch.Tensor):
    """A tensor on the pretended device; `host_tensor` is the CPU tensor with its values."""

    host_tensor: Tensor
    owner: "PretendDevice"
    is_meta = False
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor, owner: "PretendDevice") -> "PretendTensor":
        made: PretendTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.host_tensor = inner
        made.owner = owner
        return made

    def __init__(self, inner: Tensor, owner: "PretendDevice") -> None:
        """The attributes are set by `__new__`."""

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        owner = next(of.owner for of in _tensors((args, kwargs)) if isinstance(of, PretendTensor))
        return owner.compute(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"PretendTensor(shape={tuple(self.shape)}, dtype={self.dtype})"

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(self.owner.moved_index(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, bool | int | float):
            value = torch.tensor(value, dtype=self.dtype)  # as torch does for CUDA's tensors
        super().__setitem__(self.owner.moved_index(index), value)

    def new_tensor(
        self,
        data: Any,
        dtype: torch.dtype | None = None,
        device: Any = None,
        requires_grad: bool = False,
        pin_memory: bool = False,
    ) -> Tensor:
        """On the same device unless another one is named; values that come from the host."""
        made = torch.tensor(data, dtype=dtype or self.dtype, device=device or DEVICE)
        return made.requires_grad_(requires_grad)

    def tolist(self) -> Any:
        """Values as Python numbers, which the host waits for."""
        self.owner.note("read", "tolist")
        return self.host_tensor.tolist()

    def numpy(self, **_: Any) -> Any:
        """Refused with the error that CUDA's tensors raise."""
        raise TypeError("A tensor on the device has no numpy array; use .cpu() first.")

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Saved as its values on the host."""
        self.owner.note("read", "save")
        return self.host_tensor.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> "PretendTensor":
        copied = PretendTensor(self.host_tensor.detach().clone(), self.owner)
        copied.requires_grad_(self.requires_grad)
        memo[id(self)] = copied
        return copied


class PretendDevice(TorchDispatchMode):
    """The device, and the record of what it saw; a context manager that undoes its patches.

    Tensors are brought there with `.to(device.device)`. What is built outside of the context
    stays on the CPU. `notes` and `operators` count on until `forget`.
    """

    device = DEVICE

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[Note] = []
        self.operators = 0
        """Operators that ran on the device."""

        self._returned: dict[Any, int | str | None] = {}
        self._patches = contextlib.ExitStack()

    def __enter__(self) -> Self:
        patch = self._patches.enter_context(pytest.MonkeyPatch.context())
        for name in ("tensor", "as_tensor"):
            patch.setattr(torch, name, partial(self._from_host, getattr(torch, name)))
        patch.setattr(torch, "autocast", _Autocast)
        patch.setattr(torch.amp, "GradScaler", _GradScaler)
        for module, name in _extension_functions():
            stand_in = partial(self._extension, f"mmcv::{name}", getattr(module, name))
            patch.setattr(module, name, stand_in)
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._patches.close()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self.compute(func, args, kwargs or {})

    @property
    def mixings(self) -> list[Note]:
        """Operators that got tensors of both devices."""
        return self._of_kind("mixing")

    @property
    def reads(self) -> list[Note]:
        """Times that the host waited for the device."""
        return self._of_kind("read")

    @property
    def copies(self) -> list[Note]:
        """Copies from the host to the device."""
        return self._of_kind("copy")

    def forget(self) -> None:
        """Begin the record anew."""
        self.notes.clear()
        self.operators = 0

    def note(self, kind: Kind, operator: str) -> None:
        """Record an event at the place that is being executed."""
        self.notes.append(Note(kind, operator, place_of(sys._getframe(1), leaving_out=__file__)))

    def moved_index(self, index: Any) -> Any:
        """An index whose sequences of numbers are tensors on the device, as CUDA makes them."""
        if isinstance(index, tuple):
            return tuple(self.moved_index(part) for part in index)
        if not _is_numbers(index):
            return index
        self.note("copy", "index by a sequence")
        return PretendTensor(torch.as_tensor(np.asarray(index)), self)

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator of torch on the CPU's tensors; the result is where torch would put it."""
        if torch.is_inference_mode_enabled():
            result = self._decomposed(func, args, kwargs)
            if result is not NotImplemented:
                return result
        name = func._schema.name
        self._record(name, args, kwargs)
        goes_to = kwargs.get("device")
        if goes_to is not None:
            kwargs = kwargs | {"device": torch.device("cpu")}
        result = func(*_unwrapped(args), **_unwrapped(kwargs))
        mutated = self._mutated(func, args, kwargs)
        if mutated is not None:
            _refuse_changed_shape(name, mutated)
            return mutated
        is_there = _has_pretended((args, kwargs)) if goes_to is None else goes_to == DEVICE
        if not is_there:
            return result
        # A view of a tensor from outside of inference mode is one, too.
        is_inference = torch.is_inference_mode_enabled() and _is_inference(result)
        with torch.inference_mode(is_inference):
            return self._wrapped(result)

    def _decomposed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operator's parts, one by one; outside of inference mode torch itself sends parts."""
        super().__enter__()
        try:
            return func.decompose(*args, **kwargs)
        finally:
            super().__exit__(None, None, None)

    def _record(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = list(_tensors((args, kwargs)))
        for tensor in tensors:
            if tensor.device == DEVICE and not isinstance(tensor, PretendTensor):
                raise AssertionError(f"{name} got a tensor on `meta` that holds no values.")
        if name == "aten::_to_copy" and kwargs.get("device") is not None:
            self._record_move(tensors[0], kwargs["device"] == DEVICE)
        if not _has_pretended(tensors):
            return
        self.operators += 1
        if name in _READING:
            self.note("read", name)
        elif name == "aten::prod" and args[0].requires_grad and torch.is_grad_enabled():
            self.note("read", "backward pass of aten::prod, for the number of zeros")
        if name == "aten::copy_":
            self._record_move(args[1], isinstance(args[0], PretendTensor))
        elif name in _INDEXING:
            self._record_indexing(name, args)
        elif name not in _MOVING:
            self._record_mixing(name, tensors)

    def _record_move(self, source: Tensor, is_to_device: bool) -> None:
        if isinstance(source, PretendTensor) and not is_to_device:
            self.note("read", "copy to the host")
        elif not isinstance(source, PretendTensor) and is_to_device:
            self.note("copy", "copy to the device")

    def _record_mixing(self, name: str, tensors: Iterable[Tensor]) -> None:
        """A tensor without dimensions on the CPU is a number, which CUDA takes."""
        if any(not isinstance(of, PretendTensor) and of.dim() > 0 for of in tensors):
            self.note("mixing", name)

    def _record_indexing(self, name: str, args: tuple[Any, ...]) -> None:
        """CUDA takes an index from the CPU, and copies it; a CPU tensor takes none of CUDA's."""
        target, indices, *values = args
        given = [index for index in indices if index is not None]
        self._record_mixing(name, [target, *_tensors(values)])
        if not isinstance(target, PretendTensor):
            return
        for index in given:
            if not isinstance(index, PretendTensor):
                self.note("copy", f"{name} by an index on the host")
        masks = [index for index in given if index.dtype in (torch.bool, torch.uint8)]
        # A number is filled in by mask; anything else needs the positions, and their count.
        if masks and not (values and len(masks) == len(given) and _is_number(values[0])):
            self.note("read", f"{name} by a mask")

    def _mutated(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The argument that an operator changes and returns, if it is one that does."""
        if func not in self._returned:
            self._returned[func] = _changed_argument(func._schema)
        where = self._returned[func]
        if where is None:
            return None
        return args[where] if isinstance(where, int) else kwargs[where]

    def _wrapped(self, result: Any) -> Any:
        if isinstance(result, PretendTensor):
            return result
        if isinstance(result, Tensor):
            return PretendTensor(result, self)
        if isinstance(result, list | tuple):
            return type(result)(self._wrapped(part) for part in result)
        return result

    def _from_host(self, make: Callable[..., Tensor], data: Any, *args: Any, **kwargs: Any) -> Any:
        """`torch.tensor` and `torch.as_tensor`, whose data come from the host."""
        device = kwargs.get("device")
        if device is None or torch.device(device) != DEVICE or isinstance(data, Tensor):
            return make(data, *args, **kwargs)
        self.note("copy", "tensor")
        return PretendTensor(make(data, *args, **kwargs | {"device": "cpu"}), self)

    def _extension(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """An operator of mmcv that torch's dispatcher does not see: it may fill its arguments."""
        self._record(name, args, kwargs)
        result = function(*_unwrapped(args), **_unwrapped(kwargs))
        return self._wrapped(result) if _has_pretended((args, kwargs)) else result

    def _of_kind(self, kind: Kind) -> list[Note]:
        return [note for note in self.notes if note.kind == kind]


class _Autocast(torch.autocast):
    """Autocast for the device is the CPU's, which leaves the device's tensors as they are."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)


class _GradScaler(torch.amp.GradScaler):
    """The scaler for the device is the CPU's; its scale lies where the losses are."""

    def __init__(self, device: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device == DEVICE.type else device, *args, **kwargs)


def _extension_functions() -> Iterator[tuple[ModuleType, str]]:
    """Every function of mmcv's compiled operators."""
    from mmcv import _ext  # noqa: PLC0415  loaded by what is tested

    for name, value in vars(_ext).items():
        if callable(value) and not name.startswith("_") and not isinstance(value, type):
            yield _ext, name


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


def _is_inference(value: Any) -> bool:
    return all(tensor.is_inference() for tensor in _tensors(value))


def _has_pretended(value: Any) -> bool:
    return any(isinstance(tensor, PretendTensor) for tensor in _tensors(value))


def _unwrapped(value: Any) -> Any:
    if isinstance(value, PretendTensor):
        return value.host_tensor
    if isinstance(value, list | tuple):
        return type(value)(_unwrapped(part) for part in value)
    if isinstance(value, dict):
        return {name: _unwrapped(part) for name, part in value.items()}
    return value


def _changed_argument(schema: Any) -> int | str | None:
    """Position or name of the argument that the first result is, of an operator in place."""
    if not schema.returns or schema.returns[0].alias_info is None:
        return None
    alias = schema.returns[0].alias_info
    for position, argument in enumerate(schema.arguments):
        info = argument.alias_info
        if alias.is_write and info is not None and info.before_set == alias.before_set:
            return str(argument.name) if argument.kwarg_only else position
    return None


def _refuse_changed_shape(name: str, mutated: Any) -> None:
    if isinstance(mutated, PretendTensor) and mutated.host_tensor.shape != mutated.shape:
        raise NotImplementedError(f"{name} changes the shape of a tensor in place.")


def _is_numbers(index: Any) -> bool:
    """Whether an index is a sequence of numbers, which CUDA must be given as a tensor."""
    if isinstance(index, np.ndarray | range):
        return True
    return isinstance(index, Sequence) and all(isinstance(part, bool | int) for part in index)


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, PretendTensor) and value.numel() == 1
