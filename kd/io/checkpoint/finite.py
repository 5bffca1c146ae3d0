"""Checks of weights: floating point numbers that are finite, in the dtypes of the net."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kd.errors import UserError
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
    kinds = [f"{k} {_short(v.dtype)}" for k, v in found.items() if not _converts(v, wanted[k])]
    if kinds:
        raise UserError(
            f"checkpoint {path}: weights are floating point numbers, and {len(kinds)} of its "
            f"tensors are not: {shorten(kinds)}. Quantised weights are multiplied by their scale "
            "before they are saved"
        )
    refuse_not_finite(found, f"checkpoint {path}")
    others = {v.dtype for k, v in found.items() if v.dtype in _FLOATS} - {torch.float32}
    if others:
        dtypes = ", ".join(sorted(map(_short, others)))
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


def _converts(value: Tensor, wanted: Tensor) -> bool:
    if wanted.is_floating_point():
        return value.dtype in _FLOATS
    return not value.is_floating_point() and not value.is_complex()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
