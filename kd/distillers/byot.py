"""BYOT: the student's early exits are taught by its deepest one.

    L = CE_deepest + Σ_exits ((1 − α)·CE + α·T²·KL(deepest ‖ exit) + β·feature term)

with the terms of any method that reads logits and embeddings. Zhang, Song, Gao, Chen, Bao & Ma, "Be
Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self Distillation",
2019.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from kd.distillers.base import Distiller
from kd.distillers.pairing import Pairing
from kd.errors import UserError, nearest
from kd.metrics import Evaluation
from kd.models.layers import conv_bn_relu
from kd.objectives.base import Objective
from kd.types import Batch, Outputs

DEEPEST = "deepest"


class Exit(nn.Module):
    """A classifier on early maps [B, C, H, W]: logits [B, K] and an embedding [B, C'].

    In between, 3×3 convolutions with batch norm and ReLU halve the maps and double their channels
    until they are as small as the deepest ones; the last makes them as wide.

    Args:
        maps: a batch of the maps it starts from.
        deepest: the student's deepest maps [B, C', H', W'], whose shape its bottleneck ends in.
        num_classes: K.
    """

    def __init__(self, maps: Tensor, deepest: Tensor, num_classes: int) -> None:
        super().__init__()
        halvings = math.ceil(math.log2(maps.shape[2] / deepest.shape[2]))
        strides = [2] * halvings or [1]
        widths = [maps.shape[1] * 2**n for n in range(len(strides))] + [deepest.shape[1]]
        self.bottleneck = nn.Sequential()
        for stride, narrow, wide in zip(strides, widths, widths[1:], strict=False):
            self.bottleneck.extend(conv_bn_relu(narrow, wide, stride=stride))
        self.head = nn.Linear(deepest.shape[1], num_classes)

    def forward(self, maps: Tensor) -> Outputs:
        embedding = self.bottleneck(maps).mean((2, 3))
        return Outputs(self.head(embedding), {"embedding": embedding})


class BYOTDistiller(Distiller):
    """Pairings `exit1`, `exit2` … under the detached deepest answer; `deepest` under labels alone.

    The labels count in full for the deepest exit, whatever weight of them the method leaves to the
    others: it has nobody else to learn from. Exits are in the checkpoint, and no part of the net
    that is saved; their accuracies are logged as `test/exit1/acc` and so on.

    Args:
        tap_paths: as `Distiller`.
        objectives: as `Distiller`; one that needs no teacher must be among them.
        exits: the taps that have an exit; None: all stages but the deepest.
        **student: as `Distiller`.
    """

    teacher_kind = "itself"
    available_teacher_taps = available_student_taps = ("embedding",)

    def __init__(
        self,
        tap_paths: Mapping[str, str],
        objectives: Mapping[str, Objective],
        exits: Sequence[str] | None = None,
        **student: Any,
    ) -> None:
        if all(objective.needs_teacher for objective in objectives.values()):
            raise ValueError(
                "the deepest exit learns from labels alone, and none of the method's terms "
                f"({', '.join(objectives)}) is for them; alpha must be below 1"
            )
        *early, self.deepest = exit_taps(tap_paths, exits)
        self.sources = {f"exit{number}": tap for number, tap in enumerate(early, 1)}
        super().__init__(
            tap_paths=tap_paths,
            objectives=objectives,
            pairings=tuple(self.sources),
            labels_only=(DEEPEST,),
            reads=(*early, self.deepest, "embedding"),
            **student,
        )
        self.exits = nn.ModuleDict()
        figures = {name: Evaluation(self.num_classes) for name in self.sources}
        self.exit_figures = nn.ModuleDict(figures)

    def build_adapters(self, images: Tensor, targets: Tensor) -> dict[str, Pairing]:
        taps = self.student_taps.probe(images).taps
        for tap in (*self.sources.values(), self.deepest):
            if taps[tap].dim() != 4:
                shape = list(taps[tap].shape)
                raise UserError(f"an exit needs maps [B, C, H, W]; student tap {tap!r} has {shape}")
        deep = taps[self.deepest]
        for name, tap in self.sources.items():
            self.exits[name] = Exit(taps[tap], deep, self.num_classes)
        return super().build_adapters(images, targets)

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        return self._pairings(self.student_taps.outputs(batch.input), with_teacher)

    def _pairings(self, student: Outputs, with_teacher: bool) -> dict[str, Pairing]:
        embedding = student.taps["embedding"].detach()
        teacher = (
            Outputs(student.logits.detach(), {"embedding": embedding}) if with_teacher else None
        )
        # No teacher's head: it learns, and methods that read one copy it once.
        found = {
            name: Pairing(exit(student.taps[tap]), teacher, student_head=exit.head)
            for (name, tap), exit in zip(self.sources.items(), self._exits, strict=True)
        }
        return found | {DEEPEST: Pairing(student, weight=self._share_of_deepest())}

    @property
    def _exits(self) -> list[Exit]:
        return cast(list[Exit], list(self.exits.values()))

    def _share_of_deepest(self) -> float:
        """What brings the weights of the terms without a teacher to 1."""
        weights = self.plan.weights(self.progress)
        total = sum(w for term, w in weights.items() if term not in self.teacher_terms)
        return 1 / total if total else 1.0

    @torch.no_grad()
    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        was_training = self.exits.training
        self.exits.eval()
        pairings = self._pairings(self.student_taps.probe(images), with_teacher=True)
        self.exits.train(was_training)
        return pairings

    def test_step(self, batch: Batch, batch_index: int) -> None:
        super().test_step(batch, batch_index)
        taps = self.student_taps.outputs(batch.input).taps
        for (name, tap), exit in zip(self.sources.items(), self._exits, strict=True):
            cast(Evaluation, self.exit_figures[name]).update(exit(taps[tap]).logits, batch.target)

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        for name, figures in self.exit_figures.items():
            self.log_test({f"test/{name}/acc": cast(Evaluation, figures).compute()["acc"]})


def exit_taps(tap_paths: Mapping[str, str], exits: Sequence[str] | None) -> list[str]:
    """The taps with an exit and, behind them, the deepest stage.

    Args:
        tap_paths: the student's taps.
        exits: those with an exit; None: all stages but the deepest.

    Raises:
        UserError: there are none, or no such taps.
    """
    stages = sorted((tap for tap in tap_paths if re.fullmatch(r"stage\d+", tap)), key=_number)
    early = stages[:-1] if exits is None else list(dict.fromkeys(exits))
    if not early or not stages:
        raise UserError(
            "an exit needs an early stage, with maps, and a deeper one; the student's taps are "
            f"{', '.join(tap_paths) or 'none'}, mode.distiller.exits={exits}"
        )
    for tap in early:
        if tap not in tap_paths:
            raise UserError(f"mode.distiller.exits: no tap {tap!r}; {nearest(tap, tap_paths)}")
    return [*early, stages[-1]]


def _number(stage: str) -> int:
    return int(stage.removeprefix("stage"))
