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
from kd.distillers.pairing import Lesson, Peer
from kd.distillers.peers import Peers, peer_names
from kd.types import Batch, Trace


class CollaborativeDistiller(Peers):
    """M ≥ 2 nets under the logits of their ensemble; the lessons are `student`, `peer1`, …

    Args:
        peers: the nets beside the student.
        ensemble: `mean`, `min_logit` or `min_loss`, see `kd.distillers.ensemble_logits`.
        **student: as `Distiller`.
    """

    offers = ()

    def __init__(self, peers: Sequence[Peer], ensemble: str = "min_logit", **student: Any) -> None:
        if ensemble not in ENSEMBLES:
            raise ValueError(f"ensemble must be one of {sorted(ENSEMBLES)}, got {ensemble!r}")
        super().__init__(peers, **student, lessons=("student", *peer_names(peers)))
        self.ensemble = ENSEMBLES[ensemble]

    def lessons(self, batch: Batch, taught: bool) -> dict[str, Lesson]:
        return self._joined(self.trace(batch.input), batch.target if taught else None)

    def probe(self, images: Tensor) -> dict[str, Lesson]:
        traces = {name: taps.probe(images) for name, taps in self.taps.items()}
        return self._joined(traces, torch.zeros(len(images), dtype=torch.int64))

    def _joined(self, traces: Mapping[str, Trace], target: Tensor | None) -> dict[str, Lesson]:
        teacher = None
        if target is not None:
            logits = torch.stack([trace.logits.detach().float() for trace in traces.values()])
            teacher = Trace(self.ensemble(logits, target), {})
        return {
            name: Lesson(trace, teacher, student_head=self.taps[name].head)
            for name, trace in traces.items()
        }
