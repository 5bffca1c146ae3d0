"""Tensors of a checkpoint that are read from the file when they are needed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kd.io.checkpoint.pickles import Named, PickleError, Rebuild, StandIn, call

MAX_DIMENSIONS = 64

# Classes of torch's typed storages, and the dtype of their values
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
}
# Bytes of a value of torch's quantised types; those of less than a byte are counted in bytes.
_QUANTISED = {
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QInt32Storage": 4,
    "QUInt4x2Storage": 1,
    "QUInt2x4Storage": 1,
}
_NUMPY = {
    "f8": torch.float64,
    "f4": torch.float32,
    "f2": torch.float16,
    "i8": torch.int64,
    "i4": torch.int32,
    "i2": torch.int16,
    "i1": torch.int8,
    "u1": torch.uint8,
    "b1": torch.bool,
}


@dataclass(frozen=True, eq=False)
class Storage:
    """Values of one dtype in a file.

    Attributes:
        dtype: of the values; None: torch's untyped storage, whose tensors name the dtype.
        read: returns the raw bytes.
    """

    dtype: torch.dtype | None
    read: Callable[[], bytearray]


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor whose shape and dtype are known before its values are read.

    Attributes:
        shape: of the tensor.
        dtype: of its values.
        read: returns the tensor, in memory of its own.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


@dataclass(frozen=True, eq=False)
class Unreadable:
    """A tensor that only the code of its class could rebuild.

    Attributes:
        kind: name of the function or class, such as `torch._utils._rebuild_qtensor`.
    """

    kind: str


def stored(tensor: Tensor) -> StoredTensor:
    """Return a tensor in memory as a stored one."""
    return StoredTensor(tuple(tensor.shape), tensor.dtype, lambda: tensor)


def storage_dtype(kind: Any) -> torch.dtype | None:
    """Return the dtype of a storage class that a pickle names; None: untyped.

    Raises:
        PickleError: it is no storage class, or one of quantised values.
    """
    name = kind.name.rpartition(".")[2] if isinstance(kind, Named) else str(kind)
    if name == "UntypedStorage":
        return None
    if name not in _STORAGES:
        raise PickleError(f"storage of kind {name} is not supported")
    return _STORAGES[name]


def quantised_bytes(kind: Any) -> int:
    """Return the bytes of one value of a storage class of quantised values; 0 for another class."""
    name = kind.name.rpartition(".")[2] if isinstance(kind, Named) else str(kind)
    return _QUANTISED.get(name, 0)


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, dtype: torch.dtype | None = None
) -> StoredTensor | Unreadable:
    if not isinstance(storage, Storage):
        return Unreadable(getattr(storage, "name", "tensor without values"))
    dtype = storage.dtype or dtype
    if dtype is None or not all(map(_are_sizes, ((offset,), shape, stride))):
        raise PickleError("a tensor has no valid dtype, offset, shape or stride")
    if len(shape) != len(stride):
        raise PickleError(f"a tensor has shape {shape} and stride {stride}")
    shape, stride, kind = tuple(shape), tuple(stride), dtype

    def read() -> Tensor:
        content = storage.read()
        values = torch.frombuffer(content, dtype=kind) if content else torch.empty(0, dtype=kind)
        empty = 0 in shape
        last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if not empty and last >= len(values):
            raise PickleError(f"a tensor {list(shape)} is larger than its storage")
        return torch.empty(shape, dtype=kind) if empty else _copy(values, shape, stride, offset)

    return StoredTensor(shape, kind, read)


def _copy(values: Tensor, shape: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Tensor:
    # A stride of 0 repeats values: a file of a few bytes could describe a tensor of any size.
    if math.prod(shape) > len(values):
        raise PickleError(f"a tensor {list(shape)} is larger than its storage")
    return values.as_strided(shape, stride, offset).clone()


def _are_sizes(values: Any) -> bool:
    if not isinstance(values, tuple | list) or len(values) > MAX_DIMENSIONS:
        return False
    return all(type(value) is int and value >= 0 for value in values)


def _tensor_v2(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Any:
    return _tensor(storage, offset, shape, stride)


def _tensor_v3(
    storage: Any, offset: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> Any:
    name = dtype.name.rpartition(".")[2] if isinstance(dtype, Named) else ""
    found = getattr(torch, name, None) if name.isidentifier() else None
    return _tensor(storage, offset, shape, stride, found if type(found) is torch.dtype else None)


def _first(value: Any, *_: Any) -> Any:
    return value


def _of_type(function: Any, _kind: Any, arguments: Any, *_: Any) -> Any:
    """A tensor of a subclass, or with attributes: the plain tensor in it."""
    if not isinstance(arguments, tuple):
        raise PickleError("the arguments of a tensor are no tuple")
    return call(REBUILD, function, arguments)


def _dictionary(*pairs: Any) -> Any:
    """A dictionary, empty at first; Python 2 gives the pairs of an OrderedDict as an argument."""
    return StandIn("dict", pairs) if pairs and isinstance(pairs[0], list) else {}


def _reconstructed(kind: Any, *_: Any) -> StandIn:
    return StandIn(getattr(kind, "name", "object"))


def _array_of_buffer(buffer: Any, dtype: Any, shape: Any, order: Any = "C", *_: Any) -> Any:
    return array(StandIn("numpy.ndarray", (), (1, shape, dtype, order == "F", buffer)))


def array(stand_in: StandIn) -> StoredTensor | None:
    """Return the tensor of a NumPy array; None for another object, or an array of objects."""
    state = stand_in.state
    if stand_in.name != "numpy.ndarray" or not isinstance(state, tuple) or len(state) != 5:
        return None
    _, shape, dtype, fortran, content = state
    kind = _numpy_dtype(dtype)
    if kind is None or not _are_sizes(shape) or not isinstance(content, str | bytes | bytearray):
        return None
    shape = tuple(shape)
    steps = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    if fortran:
        steps = [math.prod(shape[:i]) for i in range(len(shape))]
    found = _tensor(Storage(kind, lambda: _raw(content)), 0, shape, tuple(steps))
    return found if isinstance(found, StoredTensor) else None


def _raw(content: str | bytes | bytearray) -> bytearray:
    # Protocols below 3 have no bytes, and store them as a text.
    return bytearray(content.encode("latin1") if isinstance(content, str) else content)


def _numpy_dtype(dtype: Any) -> torch.dtype | None:
    if not isinstance(dtype, StandIn) or dtype.name != "numpy.dtype" or not dtype.arguments:
        return None
    big = isinstance(dtype.state, tuple) and len(dtype.state) > 1 and dtype.state[1] == ">"
    return None if big else _NUMPY.get(str(_decoded(dtype.arguments[0])))


def _decoded(value: Any) -> Any:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _new_array(*_: Any) -> StandIn:
    return StandIn("numpy.ndarray")


def _container(values: Any = (), *_: Any) -> Any:
    """A built-in container, as older protocols store it: the values that it is made of."""
    return values


_BUILTINS = ("builtins", "__builtin__")
_CONTAINERS = ("list", "tuple", "set", "frozenset", "bytearray", "bytes")
# Every function is constant in time and memory: a pickle may call it on the same value a million
# times.
REBUILD: Rebuild = {
    "torch._utils._rebuild_tensor": _tensor_v2,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "torch._utils._rebuild_device_tensor_from_numpy": _first,
    "torch._utils._rebuild_xla_tensor": _first,
    "torch._tensor._rebuild_from_type": _of_type,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.tensor._rebuild_from_type": _of_type,
    "torch.Size": _container,
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": _dictionary,
    **{f"{module}.dict": _dictionary for module in _BUILTINS},
    **{f"{module}.{name}": _container for module in _BUILTINS for name in _CONTAINERS},
    "_codecs.encode": _first,
    "copyreg._reconstructor": _reconstructed,
    "copy_reg._reconstructor": _reconstructed,
    **{f"numpy.{core}.multiarray._reconstruct": _new_array for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _array_of_buffer for core in ("core", "_core")},
}
