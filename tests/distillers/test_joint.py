"""Jointly trained nets: no gradients between them, one optimizer group and norm for each."""

from typing import Any

import pytest
import torch
from support import linear_net, make_distiller, random_batch

from kd.distillers.kdcl import KDCLDistiller
from kd.distillers.online import OnlineDistiller
from kd.distillers.pairing import Peer
from kd.objectives.ce import CrossEntropy
from kd.objectives.kd import SoftTargets


def two_nets(mode):
    nets = [linear_net(1), linear_net(2)]
    objectives = {"hard": CrossEntropy(), "soft": SoftTargets(1.0)}
    peers = [Peer("linear", nets[1], {})]
    distiller = make_distiller(
        mode, objectives, momentum=0.9, student=nets[0], tap_paths={}, peers=peers
    )
    return distiller, nets


@pytest.mark.parametrize("mode", [OnlineDistiller, KDCLDistiller])
def test_no_net_gets_gradients_from_another_ones_loss(mode):
    distiller, nets = two_nets(mode)
    distiller.training_step(random_batch(), 0)
    for name, net in zip(("student", "peer1"), nets, strict=True):
        own = [v for term, (_, v) in distiller.weighted.items() if term.startswith(f"{name}/")]
        other = nets[1] if net is nets[0] else nets[0]
        assert len(own) == 2
        reached: Any = torch.autograd.grad(sum(own), [*other.parameters()], allow_unused=True)
        assert reached == (None, None)
        assert all(g.abs().sum() > 0 for g in torch.autograd.grad(sum(own), [*net.parameters()]))


def test_each_net_has_an_optimizer_group_and_is_clipped_by_its_own_norm():
    distiller, _ = two_nets(OnlineDistiller)
    optimizer = distiller.configure_optimizers()["optimizer"]
    assert [group["name"] for group in optimizer.param_groups] == ["student", "peer1"]
    parts = distiller.student, distiller.peers["peer1"]
    for factor, net in zip((1.0, 1000.0), parts, strict=True):
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, factor)
    distiller.configure_gradient_clipping(optimizer, 0.5)
    for group in optimizer.param_groups:
        norm = sum(p.grad.square().sum() for p in group["params"]).sqrt()
        assert norm.item() == pytest.approx(0.5, rel=1e-4)
