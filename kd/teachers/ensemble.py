"""Several teachers who answer together, each live or from its own cache."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from kd.data.loader import TensorLoader
from kd.errors import nearest
from kd.teachers.base import Teacher
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
    """Teachers whose logits are combined for every batch; their formulas stand in `weighting`.

    What is cached are the members' own answers, so another combination costs no pass of a net.

    Args:
        members: M ≥ 2 teachers by name.
        combine: one of `COMBINATIONS`; with `losses` every member gives a pairing of its own.
        weighting: one of `WEIGHTINGS`.
        weights: with `fixed`, M numbers ≥ 0; they are brought to the sum 1.
        temperature: T of the probabilities that are averaged.
        features: the member whose taps and head are handed out; None: there are none.
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
            raise ValueError(f"losses are means over the batch, {weighting} weighs single samples")
        self._nets = nn.ModuleDict(members)
        self.combine, self.weighting = combine, weighting
        self.temperature, self.features = temperature, features
        fixed = _shares(weights if weighting == "fixed" else [1.0] * len(members), len(members))
        if combine == "losses":
            self.pairing_weights = dict(zip(members, fixed, strict=True))
        self._fixed: Tensor
        self.register_buffer("_fixed", torch.tensor(fixed), persistent=False)

    @property
    def members(self) -> dict[str, Teacher]:
        return cast(dict[str, Teacher], dict(self._nets.items()))

    @property
    def output_source(self) -> Literal["live", "cached"]:
        kinds = {member.output_source for member in self.members.values()}
        return "live" if "live" in kinds else "cached"

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

    def combined(self, logits: Tensor, target: Tensor | None = None) -> Tensor:
        """What the members say together.

        Args:
            logits: theirs [M, B, K], in the members' order.
            target: labels [B]; without them, as on test images, confidence weighs uniformly.

        Returns:
            Logits [B, K]; with `losses` those of the mean of probabilities, whose KL has the
            gradient of the mean of losses.
        """
        logits = logits if logits.dtype == torch.float64 else logits.float()
        weights = self._weights(logits, target)
        if self.combine == "logits":
            return mean_of_logits(logits, weights)
        return mean_of_probabilities(logits, weights, self.temperature)

    def _weights(self, logits: Tensor, target: Tensor | None) -> Tensor:
        if self.weighting == "entropy":
            return entropy_weights(logits)
        if self.weighting == "confidence" and target is not None:
            return confidence_weights(logits, target)
        return self._fixed.to(logits).unsqueeze(1).expand(-1, logits.shape[1])

    def outputs(self, batch: Batch) -> Outputs:
        return self._together(self._each(batch), batch.target)

    def pairing_outputs(self, batch: Batch) -> dict[str, Outputs]:
        all_outputs = self._each(batch)
        return (
            all_outputs
            if self.combine == "losses"
            else {"": self._together(all_outputs, batch.target)}
        )

    def _each(self, batch: Batch) -> dict[str, Outputs]:
        return {name: member.outputs(batch) for name, member in self.members.items()}

    def _together(self, all_outputs: Mapping[str, Outputs], target: Tensor | None) -> Outputs:
        logits = torch.stack([outputs.logits for outputs in all_outputs.values()])
        taps = {} if self.features is None else all_outputs[self.features].taps
        return Outputs(self.combined(logits, target), taps)

    def example_outputs(self, images: Tensor) -> dict[str, Outputs]:
        """As the base class; where there are taps, with the logits that their net's head makes."""
        all_outputs = {
            name: member.example_outputs(images)[""] for name, member in self.members.items()
        }
        if self.combine == "losses":
            return all_outputs
        if self.features is not None:
            return {"": all_outputs[self.features]}
        return {"": self._together(all_outputs, None)}

    def saw(self, batch: Batch, loader: TensorLoader) -> bool:
        return all(member.saw(batch, loader) for member in self.members.values())

    def prepare(
        self, loader: TensorLoader, index: Tensor, report: Callable[[int, int], None]
    ) -> None:
        for member in self.members.values():
            member.prepare(loader, index, report)


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    """The weights, brought to the sum 1."""
    given = list(weights or ())
    if len(given) != count or min(given) < 0 or sum(given) <= 0:
        raise ValueError(f"weights must be {count} numbers ≥ 0, one of them > 0, got {weights!r}")
    return [weight / sum(given) for weight in given]
