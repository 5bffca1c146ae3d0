"""Rounds of image generation from a teacher: a few steps of a generator and of its noise."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kd.distillers.generator import Generator
from kd.errors import UserError
from kd.metrics import Means
from kd.objectives.datafree import Inversion, inversion, recorded_statistics
from kd.objectives.setting import Run
from kd.teachers.frozen import FrozenTeacher

_BETAS = (0.5, 0.999)  # of Adam, as in the code of Fang et al. 2022


class Generated(NamedTuple):
    """Result of a round.

    Attributes:
        images: [B, C, S, S] in (0, 1), those of the step with the lowest loss.
        target: classes that were asked for [B].
        figures: means over the steps: the terms, and `acc`, the share of the images that the
            teacher assigns to the class asked for.
    """

    images: Tensor
    target: Tensor
    figures: dict[str, Tensor]


class Judges(NamedTuple):
    """What leads the generator.

    Attributes:
        teacher: by its batch norms and its logits.
        student: runs the student; images are sought on which it differs from the teacher. None:
            they are not.
        normalise: pixels on the 0..255 scale -> input of the student.
    """

    teacher: FrozenTeacher
    student: Run | None
    normalise: nn.Module

    def judge(self, images: Tensor, target: Tensor) -> tuple[Inversion, dict[str, Tensor]]:
        """Return the terms of images [B, C, S, S] in (0, 1), and the figures to log."""
        given = self.normalise(255 * images).to(images.dtype)  # of trainer.precision=bf16-true
        with recorded_statistics(self.teacher.net) as layers:
            theirs = self.teacher.logits(given)
        ours = theirs if self.student is None else self.student(given).logits
        terms = inversion(ours, theirs, target, layers)
        figures = {f"generator/{name}": term.detach() for name, term in terms._asdict().items()}
        return terms, figures | {"generator/acc": (theirs.argmax(1) == target).float().mean()}


class Synthesis(nn.Module):
    """The common generator, and the rounds that generate images with it.

    Args:
        steps: of the generator in a round.
        count: images of a round.
        noise: numbers of an image's noise.
        width: channels of the generator's last hidden layer.
        lr: learning rate of the generator.
        noise_lr: learning rate of the noise.
        common: how far the common generator follows that of a round, in (0, 1].
        factors: weights of the terms; one of them > 0.

    Raises:
        ValueError: a setting is out of range.
    """

    generator: Generator

    def __init__(
        self,
        steps: int,
        count: int,
        noise: int,
        width: int,
        lr: float,
        noise_lr: float,
        common: float,
        factors: Sequence[float],
    ) -> None:
        super().__init__()
        positive = {"steps": steps, "count": count, "noise": noise, "width": width}
        for name, value in (positive | {"lr": lr, "noise_lr": noise_lr}).items():
            if not value > 0:
                raise ValueError(f"{name} must be > 0, got {value!r}")
        if not 0 < common <= 1:
            raise ValueError(f"common must be in (0, 1], got {common!r}")
        if not min(factors) >= 0:
            raise ValueError(f"statistics, asked and adversarial must be ≥ 0, got {factors!r}")
        if not any(factors):
            raise ValueError("one of statistics, asked and adversarial must be > 0, got 0 for all")
        self.steps, self.count, self.noise, self.width = steps, count, noise, width
        self.lr, self.noise_lr, self.common = lr, noise_lr, common
        self.factors = tuple(factors)

    def build(self, classes: int, shape: tuple[int, ...]) -> None:
        """Create the generator of images [C, S, S] of K classes."""
        self.generator = Generator(classes, shape, self.noise, self.width)

    def round(self, judges: Judges) -> Generated:
        """Generate images, and move the common generator towards that of the round.

        Neither teacher nor student changes; the caller has put the student into eval mode.

        Raises:
            UserError: no step of the round has a finite loss.
        """
        device = next(self.generator.parameters()).device
        # Drawn on the CPU: the same on every device
        target = torch.randint(self.generator.classes, (self.count,)).to(device)
        noise = torch.randn(self.count, self.noise).to(device).requires_grad_()
        own = copy.deepcopy(self.generator).train()
        # Without autocast: float16 would need a loss scale of its own.
        with torch.autocast(device.type, enabled=False):
            generated = self._search(own, noise, target, judges)
        with torch.no_grad():
            for ours, theirs in zip(_floats(self.generator), _floats(own), strict=True):
                ours.lerp_(theirs, self.common)
        return generated

    def _search(self, own: Generator, noise: Tensor, target: Tensor, judges: Judges) -> Generated:
        trained = [*own.parameters(), noise]
        optimizer = self._optimizer(own, noise)
        best = lowest = torch.full((), torch.inf, device=noise.device)
        means = Means()
        for _ in range(self.steps):
            images = own(noise, target)
            terms, figures = judges.judge(images, target)
            loss = torch.stack([f * t for f, t in zip(self.factors, terms, strict=True)]).sum()
            best = torch.where(loss < lowest, images, best).detach()
            lowest = torch.minimum(loss, lowest).detach()
            # Not `backward`, which would leave gradients at the student's parameters.
            for tensor, grad in zip(trained, torch.autograd.grad(loss, trained), strict=True):
                tensor.grad = grad
            optimizer.step()
            means.add(figures)
        if not lowest.isfinite():
            raise UserError(
                f"the generator diverges: its loss is NaN or infinite in all {self.steps} steps of "
                f"a round; lower method.lr={self.lr} or method.noise_lr={self.noise_lr}"
            )
        return Generated(best, target, means.take())

    def _optimizer(self, own: Generator, noise: Tensor) -> torch.optim.Optimizer:
        """Adam for the round: it ends with it, and so is no part of a checkpoint."""
        groups: list[dict[str, Any]] = [
            {"params": [*own.parameters()]},
            {"params": [noise], "lr": self.noise_lr},
        ]
        return torch.optim.Adam(groups, lr=self.lr, betas=_BETAS)


def _floats(net: nn.Module) -> list[Tensor]:
    """Parameters of a net, and the statistics of its batch norms."""
    return [t for t in net.state_dict(keep_vars=True).values() if t.is_floating_point()]
