"""A device for tests without a GPU: tensors that report another device and compute on the CPU.

Within `PretendDevice()` a tensor on its `device` is a wrapper around a CPU tensor, so that values
are those of the CPU. It records three kinds of events that a GPU would refuse or spend time on,
with their location in the code:

- mixing: an operator got tensors of both devices, which CUDA refuses;
- read: the host waits for a value or a size, for which CUDA synchronizes;
- copy: values are copied from the host to the device.

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

from tests.support.training.device_events import DeviceEvent, EventKind, find_location

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
        wrapper: PretendTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        wrapper.host_tensor = inner
        wrapper.owner = owner
        return wrapper

    def __init__(self, inner: Tensor, owner: "PretendDevice") -> None:
        """The attributes are set by `__new__`."""

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        owner = next(
            tensor.owner
            for tensor in _iter_tensors((args, kwargs))
            if isinstance(tensor, PretendTensor)
        )
        return owner.compute(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"PretendTensor(shape={tuple(self.shape)}, dtype={self.dtype})"

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(self.owner.move_index(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, bool | int | float):
            value = torch.tensor(value, dtype=self.dtype)  # as torch does for CUDA's tensors
        super().__setitem__(self.owner.move_index(index), value)

    def new_tensor(
        self,
        data: Any,
        dtype: torch.dtype | None = None,
        device: Any = None,
        requires_grad: bool = False,
        pin_memory: bool = False,
    ) -> Tensor:
        """Create a tensor from values of the host, by default on this device."""
        tensor = torch.tensor(data, dtype=dtype or self.dtype, device=device or DEVICE)
        return tensor.requires_grad_(requires_grad)

    def tolist(self) -> Any:
        """Read the values as Python numbers."""
        self.owner.record_event("read", "tolist")
        return self.host_tensor.tolist()

    def numpy(self, **_: Any) -> Any:
        """Raise `TypeError`, as CUDA tensors do."""
        raise TypeError("A tensor on the device has no numpy array; use .cpu() first.")

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle the values on the host."""
        self.owner.record_event("read", "save")
        return self.host_tensor.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> "PretendTensor":
        clone = PretendTensor(self.host_tensor.detach().clone(), self.owner)
        clone.requires_grad_(self.requires_grad)
        memo[id(self)] = clone
        return clone


