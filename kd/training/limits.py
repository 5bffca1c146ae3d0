"""Parts of the splits that a limited run uses: `trainer.limit_test_batches` and the like."""

import logging
from typing import Any, NamedTuple

from lightning import Trainer

from kd.data.base import DataModule
from kd.data.external_source import has_length
from kd.tasks import task_named

log = logging.getLogger(__name__)
_USES = {
    "train": "",
    "val": "the epoch is chosen by",
    "test": "the student's test figures are those of",
}


class Part(NamedTuple):
    """Images of a split that are used; None: unknown.

    Attributes:
        images: number of the images used.
        total: number of all.
        limited: whether some are left out because of a setting of the trainer.
    """

    images: int | None
    total: int | None
    limited: bool


def parts_used(trainer: Trainer, data: DataModule) -> dict[str, Part]:
    """Return the part of each split that the trainer's limits leave.

    Args:
        trainer: its `fast_dev_run` and `overfit_batches` have set the limits as well.
        data: the data, set up.
    """
    return {split: _part(trainer, data, split) for split in _USES}


def _part(trainer: Trainer, data: DataModule, split: str) -> Part:
    limit = getattr(trainer, f"limit_{split}_batches")
    total = data.num_samples.get(split)
    if isinstance(limit, float) and limit == 1.0:
        return Part(total, total, False)
    loader: Any = getattr(data, f"{split}_dataloader")()
    if not has_length(loader):
        return Part(None, total, True)
    batches = len(loader)
    used = int(limit * batches) if isinstance(limit, float) else min(limit, batches)
    limited = used < batches or bool(getattr(trainer, "fast_dev_run", False))
    size = getattr(loader, "batch_size", None)
    if total is None or size is None:
        return Part(None, total, limited)
    return Part(min(used * size, total) if used < batches else total, total, limited)


def figures_of_limits(trainer: Trainer, data: DataModule, test: bool) -> dict[str, Any]:
    """Return the entries of result.json.

    Args:
        trainer: with its limits.
        data: the run's data.
        test: False: the test set is not used.
    """
    parts = {k: part for k, part in parts_used(trainer, data).items() if test or k != "test"}
    limited = [split for split, part in parts.items() if part.limited]
    return {f"{k}/images": part.images for k, part in parts.items()} | {"limited": limited}


def warn_of_limits(trainer: Trainer, data: DataModule) -> None:
    """Warn, before anything is trained, of a validation or test set that is used in part."""
    for split, part in parts_used(trainer, data).items():
        partly = part.images is None or part.images != part.total
        if split == "train" and trainer.fast_dev_run:  # type: ignore[attr-defined]
            log.warning("trainer.fast_dev_run: its figures compare with those of no other run")
        elif part.limited and partly and split != "train":
            log.warning(
                "%s: %s the first %s of %s images%s; such figures compare with no others",
                *(_setting(trainer, split), _USES[split], part.images or "few"),
                *(part.total or "all", _classes(data, split, part.images)),
            )


def _setting(trainer: Trainer, split: str) -> str:
    options: Any = trainer
    if options.fast_dev_run:
        return f"trainer.fast_dev_run={options.fast_dev_run}"
    if options.overfit_batches and split != "test":
        return f"trainer.overfit_batches={options.overfit_batches}"
    return f"trainer.limit_{split}_batches={getattr(options, f'limit_{split}_batches')}"


def _classes(data: DataModule, split: str, images: int | None) -> str:
    """How many classes the first test images are of: a sorted test set is no fair sample."""
    classifies = task_named(data.task).classifies
    if split != "test" or data.limits.images or images is None or not classifies:
        return ""
    found = len(data.test_targets[:images].unique())
    return "" if found == data.num_classes else f", of {found} of {data.num_classes} classes only"
