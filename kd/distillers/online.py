"""Deep mutual learning (DML): nets trained jointly, each with all others as teachers.

    L_i = CE_i + (1 / (M − 1)) · Σ_{j ≠ i} KL(p_j ‖ p_i),    no gradient through p_j

Zhang, Xiang, Hospedales & Lu, "Deep Mutual Learning", CVPR 2018,
https://arxiv.org/abs/1706.00384. The method's objectives take the place of CE and KL, so every
method can be used that needs neither a trained teacher nor two views of an image.

Differences from the paper:
- The paper updates the nets in turn and recomputes the predictions of all others after each
  update, M forward passes a net and batch. Here all nets run once on a batch and are updated
  together, as in most implementations.
- p_j is detached, as in the paper. Implementations that keep its gradient also update net j by
  this term.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kd.distillers.joint import PeersDistiller, detached, peer_names
from kd.distillers.pairing import Pairing, Peer
from kd.types import Batch, Outputs


class OnlineDistiller(PeersDistiller):
    """M ≥ 2 nets, each distilled from every other with weight 1 / (M − 1).

    The pairings of two nets are `student` and `peer1`; those of more are `student_by_peer1`,
    `student_by_peer2`, `peer1_by_student`, …

    Args:
        peers: the nets besides the student.
        **student: as `Distiller`.
    """

    def __init__(self, peers: Sequence[Peer], **student: Any) -> None:
        names = ["student", *peer_names(peers)]
        pairs = [(ours, theirs) for ours in names for theirs in names if ours != theirs]
        two = len(names) == 2
        self._pairs = {a if two else f"{a}_by_{b}": (a, b) for a, b in pairs}
        super().__init__(peers, **student, pairings=tuple(self._pairs))

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        return self._paired(self.all_outputs(batch.input), with_teacher)

    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        return self._paired(self.example_outputs(images), with_teacher=True)

    def _paired(self, outputs: Mapping[str, Outputs], with_teacher: bool) -> dict[str, Pairing]:
        weight = 1 / (len(outputs) - 1)
        heads = {name: taps.head for name, taps in self.taps.items()}
        found = {}
        for pairing, (ours, theirs) in self._pairs.items():
            teacher = detached(outputs[theirs]) if with_teacher else None
            found[pairing] = Pairing(outputs[ours], teacher, weight, heads[ours], heads[theirs])
        return found
