"""Predictors of boxes: a run, a weights file or an exported model, all with one interface."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kd.data.decode import Target, letterbox_size, stored_size
from kd.deploy.box_student import BoxStudent
from kd.deploy.runtimes.base import ModelFile
from kd.deploy.suppression import Suppression
from kd.errors import UserError

Images = NDArray[np.uint8]
Boxes = NDArray[np.float32]


class FoundBox(NamedTuple):
    """A box (x1, y1, x2, y2) in pixels of the image file as it is stored, its class and score."""

    label: int
    score: float
    corners: tuple[float, float, float, float]


class FoundBoxes(NamedTuple):
    """The boxes of one image file, the best first."""

    image: Path
    boxes: list[FoundBox]


@dataclass(frozen=True)
class BoxPredictor:
    """A detector of raw images.

    Attributes:
        source: its run or file, for messages.
        class_names: names of the K classes.
        channels: of its images.
        size: height and width of its images.
        suppression: what chooses among its boxes.
        boxes: uint8 images [B, C, S, S] -> boxes [B, N, 4] and scores [B, N, K].
    """

    source: str
    class_names: Sequence[str]
    channels: int
    size: int
    suppression: Suppression
    boxes: Callable[[Images], tuple[Boxes, Boxes]]

    def target(self, max_megapixels: float) -> Target:
        """Return the form of the images that it takes."""
        return Target(self.size, self.channels == 1, max_megapixels, letterbox=True)

    def found(
        self, batches: Iterable[tuple[list[Path], Images]], min_score: float
    ) -> Iterator[FoundBoxes]:
        """Yield the boxes of each image.

        Args:
            batches: files and their images [b, C, S, S].
            min_score: boxes of a lower score are left out.

        Raises:
            UserError: the model gives an image boxes that are no numbers.
        """
        for paths, images in batches:
            boxes, scores = self.boxes(images)
            if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
                raise UserError(f"{self.source} gives {paths[0]} boxes that are no numbers")
            kept = self.suppression(torch.from_numpy(boxes), torch.from_numpy(scores))
            for path, each in zip(paths, kept, strict=True):
                width, height = self._factors(path)
                factors = torch.tensor([width, height, width, height])
                rows = zip(
                    each["labels"].tolist(),
                    each["scores"].tolist(),
                    (each["boxes"] * factors).tolist(),
                    strict=True,
                )
                found = [FoundBox(label, score, tuple(row)) for label, score, row in rows]
                yield FoundBoxes(path, [box for box in found if box.score >= min_score])

    def _factors(self, path: Path) -> tuple[float, float]:
        """Pixels of the stored image for one of the net's, across and down."""
        whole = stored_size(path)
        scaled = letterbox_size(whole, self.size)
        return whole[0] / scaled[0], whole[1] / scaled[1]


def of_box_student(student: BoxStudent, source: str) -> BoxPredictor:
    """Return the predictor of a loaded student, whose normalisation is known."""
    about = student.metadata
    assert about is not None  # it names the task
    channels = about["channels"]
    assert channels is not None  # images have some

    def boxes(images: Images) -> tuple[Boxes, Boxes]:
        found, scores = student.decoded(torch.from_numpy(images))
        return found.cpu().numpy(), scores.cpu().numpy()

    settings = Suppression.of(student.detector)
    size = student.detector.image_size
    return BoxPredictor(source, student.class_names, channels, size, settings, boxes)


def of_box_file(model: ModelFile, source: str) -> BoxPredictor:
    """Return the predictor of an exported model."""
    about = model.description
    assert about is not None  # it names the task
    channels, (size, width) = about["channels"], about["input_size"]
    if size != width or channels is None:
        raise UserError(f"{source}: a detector takes square images, and its file says {about}")
    settings = Suppression.described(about)
    return BoxPredictor(source, about["class_names"], channels, size, settings, model.boxes)


def tried(predictor: BoxPredictor) -> BoxPredictor:
    """Refuse a model that does not take the images, or give the boxes, that its file says.

    Raises:
        UserError: it does not.
    """
    shape = (1, predictor.channels, predictor.size, predictor.size)
    said = " x ".join(map(str, shape[1:]))
    try:
        boxes, scores = (found.shape for found in predictor.boxes(np.zeros(shape, np.uint8)))
    except UserError:
        raise
    except Exception as error:  # of torch, onnxruntime or any other runtime
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{predictor.source}: it does not take images of {said}, as its file says: {reason}"
        ) from None
    if boxes != (1, boxes[1], 4) or scores != (1, boxes[1], len(predictor.class_names)):
        raise UserError(
            f"{predictor.source}: an image gives outputs of shape {list(boxes)} and {list(scores)},"
            f" which are no boxes of the {len(predictor.class_names)} classes that its file names"
        )
    return predictor
