"""Messages on a checkpoint that does not fit a net."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

from torch import Tensor

from kd.io.checkpoint.flatten import Leaf, Value
from kd.io.checkpoint.match import (
    Leaves,
    Wanted,
    has_shape,
    parts_without_weights,
    prefixes,
    required,
    unexpected,
)
from kd.io.checkpoint.names import shorten
from kd.io.checkpoint.stored import Unreadable
from kd.io.printable import printable

_PAIRS = 3  # pairs of similar names in a message
_COMPARED = 200  # names that are compared: the time is that number squared
_MAPPINGS = 6  # in a message
_SHOWN = 3  # first keys of a mapping
# Last parts of names by which trainings replace a weight, and the remedy
_REPLACED = (
    (("weight_orig", "weight_mask"), "pruned: call torch.nn.utils.prune.remove on its layers"),
    (("weight_g", "weight_v"), "under weight norm: call torch.nn.utils.remove_weight_norm"),
    (
        ("original", "original0", "original1"),
        "parametrised: call torch.nn.utils.parametrize.remove_parametrizations",
    ),
    (("_flat_param", "flat_param"), "in flat parameters of FSDP: save its full state dict"),
    (
        ("_packed_params", "zero_point", "weight_scale", "weight_zero_point"),
        "quantised: save the weights of the net before it was quantised",
    ),
)
_OPTIMIZER = {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg"}


def describe(leaves: Leaves, wanted: Wanted) -> str:
    """Return what is missing, unknown, or of another shape, one line each.

    Args:
        leaves: all tensors of a checkpoint.
        wanted: the state dict of the net that they do not fit.
    """
    prefix, paths = _closest(leaves, wanted)
    values = {key: leaves[path].value for key, path in paths.items()}
    missing = [key for key in required(wanted) if key not in paths]
    unknown = [path.removeprefix(prefix) for path in unexpected(leaves, prefix, paths)]
    if not paths:
        unknown = list(_largest(leaves))
    lists = {
        "missing in the file": missing,
        "unknown to the net": unknown,
        "of another shape": [*_shapes(values, wanted)],
    }
    lines = [f"  {what} ({len(v)}): {shorten(v)}" for what, v in lists.items() if v]
    lines += [*_similar(missing, unknown), *_hints(values, wanted), *_without_parts(leaves, wanted)]
    lines += _remedies(leaves, lists)
    if missing or len({leaf.mapping for leaf in leaves.values()}) > 1:
        lines.append(f"  the file holds: {contents(leaves)}")
    return "\n".join(lines)


def contents(leaves: Leaves) -> str:
    """Return the mappings of tensors in a checkpoint, with number and first keys of each.

    Example:
        >>> import torch
        >>> from kd.io.checkpoint.flatten import flatten
        >>> contents(flatten({"net": {"fc.weight": torch.ones(1), "fc.bias": torch.ones(1)}}))
        'net (2 tensors: fc.weight, fc.bias)'
    """
    groups: dict[str, list[str]] = {}
    for path, leaf in leaves.items():
        key = path.removeprefix(f"{leaf.mapping}.") if leaf.mapping else path
        groups.setdefault(leaf.mapping, []).append(key)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    shown = [
        f"{printable(name) or 'at the top'} ({len(keys)} tensors: "
        f"{', '.join(printable(key) for key in keys[:_SHOWN])}{', …' * (len(keys) > _SHOWN)})"
        for name, keys in ordered[:_MAPPINGS]
    ]
    rest = len(ordered) - _MAPPINGS
    return "; ".join(shown) + (f"; and {rest} more" if rest > 0 else "")


def _closest(leaves: Leaves, wanted: Wanted) -> tuple[str, dict[str, str]]:
    """The prefix under which most keys have a tensor, and their paths."""
    found = prefixes(leaves, wanted)
    best = max(found, key=lambda prefix: len(found[prefix]), default="")
    return best, found.get(best, {})


def _largest(leaves: Leaves) -> Iterable[str]:
    """The keys of the mapping with the most tensors."""
    groups: dict[str, list[str]] = {}
    for path, leaf in leaves.items():
        groups.setdefault(leaf.mapping, []).append(path)
    return max(groups.values(), key=len, default=[])


def _remedies(leaves: Leaves, lists: Mapping[str, list[str]]) -> Iterator[str]:
    last = {path.rpartition(".")[2] for path in leaves}
    if last <= _OPTIMIZER:
        yield "  it holds the state of an optimizer, and no weights"
    signs = [remedy for names, remedy in _REPLACED if not last.isdisjoint(names)]
    if signs:
        yield f"  it looks {signs[0]}, and save its state dict again"
    elif [what for what, names in lists.items() if names] == ["unknown to the net"]:
        yield "  if the net's outputs do not depend on them, delete them, and save the others again"


def _shapes(values: Mapping[str, Value], wanted: Wanted) -> Iterator[str]:
    for key, value in values.items():
        if not has_shape(value, wanted[key]):
            theirs = [] if isinstance(value, Unreadable) else list(value.shape)
            yield f"{key} {theirs} instead of {list(wanted[key].shape)}"


def _similar(missing: list[str], unknown: list[str]) -> Iterator[str]:
    pairs = []
    for key in missing[:_COMPARED]:
        if close := get_close_matches(key, unknown[:_COMPARED], n=1, cutoff=0.6):
            pairs.append(f"{key} ~ {close[0]}")
        if len(pairs) == _PAIRS:
            break
    if pairs:
        yield f"  nearest names, net ~ file: {shorten(pairs)}"


def _hints(values: Mapping[str, Value], wanted: Wanted) -> Iterator[str]:
    """Explain shape mismatches of the first and last layer by channels and classes."""
    layers = [
        (wanted[key].shape, getattr(values[key], "shape", wanted[key].shape))
        for key in wanted
        if key in values and key.endswith("weight") and wanted[key].dim() > 1
    ]
    if not layers:
        return
    own, theirs = layers[-1]
    if theirs != own and tuple(theirs) == tuple(reversed(own)):
        yield "  its classifier is transposed: save weight.t().contiguous()"
        return
    for (own, theirs), place, what in (
        (layers[0], 1, "it is for {} input channels or features, not {}"),
        (layers[-1], 0, "it is for {} classes; these data have {}"),
    ):
        if place == 0 and len(own) != 2:  # a detector's head, with more channels than classes
            continue
        if len(theirs) == len(own) and theirs[place] != own[place]:
            yield "  " + what.format(theirs[place], own[place])


def _without_parts(leaves: Mapping[str, Leaf], wanted: Mapping[str, Tensor]) -> Iterator[str]:
    name = parts_without_weights(leaves, wanted)
    if name is not None:
        remedy = "; +teacher.net.shortcut=pad builds such a ResNet" if name == "shortcut" else ""
        yield f"  without the weights of {name!r} it would fit in the order of its tensors{remedy}"
