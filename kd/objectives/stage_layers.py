"""The layers of a net from stage to stage, for objectives that run them on other maps."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kd.compat import copy_without_hooks
from kd.errors import UserError


class StageLayers:
    """The layers of a net between its stages and behind the last, with the parameters of the net.

    No submodule of the objective that holds it, which would save the layers once more.

    Args:
        net: a sequence of layers, which may hold sequences; only read.
        stages: paths of some of its layers, in order.
        role: of the net, for errors.

    Raises:
        UserError: the net is no sequence that has them, or has them in another order.
    """

    def __init__(self, net: nn.Module | None, stages: Sequence[str], role: str) -> None:
        layers = dict(_layers(net, stages)) if isinstance(net, nn.Sequential) else {}
        order = list(layers)
        ends = [order.index(stage) for stage in stages if stage in layers]
        if len(ends) < len(stages):
            raise UserError(
                f"fcfd runs the {role}'s layers from stage to stage: it needs an "
                f"nn.Sequential with the members {', '.join(stages)}, and the {role} is "
                f"{'an ensemble' if net is None else type(net).__name__} with "
                f"{', '.join(order) or 'no such members'}; take one of the nets of kd.models"
            )
        if ends != sorted(ends):
            raise UserError(
                f"fcfd runs the {role}'s layers from stage to stage, and method.taps names its "
                f"stages as {', '.join(stages)}; name them in the order of the layers, "
                f"{', '.join(order[end] for end in sorted(ends))}"
            )
        spans = pairwise([*ends, len(order) - 1])
        self.live = [nn.Sequential(*list(layers.values())[a + 1 : b + 1]) for a, b in spans]
        # The taps' hooks would record the paths' maps; the numbers are passed with each call.
        self.bare = [copy_without_hooks(part).to("meta") for part in self.live]

    def train(self, mode: bool) -> None:
        """Set the mode of the layers in paths; the net has its own."""
        for part in self.bare:
            part.train(mode)

    def run(self, number: int, maps: Tensor) -> Tensor:
        """Run the layers behind stage `number`, up to the next stage or to the logits."""
        live, bare = self.live[number], self.bare[number]
        for layer, copied in zip(live.modules(), bare.modules(), strict=True):
            vars(copied).update(_flags(layer))
        # Copies, so that batch norm does not update the net's running statistics.
        buffers = {name: buffer.clone() for name, buffer in live.named_buffers()}
        state = dict(live.named_parameters()) | buffers
        output: Tensor = functional_call(bare, state, (maps,))
        return output

    @torch.no_grad()
    def check(self, maps: Sequence[Tensor], logits: Tensor, role: str) -> None:
        """Check that each stage's map leads to the next, and the last to the logits.

        Raises:
            UserError: one does not.
        """
        self.train(False)
        for number, expected in enumerate([*maps[1:], logits]):
            found = self.run(number, maps[number])
            # 1e-3 of the largest value, as for heads: sums in another order differ by less.
            atol = 1e-3 * float(expected.abs().max())
            if found.shape != expected.shape or not torch.allclose(found, expected, 1e-3, atol):
                raise UserError(
                    f"fcfd: the {role}'s layers behind stage {number + 1} of method.taps do not "
                    "make its next output, so that another layer lies between; take one of the "
                    "nets of kd.models"
                )


def _flags(layer: nn.Module) -> dict[str, bool]:
    """What a layer keeps beside its tensors, such as whether its input's range is known."""
    flags = {name: value for name, value in vars(layer).items() if isinstance(value, bool)}
    return {name: value for name, value in flags.items() if name != "training"}


def _layers(
    net: nn.Sequential, stages: Sequence[str], prefix: str = ""
) -> Iterator[tuple[str, nn.Module]]:
    """Yield paths and layers in order; an inner sequence with a stage in it is taken apart."""
    for name, layer in net.named_children():
        path = f"{prefix}{name}"
        inside = any(stage.startswith(f"{path}.") for stage in stages)
        if inside and isinstance(layer, nn.Sequential):
            yield from _layers(layer, stages, f"{path}.")
        else:
            yield path, layer
