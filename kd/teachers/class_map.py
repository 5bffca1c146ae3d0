"""Selection of a teacher's logits, for a student that knows some of the teacher's classes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ClassMap(nn.Module):
    """Logits of the teacher's classes [B, K_t] -> logits of the student's classes [B, K].

    Softmax over the selected logits is the teacher's distribution given that the class is one of
    the student's: its probabilities, divided by their sum.

    Args:
        classes: the teacher's class of each of the student's [K].

    Example:
        >>> select = ClassMap([2, 0])
        >>> select(torch.tensor([[0.1, 0.2, 0.3]]))
        tensor([[0.3000, 0.1000]])
    """

    classes: Tensor

    def __init__(self, classes: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("classes", torch.tensor(classes), persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        return logits.index_select(1, self.classes)

    @torch.no_grad()
    def head(self, head: nn.Module) -> nn.Module:
        """Return a head that makes the selected logits of the same embedding.

        A linear layer stays one, with some of its rows, so that methods which read its weight do.
        """
        if not isinstance(head, nn.Linear):
            return nn.Sequential(head, self)
        rows = self.classes.to(head.weight.device)
        selected = nn.Linear(
            *(head.in_features, len(rows), head.bias is not None),
            device=head.weight.device,
            dtype=head.weight.dtype,
        )
        selected.weight.copy_(head.weight[rows])
        if head.bias is not None:
            selected.bias.copy_(head.bias[rows])
        return selected.requires_grad_(False)
