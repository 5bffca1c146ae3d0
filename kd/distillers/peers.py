"""Whole nets that learn together: each looks at a batch once and has an optimizer's group."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from kd.distillers.cohort import JointDistiller
from kd.distillers.pairing import Peer
from kd.errors import UserError
from kd.models.sizing import count_parameters
from kd.taps import Taps
from kd.types import Outputs


class PeersDistiller(JointDistiller):
    """A student and other nets, named `peer1`, `peer2`, …, under the same method.

    All nets see the same images. Their parameters are `student.*` and `peers.peer1.*` in
    checkpoints.

    Args:
        peers: at least one net.
        **student: as `Distiller`.

    Raises:
        UserError: there are no peers, or the method changes the net that answers.
    """

    def __init__(self, peers: Sequence[Peer], **student: Any) -> None:
        named = dict(zip(peer_names(peers), peers, strict=True))
        super().__init__({name: peer.name for name, peer in named.items()}, **student)
        self.peers = nn.ModuleDict({name: peer.net for name, peer in named.items()})
        self.taps = {"student": self.student_taps}
        for name, peer in named.items():
            self.taps[name] = Taps(peer.net, peer.tap_paths, self.student_taps.wanted)

    def outputs(self, images: Tensor) -> dict[str, Outputs]:
        """Every net's outputs of the images [B, C, H, W], with gradients."""
        return {name: taps.outputs(images) for name, taps in self.taps.items()}

    def predict_all(self, images: Tensor) -> dict[str, Tensor]:
        return {name: taps.net(images) for name, taps in self.taps.items()}

    def parameter_count(self, member: str) -> int:
        return count_parameters(self.peers[member])

    def weights(self) -> dict[str, dict[str, Tensor]]:
        return super().weights() | {name: net.state_dict() for name, net in self.peers.items()}

    def compile_nets(self, mode: str) -> None:
        for taps in self.taps.values():
            taps.net.compile(mode=mode)

    def groups(self) -> list[dict[str, Any]]:
        """A group of the optimizer for each net, and one for the objectives' adapters."""
        parts = {name: taps.net for name, taps in self.taps.items()}
        found = {
            k: list(_trainable(net)) for k, net in (*parts.items(), ("adapters", self.objectives))
        }
        return [{"params": params, "name": name} for name, params in found.items() if params]

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each net by its own norm: no net's gradient may shrink another's."""
        if gradient_clip_algorithm == "value":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            for group in optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], gradient_clip_val)


def peer_names(peers: Sequence[Peer]) -> list[str]:
    """`peer1`, `peer2`, … for at least one peer."""
    if not peers:
        raise UserError("mode.peers is empty; name the nets that learn beside the student")
    return [f"peer{number}" for number, _ in enumerate(peers, 1)]


def _trainable(net: nn.Module) -> Iterator[nn.Parameter]:
    return (parameter for parameter in net.parameters() if parameter.requires_grad)
