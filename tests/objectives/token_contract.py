"""The contract of objectives on tokens: padding of every length, and its content."""

from typing import ClassVar

import numpy as np
import torch
from contract import Contract
from torch import Tensor

from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

L, PAD = 5, 7


def lengths(index: Tensor) -> Tensor:
    """Tokens of the texts of a batch: 1 to L by their index, so that any order keeps them."""
    return 1 + index % L


def ids(index: Tensor, length: int = L) -> Tensor:
    """Token ids [B, length], padded with PAD."""
    return torch.where(torch.arange(length) < lengths(index)[:, None], 3, PAD)


class TokenContract(Contract):
    """Subclass it as `Contract`; the reference gets the number of tokens of each text.

    The teacher's taps have the student's names, as an objective gets them after `pair`.
    """

    # Dimensions of each tap that are positions, counted without the batch
    positions: ClassVar[dict[str, tuple[int, ...]]] = {}

    def formula(self, student, teacher, tokens: list[int], objective) -> float:
        raise NotImplementedError

    def setting(self, classes):
        return Setting(classes, torch.arange(self.pool) % classes, pad_index=PAD)

    def value(self, objective, student, teacher, batch):
        return objective(student, teacher, with_ids(batch, ids(batch.index)))

    def case(self, batch=None, classes=None, scale=1.0):
        objective, student, teacher, given = super().case(batch, classes, scale)
        self.tokens = lengths(given.index).tolist()
        return objective, student, teacher, given

    def reference(self, student, teacher, target: np.ndarray, objective):
        return self.formula(student, teacher, self.tokens, objective)

    def _padded_with(self, outputs: Outputs, content: float) -> Outputs:
        """The taps with two more positions, and `content` wherever there is no token."""
        taps = {}
        for name, tap in outputs.taps.items():
            for place in self.positions.get(name, ()):
                more = torch.full_like(tap.narrow(place + 1, 0, 1), content)
                tap = torch.cat([tap, more, more], place + 1)
                for row, count in enumerate(self.tokens):
                    tap[row].narrow(place, count, tap.shape[place + 1] - count).fill_(content)
            taps[name] = tap
        return outputs._replace(taps=taps)

    def test_padding_does_not_matter(self):
        objective, student, teacher, batch = self.case()
        expected = self.value(objective, student, teacher, batch)
        longer = with_ids(batch, ids(batch.index, L + 2))
        for content in (0.0, 1e4, float("nan")):
            padded = (self._padded_with(outputs, content) for outputs in (student, teacher))
            torch.testing.assert_close(objective(*padded, longer), expected)

    def test_the_teachers_taps_may_be_longer(self):
        objective, student, teacher, batch = self.case()
        expected = self.value(objective, student, teacher, batch)
        longer = self._padded_with(teacher, 9.0)
        torch.testing.assert_close(self.value(objective, student, longer, batch), expected)

    def test_texts_without_a_token_are_finite(self):
        objective, student, teacher, batch = self.case()
        taps = {name: tap.requires_grad_() for name, tap in student.taps.items()}
        empty = with_ids(batch, torch.full((self.batch, L), PAD))
        loss = objective(student._replace(taps=taps), teacher, empty)
        loss.backward()
        assert loss.isfinite()
        assert all(tap.grad is None or tap.grad.isfinite().all() for tap in taps.values())


def with_ids(batch: Batch, tokens: Tensor) -> Batch:
    return batch._replace(input=tokens)
