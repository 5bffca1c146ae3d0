"""Precision of a run: the one that suits the device, and a warning about one that does not.

torch is loaded only where the config leaves the choice to it.
"""

import logging
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kd.compat import cpu_number_formats

log = logging.getLogger(__name__)

AUTO = "auto"
# The number format in which each precision of Lightning's multiplies; the others use float32 or 64.
_FORMATS = {
    "bf16-mixed": "bfloat16",
    "bf16-true": "bfloat16",
    "bf16": "bfloat16",
    "16-mixed": "float16",
    "16-true": "float16",
    "16": "float16",
}


def choose_precision(cfg: DictConfig) -> None:
    """Replace `precision=auto` of a run and of its teacher's training, in place.

    Args:
        cfg: a run's config.

    Example:
        >>> cfg = OmegaConf.create({"trainer": {"accelerator": "mps", "precision": "auto"}})
        >>> choose_precision(cfg)
        >>> cfg.trainer.precision
        '32-true'
    """
    for place in ("trainer", "teacher.training.trainer"):
        trainer = OmegaConf.select(cfg, place)
        if OmegaConf.is_dict(trainer) and trainer.get("precision") == AUTO:
            trainer.precision = _fastest(str(trainer.get("accelerator")))


def warn_of_slow_precision(trainer: Any) -> None:
    """Warn of half precision that the processor computes in software.

    Args:
        trainer: `trainer` of a run's config.
    """
    wanted = _FORMATS.get(str(trainer.precision))
    if wanted and _device(trainer.accelerator) == "cpu" and wanted not in cpu_number_formats():
        log.warning(
            "trainer.precision=%s: this processor has no instructions for %s, and takes up to 20 "
            "times as long as with trainer.precision=32-true (trainer.precision=auto chooses)",
            trainer.precision,
            wanted,
        )


def _fastest(accelerator: str) -> str:
    """Return bf16-mixed where the device computes it natively.

    Not on MPS: bfloat16 has not been measured there.
    """
    import torch

    device = _device(accelerator)
    native = {
        "cpu": "bfloat16" in cpu_number_formats(),
        "cuda": device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False),
    }
    return "bf16-mixed" if native.get(device) else "32-true"


def _device(accelerator: str) -> str:
    """Return the device that Lightning takes: `cpu`, `cuda`, or the name of another accelerator."""
    import torch

    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("auto", "gpu") and torch.backends.mps.is_available():
        return "mps"
    return "cpu" if accelerator == "auto" else accelerator
