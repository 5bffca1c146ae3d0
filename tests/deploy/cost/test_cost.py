"""The cost of a net at inference."""

import torch
from torch import nn

from kd.deploy.cost.cost import measure_cost


def test_all_costs_of_a_net():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    seen = set()

    def run(images):
        assert not torch.is_grad_enabled()
        seen.add(tuple(images.shape))
        return net(images)

    cost = measure_cost(
        run, torch.zeros(3, 2, 2), parameters=65, file_bytes=300, weight_bytes=260, batches=(1, 8)
    )
    assert seen == {(1, 3, 2, 2), (8, 3, 2, 2)}
    assert (cost.parameters, cost.macs, cost.file_bytes, cost.weight_bytes) == (65, 60, 300, 260)
    assert {b: each.batch for b, each in cost.latency.items()} == {1: 1, 8: 8}
    assert cost.peak_bytes == {1: 5 * 4, 8: 8 * 5 * 4}
    assert cost.device == "cpu"
    assert cost.noisy is any(each.noisy for each in cost.latency.values())
