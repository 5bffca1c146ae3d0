"""Collaborative learning: nets that learn together are taught by what they make jointly.

    L = Σ_i [ CE_i + λ · T² · KL(p_e ‖ p_i) ],    p_e the ensemble's, without gradient

Guo, Wang, Wu, Yu, Liang, Hu & Luo, "Online Knowledge Distillation via Collaborative Learning",
2020 (KDCL). The paper shows every net another distortion of the image; here all see the same view.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kd.distillers.ensemble_logits import ENSEMBLES
from kd.distillers.pairing import Pairing, Peer
from kd.distillers.peers import PeersDistiller, peer_names
from kd.types import Batch, Outputs


class KDCLDistiller(PeersDistiller):
    """M ≥ 2 nets under the logits of their ensemble; the pairings are `student`, `peer1`, …

    Args:
        peers: the nets beside the student.
        ensemble: `mean`, `min_logit` or `min_loss`, see `kd.distillers.ensemble_logits`.
        **student: as `Distiller`.
    """

    available_teacher_taps = ()

    def __init__(self, peers: Sequence[Peer], ensemble: str = "min_logit", **student: Any) -> None:
        if ensemble not in ENSEMBLES:
            raise ValueError(f"ensemble must be one of {sorted(ENSEMBLES)}, got {ensemble!r}")
        super().__init__(peers, **student, pairings=("student", *peer_names(peers)))
        self.ensemble = ENSEMBLES[ensemble]

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        return self._joined(self.outputs(batch.input), batch.target if with_teacher else None)

    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        all_outputs = {name: taps.probe(images) for name, taps in self.taps.items()}
        return self._joined(all_outputs, torch.zeros(len(images), dtype=torch.int64))

    def _joined(
        self, all_outputs: Mapping[str, Outputs], target: Tensor | None
    ) -> dict[str, Pairing]:
        teacher = None
        if target is not None:
            logits = torch.stack(
                [outputs.logits.detach().float() for outputs in all_outputs.values()]
            )
            teacher = Outputs(self.ensemble(logits, target), {})
        return {
            name: Pairing(outputs, teacher, student_head=self.taps[name].head)
            for name, outputs in all_outputs.items()
        }
