"""Base class of the optimizers that get a gradient of their own from each part of the loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT


class PartsOptimizer(Optimizer, ABC):
    """Gradient descent with a momentum buffer for each part of the loss.

        v_part ← μ_part · v_part + g_part,    θ ← θ − lr · Σ_part v_part

    The distiller computes one gradient g of each part (`kd.distillers.loss_parts`) and passes it to
    `add`. A parameter that only one part has reached so far, such as that of an adapter, has the
    ordinary momentum μ. A part without a gradient at a step counts as one of gradient 0; a
    parameter without any is left as it is. With the same momentum in all parts this is
    `torch.optim.SGD` without Nesterov's momentum on the whole loss.

    Attributes:
        parts: names of the parts, the task's first.
        decayed: the part to whose gradient the weight decay is added.
        by_class: whether the teacher's terms come in two parts, of the label and of the other
            classes.

    Args:
        params: parameters, or groups of them.
        defaults: settings of a group; `lr`, `momentum` (μ) and `weight_decay` are among them.
    """

    parts: ClassVar[tuple[str, ...]]
    decayed: ClassVar[str]
    by_class: ClassVar[bool] = False

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        for name in ("lr", "weight_decay"):
            if not defaults[name] >= 0:
                raise ValueError(f"{name} must be ≥ 0, got {defaults[name]!r}")
        for part, momentum in {"momentum": defaults["momentum"], **self.momenta(defaults)}.items():
            if not 0 <= momentum < 1:
                raise ValueError(f"the momentum of {part} must be in [0, 1), got {momentum:g}")
        super().__init__(params, defaults)
        self._gradients: dict[nn.Parameter, dict[str, Tensor]] = {}

    @abstractmethod
    def momenta(self, settings: Mapping[str, Any]) -> dict[str, float]:
        """Return the momentum of each part, by the settings of a group."""

    def share(self, progress: float) -> float:
        """Share of the other classes that the teacher's terms compare, in (0, 1].

        Args:
            progress: of the run, in [0, 1].
        """
        return 1.0

    def add(
        self, part: str, parameters: Iterable[nn.Parameter], gradients: Iterable[Tensor | None]
    ) -> None:
        """Add gradients of a part of the loss to those since the last step; None stands for 0."""
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                found = self._gradients.setdefault(parameter, {})
                found[part] = found[part] + gradient if part in found else gradient

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parts."""
        super().zero_grad(set_to_none)
        self._gradients = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters; the gradients of the parts come from `add`, not from `.grad`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            momenta = self.momenta(group)
            for parameter in group["params"]:
                if gradients := self._gradients.pop(parameter, None):
                    self._update(parameter, gradients, momenta, group)
        return loss

    def _update(
        self,
        parameter: nn.Parameter,
        gradients: dict[str, Tensor],
        momenta: Mapping[str, float],
        group: Mapping[str, Any],
    ) -> None:
        buffers: dict[str, Tensor] = self.state[parameter]
        reached = [part for part in self.parts if part in gradients or _buffer(part) in buffers]
        decayed = self.decayed if self.decayed in reached else reached[0]
        for part in reached:
            momentum = momenta[part] if len(reached) > 1 else group["momentum"]
            gradient = gradients[part] if part in gradients else torch.zeros_like(parameter)
            if part == decayed and group["weight_decay"]:
                gradient = gradient.add(parameter, alpha=group["weight_decay"])
            buffer = buffers.get(_buffer(part))
            if buffer is None:
                buffer = buffers[_buffer(part)] = gradient.clone()
            else:
                buffer.mul_(momentum).add_(gradient)
        for part in reached:
            parameter.add_(buffers[_buffer(part)], alpha=-group["lr"])


def _buffer(part: str) -> str:
    """Name of a part's momentum in the state of a parameter."""
    return f"{part}_momentum_buffer"
