"""Logits and embeddings of a net over the validation or the test set of a data module."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from kd.data.base import DataModule
from kd.data.datamodule import ImageDataModule
from kd.data.loader import TensorLoader
from kd.deploy.live_teacher import LiveTeacher
from kd.deploy.student import Student
from kd.errors import UserError
from kd.taps import Taps
from kd.teachers.renormalise import Renormalise
from kd.training.acquired import AcquiredTeacher
from kd.types import Batch, Outputs

EMBEDDING = "embedding"
Net = Student | LiveTeacher
Split = Literal["val", "test"]


@dataclass(frozen=True)
class Predictions:
    """Outputs of a net on a split, in its order, on the CPU.

    Attributes:
        logits: at temperature 1 [N, K], float32.
        targets: labels [N], int64.
        embeddings: the tap `embedding`, flattened [N, D], float32; None: the net has no such tap.

    Raises:
        UserError: no images, labels that are no class of the net, or logits that are not finite.
    """

    logits: Tensor
    targets: Tensor
    embeddings: Tensor | None = None

    def __post_init__(self) -> None:
        check_logits(self.logits, self.targets)


def check_logits(logits: Tensor, targets: Tensor) -> None:
    """Refuse logits and labels of which no figure can be computed.

    Args:
        logits: [N, K].
        targets: [N].

    Raises:
        UserError: no images, labels that are no class of the net, or logits that are not finite.

    Example:
        >>> check_logits(torch.tensor([[0.0, 1.0]]), torch.tensor([2]))
        Traceback (most recent call last):
        kd.errors.UserError: the net predicts 2 classes, and the labels are 2..2
    """
    if logits.dim() != 2 or targets.shape != logits.shape[:1] or not len(targets):
        shapes = f"{list(logits.shape)} and {list(targets.shape)}"
        raise UserError(f"logits [N, K] and labels [N] of at least one image needed, got {shapes}")
    classes = logits.shape[1]
    if classes < 2 or targets.min() < 0 or targets.max() >= classes:
        labels = f"{int(targets.min())}..{int(targets.max())}"
        raise UserError(f"the net predicts {classes} classes, and the labels are {labels}")
    broken = int((~logits.isfinite().all(1)).sum())
    if broken:
        raise UserError(
            f"the logits of {broken} of {len(logits)} images are not finite: the net has diverged, "
            "its weights are damaged, or it needs a wider number type"
        )


def predict(net: Net, data: DataModule, split: Split = "test") -> Predictions:
    """Run a net over a split, in eval mode and without gradients, on the net's device.

    Images that lie in memory as uint8 go through the net's own preprocessing. Those of other data
    modules are normalised by them; if the net was trained with another mean and std, they are
    converted.

    Args:
        net: a student, or `LiveTeacher(run.teacher.teacher, run.data.normalisation)`.
        data: the run's data or another data module of the same classes, set up.
        split: `val` or `test`.

    Raises:
        UserError: the net does not take images of that shape, has another number of classes, or
            returns logits that are not finite.
    """
    net.eval()
    paths = {name: path for name, path in net.taps.items() if name == EMBEDDING}
    taps = Taps(net, paths, paths)
    targets: list[Tensor] = []
    parts: list[Outputs] = []
    try:
        for images, target in samples(net, data, split):
            if not parts:
                _check_fits(taps, images, data)
            parts.append(_outputs(taps, images))
            targets.append(target.cpu())
    finally:
        taps.keep(())  # removes the hooks
    if not parts:
        raise UserError(f"data {data.name!r} has no images in its {split} set")
    embeddings = torch.cat([part.taps[EMBEDDING] for part in parts]) if paths else None
    return Predictions(torch.cat([part.logits for part in parts]), torch.cat(targets), embeddings)


def teacher_predictions(
    acquired: AcquiredTeacher, own: DataModule, data: DataModule, split: Split = "test"
) -> Predictions:
    """Run a run's teacher over a split.

    On the run's own test set the logits are those that the run has tested, which may have been read
    from the cache of teacher outputs.

    Args:
        acquired: the teacher of a run.
        own: the data of that run, whose normalisation the teacher expects.
        data: the data to predict, `own` or others.
        split: `val` or `test`.

    Raises:
        UserError: as `predict`.
    """
    live = LiveTeacher(acquired.teacher, own.normalisation)
    if data is own and split == "test" and acquired.test_logits is not None:
        embeddings = predict(live, data).embeddings if live.taps else None
        return Predictions(acquired.test_logits, data.test_targets, embeddings)
    return predict(live, data, split)


def raw_test_images(data: DataModule) -> Tensor:
    """Return the test images as uint8 [N, C, H, W].

    Raises:
        UserError: they are not in memory, or not as uint8.
    """
    if isinstance(data, ImageDataModule):
        return data.arrays.test_inputs
    reason = data.limits.images or "its test images are not held as uint8"
    raise UserError(f"data {data.name!r} has no raw test images: {reason}")


def samples(net: Net, data: DataModule, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images or token ids as the net takes them, and their targets."""
    loader: Iterable[Batch] = data.val_dataloader() if split == "val" else data.test_dataloader()
    device = next(net.parameters()).device
    raw = isinstance(loader, TensorLoader) and net.normalisation is not None
    convert = None if raw else _conversion(net, data)
    for batch in loader:
        if raw:
            images = cast(TensorLoader, loader).inputs.index_select(0, batch.index)
        else:
            images = batch.input if convert is None else convert(batch.input)
        yield images.to(device), batch.target


def _conversion(net: Net, data: DataModule) -> Renormalise | None:
    """Return what turns the data's floats into those that the net was trained on."""
    given: Any = data.normalisation
    wanted: Any = net.normalisation
    if given is None or wanted is None or all(map(_same, given, wanted)):
        return None
    return Renormalise(given, wanted)


def _same(given: Iterable[float], wanted: Iterable[float]) -> bool:
    return list(given) == list(wanted)


@torch.no_grad()
def _outputs(taps: Taps, images: Tensor) -> Outputs:
    """Return logits [B, K] and flat embeddings [B, D] on the CPU, float32."""
    logits, tapped = taps.outputs(images)
    flat = {name: tap.flatten(1).float().cpu() for name, tap in tapped.items()}
    return Outputs(logits.float().cpu(), flat)


def _check_fits(taps: Taps, images: Tensor, data: DataModule) -> None:
    """Run the net on the first images; find taps that an in-place operation overwrites."""
    try:
        classes = taps.probe(images[:2]).logits.shape[1]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # of torch, for shapes that do not fit
        shape = " x ".join(map(str, images.shape[1:]))
        reason = str(error).split("\n")[0]
        raise UserError(
            f"the net does not take images of data {data.name!r}, {shape}: {reason}"
        ) from None
    if classes != data.num_classes:
        raise UserError(
            f"data {data.name!r} has {data.num_classes} classes, and the net predicts {classes}"
        )
