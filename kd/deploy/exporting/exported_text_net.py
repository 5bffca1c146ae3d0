"""The exported module of a student of texts, which takes token ids."""

from typing import Any

import torch
from torch import Tensor, nn

from kd.deploy.exporting.exported_net import ExportedModule


class ExportedTextNet(ExportedModule):
    """Token ids int64 [B, L] -> float32 logits [B, K] of temperature 1.

    Texts become token ids outside the graph: no runtime of graphs has the tokenizers of Python.

    Args:
        net: token ids [B, L] -> logits [B, K].
        max_length: the largest L.
        dtype: of the net's arithmetic.

    Example:
        >>> net = ExportedTextNet(nn.EmbeddingBag(9, 2), max_length=5)
        >>> net(torch.zeros(3, 4, dtype=torch.int64)).shape
        torch.Size([3, 2])
    """

    input_name = "ids"

    def __init__(self, net: nn.Module, max_length: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.net, self.max_length = net.to(dtype), max_length
        self.eval()

    def dynamic_sizes(self, batch: object) -> dict[int, Any]:
        return {0: batch, 1: torch.export.Dim("length", min=1, max=self.max_length)}

    def forward(self, ids: Tensor) -> Any:
        return self.net(ids).float()
