"""Search for the weights of a net in a checkpoint, under any prefixes and wrappers.

Keys are compared in three ways, and the first that fits all of them is taken:

    prefix      every key of the net, behind one prefix: `state_dict.module.`
    wrappers    the same, without the names of wrappers within the keys: `layer1._orig_mod.0.weight`
    order       the same kinds and shapes in the same order, under other names

In all of them no tensor of the net may be missing, and none may be left that belongs to the same
mapping and prefix, so that the first half of a deeper net is not taken for the net.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from kd.io.checkpoint.flatten import Leaf, Value

Leaves = Mapping[str, Leaf]
Wanted = Mapping[str, Tensor]

# Files of torch < 0.4.1 have no such counters, which only a momentum of None reads:
# https://github.com/pytorch/pytorch/blob/v2.6.0/torch/nn/modules/batchnorm.py#L79
COUNTER = "num_batches_tracked"
# Counters that `thop` leaves in every module: https://github.com/Lyken17/pytorch-OpCounter
_LEFTOVERS = ("total_ops", "total_params")
# Within the names of tensors from which torch.nn.utils.parametrize computes a weight
_COMPUTED = "parametrizations"


class Match(NamedTuple):
    """Tensors that fit a net.

    Attributes:
        prefix: their common path in the file, with its last dot; empty for the whole file.
        values: by the net's keys.
        paths: in the file, by the net's keys.
        by: `prefix`, `wrappers` or `order`.
    """

    prefix: str
    values: dict[str, Value]
    paths: dict[str, str]
    by: str


def find_matches(leaves: Leaves, wanted: Wanted) -> list[Match]:
    """Return all sets of tensors that fit, by the first way of comparing keys that finds one.

    Args:
        leaves: all tensors of a checkpoint by path.
        wanted: the net's state dict.
    """
    for way in (_by_prefix, _by_wrappers, _by_order):
        if found := list(way(leaves, wanted)):
            return found
    return []


def is_counter(path: str) -> bool:
    """Return whether a tensor is the counter of a batch norm."""
    return _is(path, COUNTER)


def required(wanted: Wanted) -> list[str]:
    """Return the keys that a checkpoint must have."""
    return [key for key in wanted if not _is(key, COUNTER)] or list(wanted)


def prefixes(leaves: Leaves, wanted: Wanted) -> dict[str, dict[str, str]]:
    """Return, for every prefix of any of the net's keys, the paths in the file by key."""
    keys, found = set(wanted), dict[str, dict[str, str]]()
    for path in leaves:
        place = 0
        while place >= 0:
            key = path[place:]
            if key in keys:
                found.setdefault(path[: len(path) - len(key)], {})[key] = path
            following = path.find(".", place)
            place = following + 1 if following >= 0 else -1
    return found


def unexpected(leaves: Leaves, prefix: str, used: Mapping[str, str]) -> list[str]:
    """Return the paths that belong to the same weights and that the net does not know.

    Args:
        leaves: all tensors of a checkpoint by path.
        prefix: of the weights.
        used: paths of the net's weights, by key.
    """
    mappings = {leaves[path].mapping for path in used.values()}
    # Of nested mappings, as {"layer1": {…}, "fc": {…}}, those that the net has a part of.
    parts = {key.partition(".")[0] for key in used} if len(mappings) > 1 else set()
    taken = set(used.values())
    return [
        path
        for path, leaf in leaves.items()
        if path.startswith(prefix)
        and path not in taken
        and not _is(path, *_LEFTOVERS)
        and (leaf.mapping in mappings or path[len(prefix) :].partition(".")[0] in parts)
    ]


def parts_without_weights(leaves: Leaves, wanted: Wanted) -> str | None:
    """Return the name within the net's keys without which the file would fit by its order.

    Such as `shortcut`, for a file of a net whose shortcuts have no parameters; None: there is none.
    """
    for name in dict.fromkeys(part for key in wanted for part in key.split(".")):
        rest = {key: value for key, value in wanted.items() if name not in key.split(".")}
        if rest and len(rest) < len(wanted) and next(_by_order(leaves, rest), None):
            return name
    return None


