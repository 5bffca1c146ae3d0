"""On-the-fly native ensemble (ONE): one trunk, M branches, their gated ensemble as the teacher.

    z_e = Σ_i g_i z_i,    g = softmax(ReLU(BN(W · pooled trunk feature)))    [B, M]
    L = Σ_i CE(z_i) + CE(z_e) + T² · Σ_i KL(p_e ‖ p_i),    no gradient through p_e in the KL

Lan, Zhu & Gong, "Knowledge Distillation by On-the-Fly Native Ensemble", NeurIPS 2018,
https://arxiv.org/abs/1806.04606, with T = 3 and three branches that share all but the last stage.
The gate is trained through CE(z_e) alone.

Difference from the published code: there the KL is ramped up over the first 80 of 300 epochs. The
equivalent here is `+schedule@method.schedules.soft=warmup method.schedules.soft.warmup=0.27`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kd.distillers.joint import JointDistiller
from kd.distillers.pairing import Pairing, Peer
from kd.distillers.tail import Tail, tail_of
from kd.errors import UserError
from kd.models.sizing import count_parameters
from kd.taps import Taps
from kd.types import Batch, Outputs


class Gate(nn.Module):
    """Weights of M branches, computed from the trunk feature.

    Maps [B, C, H, W], tokens [B, N, C] or vectors [B, C] -> weights [B, M] that sum to 1.

    Args:
        feature: an example of the trunk feature.
        branches: M.
    """

    def __init__(self, feature: Tensor, branches: int) -> None:
        super().__init__()
        channels = pooled(feature).shape[1]
        self.layers = nn.Sequential(
            nn.Linear(channels, branches), nn.BatchNorm1d(branches), nn.ReLU(), nn.Softmax(1)
        )

    def forward(self, feature: Tensor) -> Tensor:
        weights: Tensor = self.layers(pooled(feature))
        return weights


def pooled(feature: Tensor) -> Tensor:
    """Average over positions: maps [B, C, H, W], tokens [B, N, C] or vectors [B, C] -> [B, C].

    Example:
        >>> [list(pooled(torch.ones(shape)).shape) for shape in ((2, 5, 4, 4), (2, 9, 5), (2, 5))]
        [[2, 5], [2, 5], [2, 5]]
    """
    if feature.dim() == 3:  # tokens have their channels last
        return feature.mean(1)
    return feature.flatten(2).mean(2) if feature.dim() > 3 else feature


def gated(weights: Tensor, logits: Tensor) -> Tensor:
    """Return the weighted sum [B, K] of logits [M, B, K] with weights [B, M].

    Example:
        >>> gated(torch.tensor([[0.25, 0.75]]), torch.tensor([[[4.0, 0.0]], [[0.0, 8.0]]]))
        tensor([[1., 6.]])
    """
    return torch.einsum("bm,mbk->bk", weights.float(), logits.float())


class ONEDistiller(JointDistiller):
    """A student whose layers after a tap exist M times, distilled from the branches' ensemble.

    Branch 0 belongs to the plain student, which is deployed; the others are `branch1`, … The
    pairings are `student`, `branch1`, … and, on labels only, `ensemble`.

    Args:
        peers: nets of the student's architecture with other initialisations; each contributes its
            layers after the tap.
        branch_at: the tap at which the trunk ends.
        **student: as `Distiller`.

    Raises:
        UserError: there are no peers, or one is of another architecture, or the layers after the
            tap cannot be run on it alone.
    """

    available_teacher_taps = available_student_taps = ()  # pairings have logits only

    def __init__(self, peers: Sequence[Peer], branch_at: str = "stage2", **student: Any) -> None:
        if not peers:
            raise UserError("mode.peers is empty; mode.peers=[student,student] makes 3 branches")
        branches = {f"branch{number}": peer for number, peer in enumerate(peers, 1)}
        architectures = {name: peer.name for name, peer in branches.items()}
        super().__init__(
            {**architectures, "ensemble": f"{len(peers) + 1} branches"},
            **student,
            pairings=("student", *branches),
            labels_only=("ensemble",),
        )
        self._peers = branches  # whole nets, in a plain dict: only their tails become submodules
        self.branch_at = branch_at
        self.trunk = Taps(self.student, student["tap_paths"], [branch_at])
        self.branches = nn.ModuleDict()
        self.gate: nn.Module = nn.Identity()

    def build_adapters(self, images: Tensor, targets: Tensor) -> dict[str, Pairing]:
        # Not the given zeros: most wrong cuts reproduce the logits of an all-zero image.
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        self._build_branches(noise)
        return super().build_adapters(images, targets)

    def _build_branches(self, images: Tensor) -> None:
        for name, peer in self._peers.items():
            if _shapes(peer.net) != _shapes(self.student):
                raise UserError(
                    "mode.peers: a branch is a copy of the student's last layers, and "
                    f"{peer.name} is another net; use mode.peers=[student,student]"
                )
            self.branches[name] = tail_of(peer.net, peer.tap_paths, self.branch_at, images)
        feature = self.trunk.probe(images).taps[self.branch_at]
        self.gate = Gate(feature, len(self.branches) + 1)
        self._peers = {}

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        return self._paired(batch.input, with_teacher)

    def _paired(self, images: Tensor, with_teacher: bool) -> dict[str, Pairing]:
        logits = self.predict_all(images)
        ensemble = logits.pop("ensemble")
        teacher = Outputs(ensemble.detach(), {}) if with_teacher else None
        pairings = {name: Pairing(Outputs(z, {}), teacher) for name, z in logits.items()}
        return pairings | {"ensemble": Pairing(Outputs(ensemble, {}))}

    @torch.no_grad()
    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        was_training = self.training
        self.eval()
        pairings = self._paired(images, with_teacher=True)
        self.train(was_training)
        return pairings

    def predict_all(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits [B, K] of the student, of every branch, and of their ensemble."""
        trunk = self.trunk.outputs(images)
        feature = trunk.taps[self.branch_at]
        logits = {"student": trunk.logits}
        logits |= {name: branch(feature) for name, branch in self.branches.items()}
        ensemble = gated(self.gate(feature), torch.stack(list(logits.values())))
        return logits | {"ensemble": ensemble}

    def parameter_count(self, peer: str) -> int:
        student = count_parameters(self.student)
        if peer != "ensemble":
            return student  # trunk and branch together are a net of the student's architecture
        return student + count_parameters(self.branches) + count_parameters(self.gate)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """Return the student's weights and, for each branch, trunk and branch as a plain net."""
        student, found = self.student.state_dict(), super().weights()
        for name, branch in self.branches.items():
            assert isinstance(branch, Tail)
            found[name] = student | branch.net.state_dict()
        return found


def _shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in net.state_dict().items()}
