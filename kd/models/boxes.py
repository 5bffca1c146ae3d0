"""Boxes of detectors: codings, targets and the suppression of duplicates.

Boxes are (x1, y1, x2, y2) in pixels of the image that the net receives. A target is one tensor
[B, M, 5] of rows (class, x1, y1, x2, y2); rows of class −1 are padding.
"""

import math
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_LOG_SIDE = math.log(1000.0)  # a predicted side is at most 1 000 times its anchor's


class Detections(TypedDict):
    """What a net finds in one image: boxes [n, 4], scores [n] in [0, 1], labels [n] int64."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class Labelled(TypedDict):
    """The true boxes [n, 4] of one image and their labels [n] int64."""

    boxes: Tensor
    labels: Tensor


def labelled(target: Tensor, first_label: int = 0) -> list[Labelled]:
    """Split a target [B, M, 5] into the boxes and labels of each image, without padding.

    Args:
        target: [B, M, 5]; rows of class −1 are padding.
        first_label: number of the first class: 1 for nets whose class 0 is the background.

    Example:
        >>> rows = torch.tensor([[[2.0, 0, 0, 4, 4], [-1, 0, 0, 0, 0]]])
        >>> labelled(rows)[0]["labels"].tolist(), labelled(rows)[0]["boxes"].tolist()
        ([2], [[0.0, 0.0, 4.0, 4.0]])
    """
    found: list[Labelled] = []
    for rows in target:
        rows = rows[rows[:, 0] >= 0]
        found.append({"boxes": rows[:, 1:].float(), "labels": rows[:, 0].long() + first_label})
    return found


def from_distances(distances: Tensor, centres: Tensor) -> Tensor:
    """Boxes [B, N, 4] from distances [B, N, 4] to left, top, right and bottom of places [N, 2].

    Example:
        >>> from_distances(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.tensor([[10.0, 10.0]]))
        tensor([[[ 9.,  8., 13., 14.]]])
    """
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)


def from_deltas(deltas: Tensor, anchors: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Boxes [B, N, 4] from shifts and log-sizes [B, N, 4] relative to anchors [N, 4].

    Girshick et al. 2014, https://arxiv.org/abs/1311.2524, appendix C.

    Args:
        deltas: (dx, dy, dw, dh) times `weights`.
        anchors: boxes.
        weights: four factors of the coding.
    """
    shift, size = (deltas / deltas.new_tensor(weights)).split(2, dim=-1)
    sides = anchors[..., 2:] - anchors[..., :2]
    centres = anchors[..., :2] + sides / 2 + shift * sides
    half = sides * size.clamp(max=MAX_LOG_SIDE).exp() / 2
    return torch.cat([centres - half, centres + half], dim=-1)


def log_odds(log_probability: Tensor) -> Tensor:
    """log p − log(1 − p) from log p, finite for p = 1 and p = 0.

    Example:
        >>> log_odds(torch.tensor([0.5]).log())
        tensor([0.])
    """
    bounded = log_probability.clamp(-80.0, -1e-6)
    return bounded - torch.log(-torch.expm1(bounded))


def without_duplicates(
    boxes: Tensor, scores: Tensor, *, threshold: float, max_iou: float, most: int
) -> Detections:
    """Keep the best of overlapping boxes of each class: greedy non-maximum suppression.

    Args:
        boxes: [N, 4].
        scores: [N, K]; every pair of place and class is a candidate.
        threshold: smallest score of a candidate.
        max_iou: a box that overlaps a better one of its class by more is dropped.
        most: number of boxes kept at most; ten times as many are candidates at most.

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 7], [20, 20, 30, 30]])
        >>> scores = torch.tensor([[0.9], [0.8], [0.3]])
        >>> without_duplicates(boxes, scores, threshold=0.1, max_iou=0.5, most=9)["scores"]
        tensor([0.9000, 0.3000])
    """
    from torchvision.ops import batched_nms

    flat, classes = scores.flatten(), scores.shape[1]
    best, order = flat.topk(min(10 * most, flat.numel()))
    order = order[best > threshold]
    place, label = order // classes, order % classes
    kept = batched_nms(boxes[place], flat[order], label, max_iou)[:most]
    return {"boxes": boxes[place[kept]], "scores": flat[order[kept]], "labels": label[kept]}


def pad_last(rows: Tensor, length: int, value: float) -> Tensor:
    """Fill rows [n, D] up to `length` with `value`: [length, D]."""
    return F.pad(rows, (0, 0, 0, length - len(rows)), value=value)
