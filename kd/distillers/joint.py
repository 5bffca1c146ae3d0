"""Modes in which several nets are trained jointly: figures of each, optimizer groups, clipping."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kd.distillers.base import Distiller
from kd.distillers.pairing import Peer
from kd.errors import UserError
from kd.metrics import Figures
from kd.models.sizing import count_parameters
from kd.taps import Taps
from kd.types import Batch, Outputs


class JointDistiller(Distiller):
    """A student and its peers, each with figures of its own.

    Logs `val/PEER/…` and `PEER/test/…` for every peer. The student's validation accuracy selects
    the epoch for all nets: the peers' figures in result.json belong to the same epoch.

    Args:
        architectures: peer name -> description for result.json.
        **student: as `Distiller`.
    """

    teacher_kind = "peers"
    # Accuracies [P] of the last validation. A buffer: the selected checkpoint restores its own.
    members_val_acc: Tensor

    def __init__(self, architectures: Mapping[str, str], **student: Any) -> None:
        super().__init__(**student)
        self.architectures = dict(architectures)
        self.val_peers = self._evaluations()
        self.test_peers = self._evaluations(closely=True)
        self.register_buffer("members_val_acc", torch.zeros(len(self.architectures)))

    def _evaluations(self, closely: bool = False) -> nn.ModuleDict:
        return nn.ModuleDict(
            {peer: self.task.evaluation(self.num_classes, closely) for peer in self.architectures}
        )

    @abstractmethod
    def predict_all(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [B, K] of `student` and of every peer, by name."""

    @abstractmethod
    def parameter_count(self, peer: str) -> int:
        """Return the number of parameters that a peer needs at inference."""

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate(batch, self.val_figures, self.val_peers)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate(batch, self.test_figures, self.test_peers)

    def _evaluate(self, batch: Batch, student: Figures, peers: nn.ModuleDict) -> None:
        logits = self.predict_all(batch.input)
        student.update(logits["student"], batch.target)
        for peer, evaluation in _items(peers):
            evaluation.update(logits[peer], batch.target)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        for n, (peer, evaluation) in enumerate(_items(self.val_peers)):
            figures = evaluation.compute()
            self.members_val_acc[n] = figures["acc"]
            self.log_dict({f"val/{peer}/{k}": v for k, v in figures.items()})

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        for peer, evaluation in _items(self.test_peers):
            # The role comes first, as in result.json: teacher/test/acc, peer1/test/acc.
            self.log_test({f"{peer}/test/{k}": v for k, v in evaluation.compute().items()})

    def results(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for (peer, name), acc in zip(self.architectures.items(), self.members_val_acc, strict=True):
            found[f"{peer}/net"] = name
            found[f"{peer}/val/acc"] = acc.item()
            found[f"{peer}/params"] = self.parameter_count(peer)
        return found


class PeersDistiller(JointDistiller):
    """A student and whole nets `peer1`, `peer2`, … that run on the same images.

    Parameters are `student.*` and `peers.peer1.*` in checkpoints. Every net has its own optimizer
    group and its own gradient norm for clipping.

    Args:
        peers: at least one net.
        **student: as `Distiller`.

    Raises:
        UserError: there are no peers.
    """

    def __init__(self, peers: Sequence[Peer], **student: Any) -> None:
        named = dict(zip(peer_names(peers), peers, strict=True))
        super().__init__({name: peer.name for name, peer in named.items()}, **student)
        # Every net is a teacher as well, so all record the same taps.
        self.peers = nn.ModuleDict({name: peer.net for name, peer in named.items()})
        self.taps = {"student": self.student_taps}
        for name, peer in named.items():
            self.taps[name] = Taps(peer.net, peer.tap_paths, self.student_taps.wanted)

    def all_outputs(self, images: Tensor) -> dict[str, Outputs]:
        """Run every net on images [B, C, H, W], with gradients."""
        return {name: taps.outputs(images) for name, taps in self.taps.items()}

    def example_outputs(self, images: Tensor) -> dict[str, Outputs]:
        """Run every net on images [b, C, H, W] in eval mode, without side effects."""
        return {name: taps.probe(images) for name, taps in self.taps.items()}

    def predict_all(self, images: Tensor) -> dict[str, Tensor]:
        return {name: taps.net(images) for name, taps in self.taps.items()}

    def parameter_count(self, peer: str) -> int:
        return count_parameters(self.peers[peer])

    def weights(self) -> dict[str, dict[str, Tensor]]:
        return super().weights() | {name: net.state_dict() for name, net in self.peers.items()}

    def compile_nets(self, mode: str) -> None:
        for taps in self.taps.values():
            taps.net.compile(mode=mode)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return one optimizer group for each net, and one for the objectives' adapters."""
        nets: dict[str, nn.Module] = {name: taps.net for name, taps in self.taps.items()}
        parts = {**nets, "adapters": self.objectives}
        groups = {name: list(_trainable(part)) for name, part in parts.items()}
        return [{"params": params, "name": name} for name, params in groups.items() if params]

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each net by its own norm: a norm over all nets would couple their step sizes."""
        if gradient_clip_algorithm == "value":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            for group in optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], gradient_clip_val)


def peer_names(peers: Sequence[Peer]) -> list[str]:
    """Return `peer1`, `peer2`, … for at least one peer."""
    if not peers:
        raise UserError("mode.peers is empty; name the nets to train jointly with the student")
    return [f"peer{number}" for number, _ in enumerate(peers, 1)]


def detached(outputs: Outputs) -> Outputs:
    """Return outputs without gradients, for use as a teacher's."""
    taps = {name: tap.detach() for name, tap in outputs.taps.items()}
    return Outputs(outputs.logits.detach(), taps)


def _items(evaluations: nn.ModuleDict) -> list[tuple[str, Figures]]:
    return cast(list[tuple[str, Figures]], list(evaluations.items()))


def _trainable(net: nn.Module) -> Iterator[nn.Parameter]:
    return (parameter for parameter in net.parameters() if parameter.requires_grad)
