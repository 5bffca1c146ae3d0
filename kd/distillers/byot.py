"""Be your own teacher (BYOT): early exits of the student, distilled from its deepest one.

    L = CE_deepest + Σ_exits ((1 − α)·CE + α·T²·KL(p_deepest ‖ p_exit) + β·feature term)

Zhang, Song, Gao, Chen, Bao & Ma, "Be Your Own Teacher: Improve the Performance of Convolutional
Neural Networks via Self Distillation", ICCV 2019, https://arxiv.org/abs/1905.08094. Any method
that reads logits and embeddings supplies the terms.

Difference from the paper: its feature term compares the maps in front of the deepest pool; here an
objective compares the pooled embeddings [B, C'].
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

    A bottleneck of 3×3 convolutions with batch norm and ReLU halves the maps and doubles their
    channels until they are as small as the deepest maps; its last convolution has their width C'.

    Args:
        maps: an example of the maps it starts from [b, C, H, W].
        deepest: an example of the student's deepest maps [b, C', H', W'].
        num_classes: K.
    """

    def __init__(self, maps: Tensor, deepest: Tensor, num_classes: int) -> None:
        super().__init__()
        # 32×32 maps reach 4×4 with 3 strides of 2; odd sizes round up, as padded convolutions do.
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
    """Pairings `exit1`, `exit2`, … with the detached deepest outputs as teacher, and `deepest`.

    The deepest exit is trained on labels alone, at weight 1 whatever weight the method leaves to
    the labels at the other exits. Exits are part of the checkpoint but not of the saved student;
    their accuracies are logged as `test/exit1/acc` and so on.

    Args:
        tap_paths: as `Distiller`.
        objectives: as `Distiller`; at least one reads no teacher.
        exits: taps with an exit; None: all stages but the deepest.
        **student: as `Distiller`.

    Raises:
        ValueError: all objectives read a teacher.
        UserError: there is no such tap, or it has no maps.
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
                "the deepest exit is trained on labels alone, and none of the method's terms "
                f"({', '.join(objectives)}) reads them without a teacher; alpha must be below 1"
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
        for name, tap in self.sources.items():
            self.exits[name] = Exit(taps[tap], taps[self.deepest], self.num_classes)
        return super().build_adapters(images, targets)

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        return self._paired(self.student_taps.outputs(batch.input), with_teacher)

    @torch.no_grad()
    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        was_training = self.exits.training
        self.exits.eval()
        pairings = self._paired(self.student_taps.probe(images), with_teacher=True)
        self.exits.train(was_training)
        return pairings

    def _paired(self, student: Outputs, with_teacher: bool) -> dict[str, Pairing]:
        teacher = None
        if with_teacher:
            embedding = student.taps["embedding"].detach()
            teacher = Outputs(student.logits.detach(), {"embedding": embedding})
        # No teacher_head: methods that read one copy it once, and this one is still trained.
        found = {
            name: Pairing(exit(student.taps[tap]), teacher, student_head=exit.head)
            for name, tap, exit in self._sources()
        }
        return found | {DEEPEST: Pairing(student, weight=self._weight_of_deepest())}

    def _sources(self) -> list[tuple[str, str, Exit]]:
        """Return name, tap and module of every exit."""
        return [(name, tap, cast(Exit, self.exits[name])) for name, tap in self.sources.items()]

    def _weight_of_deepest(self) -> float:
        """Return the factor that brings the weights of the terms without a teacher to 1."""
        weights = self.plan.weights(self.progress)
        total = sum(w for term, w in weights.items() if term not in self.teacher_terms)
        return 1 / total if total else 1.0

    def test_step(self, batch: Batch, batch_index: int) -> None:
        super().test_step(batch, batch_index)
        taps = self.student_taps.outputs(batch.input).taps
        for name, tap, exit in self._sources():
            cast(Evaluation, self.exit_figures[name]).update(exit(taps[tap]).logits, batch.target)

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        for name, figures in self.exit_figures.items():
            self.log_test({f"test/{name}/acc": cast(Evaluation, figures).compute()["acc"]})


def exit_taps(tap_paths: Mapping[str, str], exits: Sequence[str] | None) -> list[str]:
    """Return the taps with an exit, followed by the deepest stage.

    Args:
        tap_paths: the student's taps.
        exits: taps with an exit; None: all stages but the deepest.

    Raises:
        UserError: the student has fewer than two stages, or no such tap.

    Example:
        >>> exit_taps(dict.fromkeys(("stem", "stage1", "stage2", "stage3"), "…"), None)
        ['stage1', 'stage2', 'stage3']
    """
    stages = [tap for tap in tap_paths if re.fullmatch(r"stage\d+", tap)]
    stages.sort(key=lambda stage: int(stage.removeprefix("stage")))
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