def _by_prefix(leaves: Leaves, wanted: Wanted, by: str = "prefix") -> Iterator[Match]:
    needed = set(required(wanted))
    for prefix, paths in prefixes(leaves, wanted).items():
        if needed <= paths.keys() and not unexpected(leaves, prefix, paths):
            values = {key: leaves[paths[key]].value for key in wanted if key in paths}
            if all(has_shape(value, wanted[key]) for key, value in values.items()):
                yield Match(prefix, values, paths, by)


def has_shape(value: Value, wanted: Tensor) -> bool:
    """Return whether a tensor in the file has the shape of the net's; unknown shapes fit."""
    return getattr(value, "shape", wanted.shape) == tuple(wanted.shape)


def _by_wrappers(leaves: Leaves, wanted: Wanted) -> Iterator[Match]:
    """Leave out parts of the keys that the net does not have: those of known wrappers, then all."""
    known = {part for key in wanted for part in key.split(".")}
    parts = {part for path in leaves for part in path.split(".")} - known - {_COMPUTED}
    for wrappers in (set(filter(_is_known_wrapper, parts)), parts):
        if found := list(_without(leaves, wanted, wrappers)):
            yield from found
            return


def _is_known_wrapper(part: str) -> bool:
    # DataParallel, FullyShardedDataParallel, torch.compile, checkpoint_wrapper
    return part == "module" or part.startswith("_")


def _without(leaves: Leaves, wanted: Wanted, wrappers: set[str]) -> Iterator[Match]:
    for mapping, group in _groups(leaves):
        start = f"{mapping}." if mapping else ""
        renamed: dict[str, str] = {}
        for path in group:
            kept = [p for p in path.removeprefix(start).split(".") if p not in wrappers]
            if renamed.setdefault(start + ".".join(kept), path) != path:
                break  # two tensors would have one name
        else:
            inner = {new: leaves[old] for new, old in renamed.items()}
            for match in _by_prefix(inner, wanted, "wrappers"):
                paths = {key: renamed[path] for key, path in match.paths.items()}
                yield match._replace(paths=paths)


def _by_order(leaves: Leaves, wanted: Wanted) -> Iterator[Match]:
    with_counters = list(wanted)
    for keys in dict.fromkeys([tuple(with_counters), tuple(required(wanted))]):
        found = False
        for prefix, group in _all_groups(leaves):
            paths = [p for p in group if not _is(p, *_LEFTOVERS)]
            if len(keys) < len(with_counters):
                paths = [path for path in paths if not _is(path, COUNTER)]
            if len(paths) == len(keys) and all(
                _last(path) == _last(key) and has_shape(leaves[path].value, wanted[key])
                for key, path in zip(keys, paths, strict=True)
            ):
                found = True
                values = {k: leaves[p].value for k, p in zip(keys, paths, strict=True)}
                yield Match(prefix, values, dict(zip(keys, paths, strict=True)), "order")
        if found:
            return


def _all_groups(leaves: Leaves) -> Iterator[tuple[str, list[str]]]:
    """Yield prefix and paths of each mapping, and of the parts of mappings that have several."""
    for mapping, group in _groups(leaves):
        start = f"{mapping}." if mapping else ""
        yield start, group
        parts: dict[str, list[str]] = {}
        for path in group:
            parts.setdefault(path.removeprefix(start).partition(".")[0], []).append(path)
        if len(parts) > 1:
            yield from ((f"{start}{part}.", paths) for part, paths in parts.items())


def _groups(leaves: Leaves) -> Iterator[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for path, leaf in leaves.items():
        groups.setdefault(leaf.mapping, []).append(path)
    yield from groups.items()


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _is(path: str, *names: str) -> bool:
    return _last(path) in names