class PretendDevice(TorchDispatchMode):
    """A context manager that patches torch and records events of the device.

    Tensors are moved there by `.to(device.device)`. Tensors created outside of the context stay on
    the CPU. `events` and `operators` accumulate until `reset`.
    """

    device = DEVICE

    def __init__(self) -> None:
        super().__init__()
        self.events: list[DeviceEvent] = []
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
        for module, name in _iter_extension_functions():
            stand_in = partial(self._run_extension, f"mmcv::{name}", getattr(module, name))
            patch.setattr(module, name, stand_in)
        super().__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        super().__exit__(*exc_info)
        self._patches.close()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self.compute(func, args, kwargs or {})

    @property
    def mixings(self) -> list[DeviceEvent]:
        """Events of operators that got tensors of both devices."""
        return self._events_of_kind("mixing")

    @property
    def reads(self) -> list[DeviceEvent]:
        """Events in which the host waited for the device."""
        return self._events_of_kind("read")

    @property
    def copies(self) -> list[DeviceEvent]:
        """Copies from the host to the device."""
        return self._events_of_kind("copy")

    def reset(self) -> None:
        """Delete the recorded events and reset the count of operators."""
        self.events.clear()
        self.operators = 0

    def record_event(self, kind: EventKind, operator: str) -> None:
        """Record an event with the location of its caller."""
        self.events.append(
            DeviceEvent(kind, operator, find_location(sys._getframe(1), excluded_file=__file__))
        )

    def move_index(self, index: Any) -> Any:
        """Replace sequences of numbers in an index by tensors on the device, as CUDA does."""
        if isinstance(index, tuple):
            return tuple(self.move_index(part) for part in index)
        if not _is_number_sequence(index):
            return index
        self.record_event("copy", "index by a sequence")
        return PretendTensor(torch.as_tensor(np.asarray(index)), self)

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator of torch on the CPU; the result is on the device that torch would use."""
        if torch.is_inference_mode_enabled():
            result = self._decompose(func, args, kwargs)
            if result is not NotImplemented:
                return result
        name = func._schema.name
        self._record(name, args, kwargs)
        target_device = kwargs.get("device")
        if target_device is not None:
            kwargs = kwargs | {"device": torch.device("cpu")}
        result = func(*_unwrap(args), **_unwrap(kwargs))
        mutated = self._get_mutated(func, args, kwargs)
        if mutated is not None:
            _check_shape_unchanged(name, mutated)
            return mutated
        is_on_device = (
            _has_pretend_tensor((args, kwargs))
            if target_device is None
            else target_device == DEVICE
        )
        if not is_on_device:
            return result
        # A view of a tensor from outside of inference mode is one, too.
        is_inference = torch.is_inference_mode_enabled() and _are_inference_tensors(result)
        with torch.inference_mode(is_inference):
            return self._wrap(result)

    def _decompose(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the parts of an operator; outside of inference mode torch itself dispatches parts."""
        super().__enter__()
        try:
            return func.decompose(*args, **kwargs)
        finally:
            super().__exit__(None, None, None)

    def _record(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = list(_iter_tensors((args, kwargs)))
        for tensor in tensors:
            if tensor.device == DEVICE and not isinstance(tensor, PretendTensor):
                raise AssertionError(f"{name} got a tensor on `meta` that holds no values.")
        if name == "aten::_to_copy" and kwargs.get("device") is not None:
            self._record_move(tensors[0], kwargs["device"] == DEVICE)
        if not _has_pretend_tensor(tensors):
            return
        self.operators += 1
        if name in _READING:
            self.record_event("read", name)
        elif name == "aten::prod" and args[0].requires_grad and torch.is_grad_enabled():
            self.record_event("read", "backward pass of aten::prod, for the number of zeros")
        if name == "aten::copy_":
            self._record_move(args[1], isinstance(args[0], PretendTensor))
        elif name in _INDEXING:
            self._record_indexing(name, args)
        elif name not in _MOVING:
            self._record_mixing(name, tensors)

    def _record_move(self, source: Tensor, is_to_device: bool) -> None:
        if isinstance(source, PretendTensor) and not is_to_device:
            self.record_event("read", "copy to the host")
        elif not isinstance(source, PretendTensor) and is_to_device:
            self.record_event("copy", "copy to the device")

    def _record_mixing(self, name: str, tensors: Iterable[Tensor]) -> None:
        """CUDA accepts a CPU tensor without dimensions as a number."""
        if any(not isinstance(tensor, PretendTensor) and tensor.dim() > 0 for tensor in tensors):
            self.record_event("mixing", name)

    def _record_indexing(self, name: str, args: tuple[Any, ...]) -> None:
        """CUDA copies an index from the CPU; a CPU tensor refuses an index of CUDA."""
        target, indices, *values = args
        used_indices = [index for index in indices if index is not None]
        self._record_mixing(name, [target, *_iter_tensors(values)])
        if not isinstance(target, PretendTensor):
            return
        for index in used_indices:
            if not isinstance(index, PretendTensor):
                self.record_event("copy", f"{name} by an index on the host")
        masks = [index for index in used_indices if index.dtype in (torch.bool, torch.uint8)]
        # A number is filled in by mask; anything else needs the positions, and their count.
        if masks and not (
            values and len(masks) == len(used_indices) and _is_host_scalar(values[0])
        ):
            self.record_event("read", f"{name} by a mask")

    def _get_mutated(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Get the argument that an operator changes in place and returns, or None."""
        if func not in self._returned:
            self._returned[func] = _find_mutated_argument(func._schema)
        argument_key = self._returned[func]
        if argument_key is None:
            return None
        return args[argument_key] if isinstance(argument_key, int) else kwargs[argument_key]

    def _wrap(self, result: Any) -> Any:
        if isinstance(result, PretendTensor):
            return result
        if isinstance(result, Tensor):
            return PretendTensor(result, self)
        if isinstance(result, list | tuple):
            return type(result)(self._wrap(part) for part in result)
        return result

    def _from_host(self, make: Callable[..., Tensor], data: Any, *args: Any, **kwargs: Any) -> Any:
        """Replacement of `torch.tensor` and `torch.as_tensor`, whose data come from the host."""
        device = kwargs.get("device")
        if device is None or torch.device(device) != DEVICE or isinstance(data, Tensor):
            return make(data, *args, **kwargs)
        self.record_event("copy", "tensor")
        return PretendTensor(make(data, *args, **kwargs | {"device": "cpu"}), self)

    def _run_extension(
        self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Run an operator of mmcv outside torch's dispatcher, which may fill its arguments."""
        self._record(name, args, kwargs)
        result = function(*_unwrap(args), **_unwrap(kwargs))
        return self._wrap(result) if _has_pretend_tensor((args, kwargs)) else result

    def _events_of_kind(self, kind: EventKind) -> list[DeviceEvent]:
        return [event for event in self.events if event.kind == kind]


class _Autocast(torch.autocast):
    """Uses the CPU's autocast for the device, which does not change the device's tensors."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)


class _GradScaler(torch.amp.GradScaler):
    """Uses the CPU's scaler for the device."""

    def __init__(self, device: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device == DEVICE.type else device, *args, **kwargs)


def _iter_extension_functions() -> Iterator[tuple[ModuleType, str]]:
    """Iterate over the module and name of every compiled operator of mmcv."""
    from mmcv import _ext  # noqa: PLC0415  loaded by what is tested

    for name, value in vars(_ext).items():
        if callable(value) and not name.startswith("_") and not isinstance(value, type):
            yield _ext, name


def _iter_tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _iter_tensors(part)
    elif isinstance(value, dict):
        yield from _iter_tensors(tuple(value.values()))


def _are_inference_tensors(value: Any) -> bool:
    return all(tensor.is_inference() for tensor in _iter_tensors(value))


def _has_pretend_tensor(value: Any) -> bool:
    return any(isinstance(tensor, PretendTensor) for tensor in _iter_tensors(value))


def _unwrap(value: Any) -> Any:
    if isinstance(value, PretendTensor):
        return value.host_tensor
    if isinstance(value, list | tuple):
        return type(value)(_unwrap(part) for part in value)
    if isinstance(value, dict):
        return {name: _unwrap(part) for name, part in value.items()}
    return value


def _find_mutated_argument(schema: Any) -> int | str | None:
    """Find the position or name of the argument that an in-place operator returns."""
    if not schema.returns or schema.returns[0].alias_info is None:
        return None
    alias = schema.returns[0].alias_info
    for position, argument in enumerate(schema.arguments):
        info = argument.alias_info
        if alias.is_write and info is not None and info.before_set == alias.before_set:
            return str(argument.name) if argument.kwarg_only else position
    return None


def _check_shape_unchanged(name: str, mutated: Any) -> None:
    if isinstance(mutated, PretendTensor) and mutated.host_tensor.shape != mutated.shape:
        raise NotImplementedError(f"{name} changes the shape of a tensor in place.")


def _is_number_sequence(index: Any) -> bool:
    """Whether an index is a sequence of numbers, which becomes a tensor on CUDA."""
    if isinstance(index, np.ndarray | range):
        return True
    return isinstance(index, Sequence) and all(isinstance(part, bool | int) for part in index)


def _is_host_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, PretendTensor) and value.numel() == 1
