"""Settings of a compression and their checks."""

from dataclasses import asdict, dataclass
from typing import Any

from kd.errors import UserError, nearest

PRUNING = ("channels", "magnitude", "none")
QUANTISATION = ("int8", "none")


@dataclass(frozen=True)
class Compression:
    """How a student is made smaller.

    Attributes:
        prune: `channels` removes whole ones; `magnitude` sets single weights to zero; `none`.
        ratio: share of each layer's channels, or of all weights, in (0, 1).
        quantise: `int8` trains quantization-aware; `none`.
        max_drop: the most accuracy that may be lost on validation, in points.

    Raises:
        UserError: a value is impossible; names it and the nearest valid one.

    """

    prune: str = "channels"
    ratio: float = 0.5
    quantise: str = "int8"
    max_drop: float = 1.0

    def __post_init__(self) -> None:
        for name, valid in (("prune", PRUNING), ("quantise", QUANTISATION)):
            value = getattr(self, name)
            if value not in valid:
                raise UserError(f"{name}={value}: there is no such choice; {nearest(value, valid)}")
        check_ratio("ratio", self.ratio)
        if not _is_number(self.max_drop) or not 0 <= self.max_drop <= 100:
            raise UserError(f"max_drop={self.max_drop}: must be points from 0 to 100")
        if (self.prune, self.quantise) == ("none", "none"):
            raise UserError("prune=none quantise=none leaves nothing to do; choose one of them")

    @property
    def label(self) -> str:
        """Short name for folders and tables."""
        pruned = () if self.prune == "none" else (f"{self.prune}{self.ratio:g}",)
        return "_".join([*pruned, *(() if self.quantise == "none" else (self.quantise,))])

    def record(self) -> dict[str, Any]:
        """Return what the numbers depend on."""
        known = asdict(self)
        del known["max_drop"]
        if self.prune == "none":
            del known["ratio"]
        return known


def check_ratio(name: str, ratio: object) -> None:
    """Refuse a ratio outside of (0, 1).

    Raises:
        UserError: names the setting.
    """
    if not _is_number(ratio) or not 0 < float(ratio) < 1:  # type: ignore[arg-type]
        raise UserError(f"{name}={ratio}: must be above 0 and below 1, such as 0.5")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
