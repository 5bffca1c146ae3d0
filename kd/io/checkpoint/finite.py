"""Checks of weights: floating point numbers that are finite, in the dtypes of the net."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kd.errors import UserError
from kd.io.checkpoint.match import is_counter
from kd.io.checkpoint.names import shorten

log = logging.getLogger(__name__)

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def as_weights(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """Return tensors in the dtypes of a net.

    Args:
        found: by the net's keys.
        wanted: the net's state dict.
        path: of the checkpoint, for messages.

    Raises:
        UserError: a tensor is no floating point one where the net's is, or is not finite.
    """
    others = {k: v.dtype for k, v in found.items() if not _converts(k, v, wanted[k])}
    if others:
        kinds = [f"{key} {_short(dtype)}" for key, dtype in others.items()]
        quantised = ". Quantised weights are multiplied by their scale before they are saved"
        raise UserError(
            f"checkpoint {path}: {len(kinds)} of its tensors have a type that is not converted to "
            f"the net's: {shorten(kinds)}"
            f"{'' if any(dtype.is_complex for dtype in others.values()) else quantised}"
        )
    refuse_not_finite(found, f"checkpoint {path}")
    floats = {v.dtype for k, v in found.items() if v.dtype in _FLOATS and not is_counter(k)}
    if floats - {torch.float32}:
        dtypes = ", ".join(sorted(map(_short, floats - {torch.float32})))
        log.info("%s: weights in %s are converted to float32", path, dtypes)
    converted = {key: value.to(wanted[key].dtype) for key, value in found.items()}
    refuse_not_finite(converted, f"checkpoint {path}, converted to float32")
    return converted


def refuse_not_finite(weights: Mapping[str, Tensor], place: str) -> None:
    """Refuse weights that are NaN or infinite.

    Args:
        weights: tensors by name.
        place: where they are from, for the message.

    Raises:
        UserError: names the first of them, and how many there are.
    """
    for key, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            count = int((~value.isfinite()).sum())
            kind = "NaN" if value.isnan().any() else "infinite"
            raise UserError(
                f"{place}: {key} is {kind} in {count} of {value.numel()} places; its training has "
                "diverged, or the file is damaged. Use an earlier checkpoint"
            )


def _converts(key: str, value: Tensor, wanted: Tensor) -> bool:
    if is_counter(key):  # `.half()` and moving averages of a whole state dict convert it as well
        return not value.is_complex()
    if wanted.is_floating_point():
        return value.dtype in _FLOATS
    return not value.is_floating_point() and not value.is_complex()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
