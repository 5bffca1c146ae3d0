"""All tensors of a checkpoint by their path, whatever containers and objects hold them."""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from kd.errors import UserError
from kd.io.checkpoint.pickles import StandIn
from kd.io.checkpoint.stored import StoredTensor, Unreadable, array, stored

# Checkpoints of trainings nest to about 10; a file may refer to the same container many times, so
# that the number of paths grows exponentially with the size of the file.
_MAX_DEPTH = 48
_MAX_CONTAINERS = 50_000
_MAX_ENTRIES = 5_000_000
_MAX_KEY = 1000  # characters
_SCALARS = (str, bytes, int, float, bool, type(None))

Value: TypeAlias = StoredTensor | Unreadable


class Leaf(NamedTuple):
    """A tensor in a checkpoint.

    Attributes:
        value: the tensor, or the reason why it cannot be read.
        mapping: path of the mapping or object that the tensor belongs to.
    """

    value: Value
    mapping: str


def flatten(content: Any) -> dict[str, Leaf]:
    """Return all tensors by path: the keys on the way to a tensor, joined by dots.

    The path of a tensor in a state dict under `state_dict` is `state_dict.conv1.weight`. Modules
    that were pickled whole, and those of TorchScript, have the paths of their own state dict.

    Args:
        content: containers, tensors and stand-ins.

    Raises:
        UserError: the containers refer to each other too often.

    Example:
        >>> import torch
        >>> list(flatten({"epoch": 3, "net": {"fc.weight": torch.ones(2)}}))
        ['net.fc.weight']
    """
    found: dict[str, Leaf] = {}
    # A stack instead of recursion: containers of a damaged file nest arbitrarily.
    todo = [_Node(content, "", "", None, ())]
    containers = entries = 0
    while todo:
        node = todo.pop()
        if (leaf := _leaf(node.value)) is not None:
            found[node.path] = Leaf(leaf, node.mapping)
        elif len(node.above) < _MAX_DEPTH and id(node.value) not in node.above:
            inner = list(_children(node))
            containers, entries = containers + 1, entries + _length(node.value)
            if containers > _MAX_CONTAINERS or entries > _MAX_ENTRIES:
                raise UserError("it refers to its own parts too often")
            todo += reversed(inner)
    return found


class _Node(NamedTuple):
    """A value on the way to tensors.

    Attributes:
        value: container, object or tensor.
        path: its path.
        mapping: path of the mapping or object that it belongs to.
        object: path of the outermost object that it is a part of; None: not of an object.
        above: the containers around it, by `id`.
    """

    value: Any
    path: str
    mapping: str
    object: str | None
    above: tuple[int, ...]


def _leaf(value: Any) -> Value | None:
    if isinstance(value, StoredTensor | Unreadable):
        return value
    if isinstance(value, Tensor):
        return stored(value)
    if isinstance(value, StandIn):
        if value.name.startswith(_TENSOR_CODE):
            return Unreadable(value.name)
        return array(value)
    return None


# Functions that build tensors of other kinds: quantised, sparse, distributed …
_TENSOR_CODE = ("torch._utils._rebuild_", "torch.distributed.tensor", "torch.distributed._tensor")


def _children(node: _Node) -> Iterator[_Node]:
    above = (*node.above, id(node.value))
    for key, value, part_of in _entries(node):
        if isinstance(value, _SCALARS) or not isinstance(key, str | int):
            continue
        if len(str(key)) <= _MAX_KEY:
            path = f"{node.path}.{key}" if node.path else str(key)
            yield _Node(value, path, node.path if part_of is None else part_of, part_of, above)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, dict | list | tuple) else 1


def _entries(node: _Node) -> Iterator[tuple[Any, Any, str | None]]:
    """Yield key and value of what a container holds, and the object that they are a part of."""
    value = node.value
    if isinstance(value, dict):
        yield from ((key, each, None) for key, each in value.items())
    elif isinstance(value, list | tuple):
        yield from ((key, each, None) for key, each in enumerate(value))
    elif isinstance(value, StandIn):
        yield from ((key, each, None) for key, each in value.items.items())
        if value.name == "dict" and value.arguments:
            pairs = (p for p in value.arguments[0] if isinstance(p, tuple | list) and len(p) == 2)
            yield from ((key, each, None) for key, each in pairs)
        # The modules of a module, and what they hold, are parts of the outermost one.
        own = node.path if node.object is None else node.object
        for state in value.state if isinstance(value.state, tuple) else (value.state,):
            if isinstance(state, dict):
                yield from ((key, each, own) for key, each in _attributes(state).items())


def _attributes(state: dict[Any, Any]) -> dict[Any, Any]:
    """The attributes of an object; of a module, its parameters, buffers and modules."""
    parts = [state.get(name) for name in ("_parameters", "_buffers", "_modules")]
    if not all(isinstance(part, dict) for part in parts):
        return state
    hidden = state.get("_non_persistent_buffers_set")
    names = {name for name in hidden if isinstance(name, str)} if isinstance(hidden, list) else ()
    return {k: v for part in parts if part for k, v in part.items() if k not in names}
