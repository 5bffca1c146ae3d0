"""A teacher that combines the logits of several teachers."""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from kd.data.loader import TensorLoader
from kd.errors import nearest
from kd.teachers.base import Report, Teacher
from kd.teachers.weighting import (
    BY_SAMPLE,
    COMBINATIONS,
    WEIGHTINGS,
    confidence_weights,
    entropy_weights,
    mean_of_logits,
    mean_of_probabilities,
)
from kd.types import Batch, Outputs


class EnsembleTeacher(Teacher):
    """Several teachers, each live or cached, whose logits are combined for every batch.

    Caches hold the members' own outputs, so another combination needs no further forward pass. The
    formulas are in `kd.teachers.weighting`.

    Args:
        members: M ≥ 2 teachers by name.
        combine: one of `COMBINATIONS`; with `losses` every member has a pairing of its own.
        weighting: one of `WEIGHTINGS`.
        weights: with `fixed`, M numbers ≥ 0, which are normalised to sum 1.
        temperature: T of the probabilities that are averaged.
        features: the member whose taps and head the ensemble has; None: it has none.

    Raises:
        ValueError: unknown names, or weights that do not fit.
    """

    def __init__(
        self,
        members: Mapping[str, Teacher],
        combine: str = "probabilities",
        weighting: str = "uniform",
        weights: Sequence[float] | None = None,
        temperature: float = 1.0,
        features: str | None = None,
    ) -> None:
        super().__init__()
        for value, valid in ((combine, COMBINATIONS), (weighting, WEIGHTINGS)):
            if value not in valid:
                raise ValueError(f"there is no {value!r}; {nearest(value, valid)}")
        if combine == "losses" and weighting in BY_SAMPLE:
            raise ValueError(
                f"losses are means over the batch, and {weighting} has a weight for every sample"
            )
        self._members = nn.ModuleDict(members)
        self.combine, self.weighting = combine, weighting
        self.temperature, self.features = temperature, features
        fixed = _normalised(weights if weighting == "fixed" else [1.0] * len(members), len(members))
        if combine == "losses":
            self.pairing_weights = dict(zip(members, fixed, strict=True))
        self._fixed: Tensor
        # A buffer moves to the device with the module; the state dict is empty anyway.
        self.register_buffer("_fixed", torch.tensor(fixed), persistent=False)

    @property
    def members(self) -> dict[str, Teacher]:
        return cast(dict[str, Teacher], dict(self._members.items()))

    @property
    def output_source(self) -> Literal["live", "cached"]:
        """`live` if any member is."""
        sources = {member.output_source for member in self.members.values()}
        return "live" if "live" in sources else "cached"

    @property
    def needs_preparation(self) -> bool:
        return any(member.needs_preparation for member in self.members.values())

    @property
    def forwards(self) -> int:
        return sum(member.forwards for member in self.members.values())

    @property
    def seconds(self) -> float:
        return sum(member.seconds for member in self.members.values())

    @property
    def nets(self) -> Sequence[nn.Module]:
        return [net for member in self.members.values() for net in member.nets]

    @property
    def head(self) -> nn.Module | None:
        return None if self.features is None else self.members[self.features].head

    def pairing_head(self, name: str) -> nn.Module | None:
        return self.members[name].head if self.combine == "losses" else self.head

    def combined(self, logits: Tensor, target: Tensor | None = None) -> Tensor:
        """Combine the members' logits.

        Args:
            logits: [M, B, K], in the members' order.
            target: class indices [B]; without them, as on test images, `confidence` is uniform.

        Returns:
            Logits [B, K]. With `losses`, those of the mean of probabilities, whose KL has the same
            gradient as the mean of losses.
        """
        logits = logits if logits.dtype == torch.float64 else logits.float()
        weights = self._weights(logits, target)
        if self.combine == "logits":
            return mean_of_logits(logits, weights)
        return mean_of_probabilities(logits, weights, self.temperature)

    def _weights(self, logits: Tensor, target: Tensor | None) -> Tensor:
        """Return weights [M, B]."""
        if self.weighting == "entropy":
            return entropy_weights(logits)
        if self.weighting == "confidence" and target is not None:
            return confidence_weights(logits, target)
        return self._fixed.to(logits).unsqueeze(1).expand(-1, logits.shape[1])

    def outputs(self, batch: Batch) -> Outputs:
        return self._combine(self._member_outputs(batch), batch.target)

    def pairing_outputs(self, batch: Batch) -> dict[str, Outputs]:
        outputs = self._member_outputs(batch)
        return outputs if self.combine == "losses" else {"": self._combine(outputs, batch.target)}

    def _member_outputs(self, batch: Batch) -> dict[str, Outputs]:
        return {name: member.outputs(batch) for name, member in self.members.items()}

    def _combine(self, outputs: Mapping[str, Outputs], target: Tensor | None) -> Outputs:
        logits = torch.stack([each.logits for each in outputs.values()])
        taps = {} if self.features is None else outputs[self.features].taps
        return Outputs(self.combined(logits, target), taps)

    def example_outputs(self, images: Tensor) -> dict[str, Outputs]:
        """As `Teacher`; with `features`, that member's logits, so that its head maps taps to them.

        Adapters may rely on `head(embedding) == logits`.
        """
        members = self.members.items()
        outputs = {name: member.example_outputs(images)[""] for name, member in members}
        if self.combine == "losses":
            return outputs
        if self.features is not None:
            return {"": outputs[self.features]}
        return {"": self._combine(outputs, None)}

    def prepare(self, loader: TensorLoader, index: Tensor, report: Report) -> None:
        for member in self.members.values():
            member.prepare(loader, index, report)

    def matches(self, batch: Batch, loader: TensorLoader) -> bool:
        return all(member.matches(batch, loader) for member in self.members.values())


def _normalised(weights: Sequence[float] | None, count: int) -> list[float]:
    """Return the weights divided by their sum."""
    given = list(weights or ())
    if len(given) != count or min(given) < 0 or sum(given) <= 0:
        raise ValueError(f"weights must be {count} numbers ≥ 0, one of them > 0, got {weights!r}")
    return [weight / sum(given) for weight in given]
