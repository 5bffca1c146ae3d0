"""Base class of the data modules whose images have boxes of objects."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from kd.data.arrays import Arrays
from kd.data.datamodule import ImageDataModule
from kd.data.splits import Split
from kd.data.views import Identity

log = logging.getLogger(__name__)
_NAMED = 10  # classes in a message


class DetectionDataModule(ImageDataModule):
    """Images in memory, with boxes; a subclass implements `load`.

    Targets are rows (class, x1, y1, x2, y2) in pixels of the image, float32 [N, M, 5]; rows of
    class −1 are padding. An image without boxes is allowed. Images are seen as they are: a view or
    an augmentation would have to change the boxes as well. Teacher outputs are therefore cached in
    one view.

    Args:
        **common: as `ImageDataModule`; `view` can only be `Identity`, `augment` only None.

    Raises:
        ValueError: there is another view, an augmentation, or a class is left out.
    """

    task: ClassVar[str] = "detection"

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        if not isinstance(self.view, Identity) or self.augment is not None:
            changed = type(self.view if self.augment is None else self.augment).__name__
            raise ValueError(
                f"{changed} changes images and not their boxes; detection takes data/view=none and "
                "data/augment=null"
            )
        if self.leave_out is not None:
            raise ValueError("leave_out is for classifiers: an image has boxes of many classes")

    def array_problems(self, arrays: Arrays) -> list[str]:
        found = []
        targets = {"training": arrays.train_targets, "test": arrays.test_targets}
        if arrays.val_targets is not None:
            targets["validation"] = arrays.val_targets
        for split, rows in targets.items():
            if not len(rows):
                found.append(f"no {split} image")
            elif not (rows[..., 0] >= 0).any():
                found.append(f"no {split} image has a box")
        return found

    def make_split(self, arrays: Arrays, fraction: float) -> Split:
        one_class = torch.zeros(len(arrays.train_targets), dtype=torch.int64)
        return super().make_split(arrays._replace(train_targets=one_class), fraction)

    def warn_of_evaluation(self, arrays: Arrays, val_targets: Tensor) -> None:
        splits = {"training": arrays.train_targets, "validation": val_targets}
        for split, rows in {**splits, "test": arrays.test_targets}.items():
            if missing := _missing(rows, arrays.class_names):
                shown = ", ".join(missing[:_NAMED]) + (", …" if len(missing) > _NAMED else "")
                log.warning(
                    "data %r: %d of %d classes have no %s box (%s): %s",
                    *(self.name, len(missing), len(arrays.class_names), split, shown),
                    "they cannot be learnt" if split == "training" else "mAP is that of the others",
                )


def _missing(rows: Tensor, names: list[str]) -> list[str]:
    labels = rows[..., 0].flatten().long().cpu()
    counts = torch.bincount(labels[labels >= 0], minlength=len(names)).tolist()
    return [name for name, count in zip(names, counts, strict=True) if not count]


def padded_rows(boxes: Sequence[np.ndarray], most: int | None = None) -> Tensor:
    """One tensor of the boxes of many images.

    Args:
        boxes: rows (class, x1, y1, x2, y2) [m, 5] of each of N images.
        most: M; None: that of the image with the most boxes, at least 1.

    Returns:
        float32 [N, M, 5]; missing rows are −1.

    Example:
        >>> padded_rows([np.array([[0.0, 1, 2, 3, 4]]), np.zeros((0, 5))]).tolist()
        [[[0.0, 1.0, 2.0, 3.0, 4.0]], [[-1.0, -1.0, -1.0, -1.0, -1.0]]]
    """
    most = max([1, *map(len, boxes)]) if most is None else most
    rows = np.full((len(boxes), most, 5), -1.0, dtype=np.float32)
    for place, found in zip(rows, boxes, strict=True):
        place[: len(found)] = found
    return torch.from_numpy(rows)
