"""On-the-fly native ensemble: one trunk, M branches, and their gated ensemble as the teacher.

    z_e = Σ_i g_i z_i,    g = softmax(ReLU(BN(W · pooled trunk feature)))    [B, M]
    L = Σ_i CE(z_i) + CE(z_e) + T² · Σ_i KL(p_e ‖ p_i),    no gradient through p_e in the KL

Lan, Zhu & Gong, "Knowledge Distillation by On-the-Fly Native Ensemble", 2018 (ONE): T = 3, three
branches from the last stage on. The gate is trained through CE(z_e) alone. The authors' code ramps
the KL up over the first 80 of 300 epochs; `schedule@method.schedules.soft=warmup` does the like.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kd.distillers.cohort import JointDistiller
from kd.distillers.pairing import Pairing, Peer
from kd.distillers.tail import Tail, tail_of
from kd.errors import UserError
from kd.models.sizing import count_parameters
from kd.taps import Taps
from kd.types import Batch, Outputs


class Gate(nn.Module):
    """Weights [B, M] of M branches, which sum to 1, from a trunk feature [B, C, …] or [B, N, C].

    Args:
        feature: an example; tokens [B, N, C] have three dimensions.
        branches: M.
    """

    def __init__(self, feature: Tensor, branches: int) -> None:
        super().__init__()
        width = pooled(feature).shape[1]
        self.layers = nn.Sequential(
            nn.Linear(width, branches), nn.BatchNorm1d(branches), nn.ReLU(), nn.Softmax(1)
        )

    def forward(self, feature: Tensor) -> Tensor:
        weights: Tensor = self.layers(pooled(feature))
        return weights


def pooled(feature: Tensor) -> Tensor:
    """The mean over positions: maps [B, C, H, W], tokens [B, N, C] or vectors [B, C] -> [B, C]."""
    return (
        feature.mean(1)
        if feature.dim() == 3
        else feature.flatten(2).mean(2)
        if feature.dim() > 3
        else feature
    )


def gated(weights: Tensor, logits: Tensor) -> Tensor:
    """The ensemble's logits [B, K] of weights [B, M] and logits [M, B, K], in float32."""
    return torch.einsum("bm,mbk->bk", weights.float(), logits.float())


class ONEDistiller(JointDistiller):
    """A student whose part behind a tap exists M times, under the branches' ensemble.

    Branch 0 is the plain student, which is what is deployed; the others are `branch1`, … The
    pairings are `student`, `branch1`, … and, with labels only, `ensemble`.

    Args:
        peers: nets like the student, in other initialisations; of each the part behind the tap is
            taken as a branch.
        branch_at: the tap up to which the net is shared.
        **student: as `Distiller`.
    """

    available_teacher_taps = ()

    def __init__(self, peers: Sequence[Peer], branch_at: str = "stage2", **student: Any) -> None:
        if not peers:
            raise UserError("mode.peers is empty; mode.peers=[student,student] makes 3 branches")
        branches = {f"branch{number}": peer for number, peer in enumerate(peers, 1)}
        members = {name: peer.name for name, peer in branches.items()}
        super().__init__(
            {**members, "ensemble": f"{len(peers) + 1} branches"},
            **student,
            pairings=("student", *branches),
            labels_only=("ensemble",),
        )
        self._whole = branches  # until they are cut; no submodules
        self.branch_at = branch_at
        self.trunk = Taps(self.student, student["tap_paths"], [branch_at])
        self.branches = nn.ModuleDict()
        self.gate: nn.Module = nn.Identity()

    def build_adapters(self, images: Tensor, targets: Tensor) -> dict[str, Pairing]:
        # not the given zeros, on which most wrong cuts answer alike
        self._branch_off(torch.randn(images.shape, generator=torch.Generator().manual_seed(0)))
        return super().build_adapters(images, targets)

    def _branch_off(self, images: Tensor) -> None:
        """Cut the branches out of their nets and make the gate."""
        for name, peer in self._whole.items():
            if _shapes(peer.net) != _shapes(self.student):
                raise UserError(
                    f"mode.peers: a branch is a further copy of the student's own last layers, and "
                    f"{peer.name} is another net; use mode.peers=[student,student]"
                )
            self.branches[name] = tail_of(peer.net, peer.tap_paths, self.branch_at, images)
        feature = self.trunk.probe(images).taps[self.branch_at]
        self.gate = Gate(feature, len(self.branches) + 1)
        self._whole = {}

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        answers = self._join(self.trunk.outputs(batch.input))
        ensemble = answers.pop("ensemble")
        teacher = Outputs(ensemble.detach(), {}) if with_teacher else None
        pairings = {name: Pairing(Outputs(z, {}), teacher) for name, z in answers.items()}
        return pairings | {"ensemble": Pairing(Outputs(ensemble, {}))}

    @torch.no_grad()
    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        was_training = self.training
        self.eval()
        none = images.new_zeros(len(images), dtype=torch.int64)
        pairings = self.pairings(Batch(images, none, none, none, epoch=0), True)
        self.train(was_training)
        return pairings

    def predict_all(self, images: Tensor) -> dict[str, Tensor]:
        return self._join(self.trunk.outputs(images))

    def _join(self, trunk: Outputs) -> dict[str, Tensor]:
        """Logits [B, K] of the student, of every branch, and of their ensemble."""
        feature = trunk.taps[self.branch_at]
        answers = {"student": trunk.logits}
        answers |= {name: branch(feature) for name, branch in self.branches.items()}
        ensemble = gated(self.gate(feature), torch.stack(list(answers.values())))
        return answers | {"ensemble": ensemble}

    def parameter_count(self, member: str) -> int:
        own = count_parameters(self.student)
        if member != "ensemble":
            return own  # with its trunk a branch is a net like the student
        return own + count_parameters(self.branches) + count_parameters(self.gate)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """The student's, and every branch's together with the trunk, as of plain nets."""
        student, found = self.student.state_dict(), super().weights()
        for name, branch in self.branches.items():
            assert isinstance(branch, Tail)
            found[name] = student | branch.net.state_dict()
        return found


def _shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in net.state_dict().items()}
