"""Collaborative learning against the ensemble's KL in NumPy."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import divergence, linear_net, make_distiller, random_batch, softmax

from kd.distillers.ensemble_logits import mean_logits, min_logit, min_loss
from kd.distillers.kdcl import KDCLDistiller
from kd.distillers.pairing import Peer
from kd.objectives.ce import CrossEntropy
from kd.objectives.kd import SoftTargets


def test_each_net_may_have_a_view_of_its_own():
    batch, nets = random_batch(), [linear_net(seed) for seed in (1, 2)]
    batch = batch._replace(second=batch._replace(input=-batch.input))
    options: dict[str, Any] = {"student": nets[0], "tap_paths": {}}
    options["peers"] = [Peer("linear", nets[1], {})]
    distiller = make_distiller(KDCLDistiller, {"hard": CrossEntropy()}, views=2, **options)
    terms = distiller.training_step(batch, 0)["terms"]
    for name, net, sign in (("student", nets[0], 1), ("peer1", nets[1], -1)):
        expected = F.cross_entropy(net(sign * batch.input), batch.target)
        torch.testing.assert_close(terms[f"{name}/hard"], expected.detach())
    with pytest.raises(ValueError, match="views must be 1 or 2, got 3"):
        make_distiller(KDCLDistiller, {"hard": CrossEntropy()}, views=3, **options)


@pytest.mark.parametrize(
    ("name", "join"), [("mean", mean_logits), ("min_logit", min_logit), ("min_loss", min_loss)]
)
def test_every_net_is_distilled_from_the_ensemble(name, join):
    batch, nets = random_batch(), [linear_net(seed) for seed in (1, 2, 3)]
    objectives = {"hard": CrossEntropy(), "soft": SoftTargets(2.0)}
    peers = [Peer("linear", net, {}) for net in nets[1:]]
    options = {"student": nets[0], "tap_paths": {}, "peers": peers, "ensemble": name}
    distiller = make_distiller(KDCLDistiller, objectives, **options)
    terms = distiller.training_step(batch, 0)["terms"]
    logits = torch.stack([net(batch.input).detach() for net in nets])
    teacher = softmax(join(logits, batch.target).numpy() / 2)
    for pairing, ours in zip(("student", "peer1", "peer2"), logits, strict=True):
        kl = 4 * divergence(teacher, softmax(ours.numpy() / 2))
        assert terms[f"{pairing}/soft"].item() == pytest.approx(kl, rel=1e-4)
        hard = F.cross_entropy(ours, batch.target).item()
        assert terms[f"{pairing}/hard"].item() == pytest.approx(hard, rel=1e-5)
