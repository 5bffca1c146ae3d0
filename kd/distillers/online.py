"""Deep mutual learning: nets that learn together, each taught by all the others.

    L_i = CE_i + (1 / (M − 1)) · Σ_{j ≠ i} KL(p_j ‖ p_i),    no gradient through p_j

Zhang, Xiang, Hospedales & Lu, "Deep Mutual Learning", 2018 (DML), T = 1. The method's objectives
stand in the place of CE and KL, so that any method may be learned mutually.

The paper alternates: each net takes its step on predictions of the others that are computed anew
after their steps, M forward passes a net and batch. Here all nets look at the batch once and take
their steps at the same time, as most implementations do. Some forget to cut the gradient through
the peers' predictions; then every net also trains the others to agree with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kd.distillers.cohort import detached
from kd.distillers.pairing import Pairing, Peer
from kd.distillers.peers import PeersDistiller, peer_names
from kd.types import Batch, Outputs


class OnlineDistiller(PeersDistiller):
    """M ≥ 2 nets, each taught by every other with a weight of 1 / (M − 1).

    The pairings of two nets are `student` and `peer1`; of more `student_by_peer1`,
    `student_by_peer2`, `peer1_by_student`, …

    Args:
        peers: the nets beside the student.
        **student: as `Distiller`.
    """

    def __init__(self, peers: Sequence[Peer], **student: Any) -> None:
        names = ["student", *peer_names(peers)]
        pairs = [(ours, theirs) for ours in names for theirs in names if ours != theirs]
        alone = len(names) == 2
        self._pairs = {a if alone else f"{a}_by_{b}": (a, b) for a, b in pairs}
        super().__init__(peers, **student, pairings=tuple(self._pairs))

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        return self._paired(self.outputs(batch.input), with_teacher)

    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        return self._paired({k: taps.probe(images) for k, taps in self.taps.items()}, True)

    def _paired(self, all_outputs: Mapping[str, Outputs], with_teacher: bool) -> dict[str, Pairing]:
        weight = 1 / (len(all_outputs) - 1)
        heads = {name: taps.head for name, taps in self.taps.items()}
        return {
            pairing: Pairing(
                all_outputs[ours], detached(all_outputs[theirs]) if with_teacher else None, weight,
                heads[ours], heads[theirs],
            )
            for pairing, (ours, theirs) in self._pairs.items()
        }  # fmt: skip
