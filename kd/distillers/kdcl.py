"""Collaborative learning (KDCL): nets trained jointly under the ensemble of their logits.

    L = Σ_i [ CE_i + λ · T² · KL(p_e ‖ p_i) ],    p_e the ensemble's, without gradient

Guo, Wang, Wu, Yu, Liang, Hu & Luo, "Online Knowledge Distillation via Collaborative Learning",
CVPR 2020,
https://openaccess.thecvf.com/content_CVPR_2020/html/Guo_Online_Knowledge_Distillation_via_Collaborative_Learning_CVPR_2020_paper.html

Difference from the paper: there every net gets its own random distortion of an image; here all
nets run on the same view, or with `views=2` in turn on two views of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kd.distillers.ensemble_logits import ENSEMBLES
from kd.distillers.joint import PeersDistiller, peer_names
from kd.distillers.pairing import Pairing, Peer
from kd.distillers.views import check_views, views_of
from kd.types import Batch, Outputs


class KDCLDistiller(PeersDistiller):
    """M ≥ 2 nets distilled from their ensemble; the pairings are `student`, `peer1`, …

    Args:
        peers: the nets besides the student.
        ensemble: `mean`, `min_logit` or `min_loss`, see `kd.distillers.ensemble_logits`.
        views: 1, or 2: the student sees the first view of an image, `peer1` the second, and so on
            in turn.
        **student: as `Distiller`.

    Raises:
        ValueError: `ensemble` is none of these, or `views` is neither 1 nor 2.
    """

    two_views = "nets"
    available_teacher_taps = ()  # the ensemble has logits only

    def __init__(
        self,
        peers: Sequence[Peer],
        ensemble: str = "min_logit",
        views: int = 1,
        **student: Any,
    ) -> None:
        if ensemble not in ENSEMBLES:
            raise ValueError(f"ensemble must be one of {sorted(ENSEMBLES)}, got {ensemble!r}")
        super().__init__(peers, **student, pairings=("student", *peer_names(peers)))
        self.ensemble, self.views = ENSEMBLES[ensemble], check_views(views)

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        seen = views_of(batch, self.views)
        outputs = {
            name: taps.outputs(seen[number % len(seen)])
            for number, (name, taps) in enumerate(self.taps.items())
        }
        return self._paired(outputs, batch.target if with_teacher else None)

    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        target = torch.zeros(len(images), dtype=torch.int64)
        return self._paired(self.example_outputs(images), target)

    def _paired(self, outputs: Mapping[str, Outputs], target: Tensor | None) -> dict[str, Pairing]:
        teacher = None
        if target is not None:
            logits = torch.stack([out.logits.detach().float() for out in outputs.values()])
            teacher = Outputs(self.ensemble(logits, target), {})
        return {
            name: Pairing(out, teacher, student_head=self.taps[name].head)
            for name, out in outputs.items()
        }
