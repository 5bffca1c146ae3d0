"""Evaluation of a trained student: selected weights, test figures, and the files of the run."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from lightning import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig
from torch import Tensor

from kd.build.given import GivenParts
from kd.callbacks.checkpoint import Checkpoints
from kd.callbacks.fit_timer import FitTimer
from kd.config.compose import plain
from kd.data.base import DataModule
from kd.distillers.base import Distiller
from kd.io.atomic import write_atomic
from kd.io.result_file import Result
from kd.io.run_folder import RunFolder
from kd.io.tensors import safetensors_bytes
from kd.io.weights import read_file
from kd.metrics import class_accuracies
from kd.models.sizing import count_parameters
from kd.training.acquired import AcquiredTeacher
from kd.training.box_figures import box_finders, draw_boxes
from kd.training.figures import draw_figures
from kd.training.label_fit import warn_of_labels
from kd.training.limits import figures_of_limits
from kd.training.predictions import KeptAnswers
from kd.training.student_metadata import student_metadata
from kd.training.teacher_result import teacher_result

log = logging.getLogger(__name__)


class RunParts(NamedTuple):
    """The parts of a run after training, and those that its caller had given."""

    data: DataModule
    trainer: Trainer
    distiller: Distiller
    acquired: AcquiredTeacher | None
    given: GivenParts


def evaluate(cfg: DictConfig, folder: Path, parts: RunParts, test: bool) -> Result:
    """Load the weights that validation selected, write them, and measure student and teacher.

    Args:
        cfg: the run's config.
        folder: the run's folder.
        parts: the trained student and what it was trained with.
        test: False: the test set is not used.

    Returns:
        The figures of result.json.
    """
    data, trainer, distiller, acquired, given = parts
    saved, timer = saved_state(trainer), _timer(trainer)
    if not saved.stepped:  # an earlier process has trained, and was killed during its evaluation
        saved.discard_later(trainer)
    selected, seconds = _selected(trainer, distiller, data), timer.time_elapsed()
    tested = _test(trainer, distiller, data, selected, RunFolder(folder) if test else None)
    foreign = given.student is not None or cfg.student.get("checkpoint") is not None
    metadata = {"student": student_metadata(cfg, distiller, data, foreign)}
    rank_zero_only(_save_weights)(distiller, RunFolder(folder), metadata)
    if test and cfg.figures:
        rank_zero_only(_draw)(RunFolder(folder).figures, plain(cfg.figures), parts)
    parameters = count_parameters(distiller.deployed())
    monitor = distiller.task.monitor
    result = {monitor: selected.score, "best_epoch": selected.epoch, **tested}
    result |= distiller.results() | figures_of_limits(trainer, data, test)
    if not data.labels:
        result["data/labels"] = False
    result |= {
        "student/params": parameters,
        "epochs": trainer.current_epoch,
        "fit_seconds": round(seconds, 3),
        "images_per_second": round(timer.images / seconds, 1),
    }
    return cast(Result, result | teacher_result(cfg, data, acquired, parameters))


def _save_weights(
    distiller: Distiller, folder: RunFolder, metadata: Mapping[str, Mapping[str, str]]
) -> None:
    for net, weights in distiller.weights().items():
        write_atomic(folder.weights_of(net), safetensors_bytes(weights, metadata.get(net)))


def _draw(folder: Path, figures: bool | list[int], parts: RunParts) -> None:
    """Draw the figures; a failure is logged, since the run itself is complete."""
    data, trainer, distiller, acquired, _ = parts
    student = distiller.test_figures.confusion
    try:
        if distiller.task.name == "detection":
            finders = box_finders(distiller, None if acquired is None else acquired.teacher)
            draw_boxes(folder, trainer, data, finders, figures)
        elif student is None or acquired is None or acquired.test_logits is None:
            log.warning(
                "figures are not drawn: this run has no teacher to compare the student with"
            )
        else:
            draw_figures(folder, trainer, data, acquired.test_logits, student, figures)
    except OSError as error:
        log.warning("figures cannot be written to %s: %s", error.filename, error.strerror)
    except Exception:
        log.exception("figures cannot be drawn; the run is not affected")


class _Selected(NamedTuple):
    """Selecting figure, epoch (from 1) and weights of the best epoch; None: the last one's."""

    score: float
    epoch: int
    weights: dict[str, Tensor] | None = None


def saved_state(trainer: Trainer) -> Checkpoints:
    """Return the callback that saves the run's state."""
    return next(c for c in trainer.checkpoint_callbacks if isinstance(c, Checkpoints))


def _timer(trainer: Trainer) -> FitTimer:
    callbacks: list[Callback] = cast(Any, trainer).callbacks
    return next(c for c in callbacks if isinstance(c, FitTimer))


def _selected(trainer: Trainer, distiller: Distiller, data: DataModule) -> _Selected:
    """Return the best validated epoch; a run without any is validated now, at its last step."""
    saved = saved_state(trainer)
    if saved.best_score is None:  # check_val_every_n_epoch > max_epochs, or few max_steps
        (figures,) = trainer.validate(distiller, datamodule=data, verbose=False)
        return _Selected(figures[distiller.task.monitor], trainer.current_epoch)
    weights = read_file(saved.files.best)["state_dict"]
    return _Selected(saved.best_score, saved.best_epoch, weights)


def _test(
    trainer: Trainer,
    distiller: Distiller,
    data: DataModule,
    selected: _Selected,
    folder: RunFolder | None,
) -> dict[str, Any]:
    """Load the selected weights and test them; of the last epoch's, report the selecting figure.

    The predictions go to `folder`; without one there is no test.
    """
    last: dict[str, Any] = {}
    if folder is not None and selected.epoch != trainer.current_epoch:
        distiller.test_suffix = "_last"
        last = _figures(trainer, distiller, data)
        distiller.test_suffix = ""
    if selected.weights is not None:
        # Not strict: a checkpoint has no teacher. It is of this run, so that all else is there.
        distiller.load_state_dict(selected.weights, strict=False)
    distiller.merge(data.random_input(2))
    if folder is None:
        return {}
    tested = _figures(trainer, distiller, data, folder)
    last = last or {f"{name}_last": value for name, value in tested.items()}
    confusion = distiller.test_figures.confusion
    by_class = None if confusion is None else class_accuracies(confusion)
    if confusion is not None:
        rank_zero_only(warn_of_labels)(confusion, data.class_names, val_acc=selected.score)
    ending = f"/{distiller.task.selection}_last"
    figures = {**tested, **{name: value for name, value in last.items() if name.endswith(ending)}}
    return {**figures, "test/acc_per_class": by_class} if distiller.task.classifies else figures


def _figures(
    trainer: Trainer, distiller: Distiller, data: DataModule, folder: RunFolder | None = None
) -> dict[str, Any]:
    """Return the test figures; with a folder, keep a classifier's predictions in it."""
    plain_figures = distiller.test_figures
    kept = KeptAnswers(plain_figures)
    # With several devices each has a part of the test set, and the last one may repeat images.
    if folder is not None and distiller.task.classifies and trainer.world_size == 1:
        distiller.test_figures = kept
    # One dict a test loader; every process has all figures, since torchmetrics synchronises them.
    (figures,) = trainer.test(distiller, datamodule=data, verbose=False)
    distiller.test_figures = plain_figures
    if trainer.received_sigterm:  # Lightning raises this in `fit`, but not in `test`
        raise SIGTERMException
    content = kept.content()
    if folder is not None and content is not None:
        write_atomic(folder.test_predictions, content)
    return dict(figures)
