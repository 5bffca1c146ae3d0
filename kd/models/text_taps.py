"""Taps of text encoders by their number of layers, and pairs of two encoders' layers.

Configs need them before torch is loaded, as `kd.models.default_taps`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_OWN = {"layer": "layers.{}", "attention": "layers.{}.attention.scores"}
_OWN |= {"value": "layers.{}.attention.values"}
_DEPTHS = ("num_hidden_layers", "n_layers")  # in config.json; DistilBERT has the second
_MAPS = ("uniform", "skip", "last", "final")


def transformer_taps(depth: object, mask_index: object = None) -> dict[str, str]:
    """Return the taps of `kd.models.text_transformer`: canonical name -> module path.

    Args:
        depth: number of layers, as a config has it; of another type: the net refuses it.
        mask_index: token of hidden words; None: the net has no head that names them.

    Example:
        >>> transformer_taps(2)["attention_2"]
        'layers.1.attention.scores'
    """
    layers = range(1, depth + 1) if type(depth) is int else ()
    named = {
        f"{kind}_{number}": path.format(number - 1)
        for kind, path in _OWN.items()
        for number in layers
    }
    last = {"pooled": "pooled", "embedding": "fc:in"} | _masked_words(mask_index)
    return {"embeddings": "embeddings", **named, **last}


def _masked_words(mask_index: object) -> dict[str, str]:
    return {} if mask_index is None else {"masked_words": "masked_words"}


def hf_taps(net: Mapping[str, Any]) -> dict[str, str]:
    """Return the taps of `kd.models.hf_text` for the settings of a net.

    The number of layers is that of `layers`, of config.json in the folder `path`, or `depth`.

    Example:
        >>> list(hf_taps({"path": None, "layers": [0, 5]}))[:3]
        ['embeddings', 'layer_1', 'layer_2']
    """
    depth = _depth(net)
    named = [f"{kind}_{n}" for kind in ("layer", "attention", "value") for n in range(1, depth + 1)]
    if net.get("attention_taps") is False:
        named = [name for name in named if name.startswith("layer")]
    same = {name: name for name in ("embeddings", *named, "pooled")}
    return same | {"embedding": "head:in"} | _masked_words(net.get("mask_index"))


def _depth(net: Mapping[str, Any]) -> int:
    layers, path, depth = (net.get(key) for key in ("layers", "path", "depth"))
    if isinstance(layers, Iterable) and not isinstance(layers, str):
        return len([*layers])
    if isinstance(path, str):
        depth = _recorded_depth(Path(path).expanduser() / "config.json") or depth
    return depth if type(depth) is int and depth > 0 else 0


def _recorded_depth(file: Path) -> object:
    """Number of layers in a config.json; None if it cannot be read: the net says why."""
    try:
        config = json.loads(file.read_bytes())
        return next((config[key] for key in _DEPTHS if key in config), None)
    except (OSError, ValueError, TypeError):
        return None


def layer_pairs(
    kind: str,
    order: str,
    teacher: Mapping[str, str] | None,
    student: Mapping[str, str],
) -> list[str]:
    """Return pairs of layers as `student:teacher`: `${layer_pairs:layer,uniform,…}`.

    Args:
        kind: `layer`, `attention` or `value`; the taps are `layer_1`, `layer_2`, ….
        order: which of the teacher's N layers teaches layer m of M: `uniform`: m · N / M (Jiao et
            al. 2020); `skip`: the same without the last pair, `last`: the N-th and those before it,
            without that pair (Sun et al. 2019); `final`: the last pair alone.
        teacher: taps of the teacher; None: there is none.
        student: taps of the student.

    Example:
        >>> twelve, six = transformer_taps(12), transformer_taps(6)
        >>> layer_pairs("layer", "skip", twelve, six)[:2]
        ['layer_1:layer_2', 'layer_2:layer_4']
        >>> layer_pairs("layer", "last", twelve, six)[-1]
        'layer_5:layer_11'
        >>> layer_pairs("value", "final", six, six)
        ['value_6']
    """
    if order not in _MAPS:
        raise ValueError(f"the order of layers must be one of {list(_MAPS)}, got {order!r}")
    theirs, ours = _count(kind, teacher or {}), _count(kind, student)
    if not theirs or not ours:
        return []
    back = theirs - ours if order == "last" else None
    pairs = [(m, max(1, m * theirs // ours if back is None else m + back)) for m in _to(ours)]
    if order == "final":
        pairs = pairs[-1:]
    elif order in ("skip", "last") and ours > 1:  # the last layer is taught by the logits
        pairs.pop()
    return [_pair(kind, own, other) for own, other in pairs]


def hidden_pairs(
    order: str, teacher: Mapping[str, str] | None, student: Mapping[str, str]
) -> list[str]:
    """Return the embeddings and the pairs of layers; nothing where a net has no layers.

    Example:
        >>> hidden_pairs("uniform", transformer_taps(4), transformer_taps(1))
        ['embeddings', 'layer_1:layer_4']
    """
    pairs = layer_pairs("layer", order, teacher, student)
    return ["embeddings", *pairs] if pairs else []


def if_tap(tap: str, taps: Mapping[str, str], weight: float) -> float:
    """Return a weight where a net has a tap, and 0 where it has not.

    Example:
        >>> if_tap("masked_words", transformer_taps(2), 0.3)
        0.0
    """
    return weight if tap in taps else 0.0


def last_hidden(teacher: Mapping[str, str] | None, student: Mapping[str, str]) -> list[str]:
    """Return the pair of last layers, or `embedding` where a net has no layers of tokens."""
    return layer_pairs("layer", "final", teacher, student) or ["embedding"]


def last_pair(kind: str, teacher: Mapping[str, str] | None, student: Mapping[str, str]) -> str:
    """Return the last layers' taps of a kind as a pair; empty where a net has none."""
    return next(iter(layer_pairs(kind, "final", teacher, student)), "")


def _to(count: int) -> range:
    return range(1, count + 1)


def _count(kind: str, taps: Iterable[str]) -> int:
    """Number of taps kind_1, kind_2, … without a gap."""
    numbers = {int(tap.split("_")[1]) for tap in taps if re.fullmatch(rf"{kind}_[1-9]\d*", tap)}
    return next(n for n in range(len(numbers) + 1) if n + 1 not in numbers)


def _pair(kind: str, own: int, other: int) -> str:
    return f"{kind}_{own}" if own == other else f"{kind}_{own}:{kind}_{other}"
