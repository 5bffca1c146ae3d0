"""What a finished run leaves: its test figures, its weights, and what its teacher was and cost."""

import logging
from pathlib import Path
from typing import Any, NamedTuple, cast

from lightning import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig
from torch import Tensor

from kd.build.parts import distiller_class
from kd.callbacks.checkpoint import Checkpoints
from kd.callbacks.fit_timer import FitTimer
from kd.config.compose import plain
from kd.data.base import DataModule
from kd.distillers.base import Distiller
from kd.io.atomic import write_atomic
from kd.io.run_folder import RunFolder
from kd.io.tensors import safetensors_bytes
from kd.io.weights import read_file
from kd.metrics import class_accuracies, confusion_matrix
from kd.models.sizing import count_parameters
from kd.training.figures import draw_figures
from kd.training.teacher import AcquiredTeacher

log = logging.getLogger(__name__)

Result = dict[str, Any]


class Ready(NamedTuple):
    """All that a run is made of, checked and built."""

    data: DataModule
    trainer: Trainer
    distiller: Distiller
    acquired: AcquiredTeacher | None


def finish(cfg: DictConfig, folder: Path, ready: Ready, test: bool) -> Result:
    """Write the weights that were best on validation, and what they and the last score."""
    data, trainer, distiller, acquired = ready
    selected, seconds = _selected(trainer), _fit_seconds(trainer)
    tested = _test(trainer, distiller, data, selected, test)
    rank_zero_only(_save_weights)(distiller, folder)
    parameters = count_parameters(distiller.deployed())
    result: Result = {"val/acc": selected.score, "best_epoch": selected.epoch, **tested}
    result |= distiller.results()
    result |= {
        "student/params": parameters,
        "epochs": trainer.current_epoch,
        "fit_seconds": round(seconds, 3),
        "images_per_second": round(trainer.global_step * data.batch_size / seconds, 1),
    }
    if test and cfg.figures:
        rank_zero_only(_draw)(RunFolder(folder).figures, plain(cfg.figures), ready)
    return result | _teacher_result(cfg, data, acquired, parameters)


def _save_weights(distiller: Distiller, folder: Path) -> None:
    for name, weights in distiller.weights().items():
        write_atomic(RunFolder(folder).weights_of(name), safetensors_bytes(weights))


def _draw(folder: Path, figures: bool | list[int], ready: Ready) -> None:
    """A figure that fails does not cost a run that is finished."""
    student, acquired = ready.distiller.test_figures.confusion, ready.acquired
    if student is None or acquired is None:
        log.warning("figures show a teacher beside its student, and this run has no teacher: none")
        return
    answers = (acquired.test_logits, student, figures)
    try:
        draw_figures(folder, ready.trainer, ready.data, *answers)
    except OSError as error:
        log.warning("the figures cannot be written to %s: %s", error.filename, error.strerror)
    except Exception:
        log.exception("the figures cannot be drawn; the run is finished all the same")


class Selected(NamedTuple):
    """The checkpoint with the best validation accuracy; no weights: those of the last epoch."""

    score: float
    epoch: int
    weights: dict[str, Tensor] | None = None


def _kept(trainer: Trainer) -> Checkpoints:
    return next(c for c in trainer.checkpoint_callbacks if isinstance(c, Checkpoints))


def _fit_seconds(trainer: Trainer) -> float:
    callbacks: list[Callback] = cast(Any, trainer).callbacks
    return next(c for c in callbacks if isinstance(c, FitTimer)).time_elapsed()


def _selected(trainer: Trainer) -> Selected:
    kept = _kept(trainer)
    if kept.best_score is None:
        return Selected(trainer.callback_metrics["val/acc"].item(), trainer.current_epoch)
    weights = read_file(kept.files.best)["state_dict"]
    return Selected(kept.best_score, kept.best_epoch, weights)


def _test(
    trainer: Trainer, distiller: Distiller, data: DataModule, selected: Selected, test: bool
) -> Result:
    """Load the chosen weights; their test figures and, of the last epoch's, the accuracies."""
    last: Result = {}
    if test and selected.epoch != trainer.current_epoch:
        distiller.test_suffix = "_last"
        last = _figures(trainer, distiller, data)
        distiller.test_suffix = ""
    if selected.weights is not None:
        distiller.load_state_dict(selected.weights, strict=False)
    if not test:
        return {}
    tested = _figures(trainer, distiller, data)
    last = last or {f"{name}_last": value for name, value in tested.items()}
    confusion = distiller.test_figures.confusion
    by_class = None if confusion is None else class_accuracies(confusion)
    accuracies = {name: value for name, value in last.items() if name.endswith("/acc_last")}
    return {**tested, **accuracies, "test/acc_per_class": by_class}


def _figures(trainer: Trainer, distiller: Distiller, data: DataModule) -> Result:
    (figures,) = trainer.test(distiller, datamodule=data, verbose=False)
    if trainer.received_sigterm:  # which Lightning heeds in training only
        raise SIGTERMException
    return dict(figures)


def _teacher_result(
    cfg: DictConfig, data: DataModule, acquired: AcquiredTeacher | None, parameters: int
) -> Result:
    keys = ("teacher/test/acc", "teacher/params", "teacher/source", "teacher/seconds")
    others = ("teacher/test/acc_per_class", "teacher/outputs", "teacher/cache_seconds")
    if acquired is None:
        nothing = dict.fromkeys((*keys, "compression", *others))
        # Which of the student's peers or of its own past taught it is the mode's to say.
        who = "none" if distiller_class(cfg).teacher_kind == "pretrained" else cfg.teacher.name
        return {"teacher": who, **nothing, "teacher_forwards": 0}
    theirs = count_parameters(acquired.teacher)
    values = (acquired.test_acc, theirs, acquired.source, round(acquired.seconds, 3))
    by_class = class_accuracies(confusion_matrix(acquired.test_logits, data.test_targets))
    members: Result = {}
    if acquired.members:
        accuracies = list(acquired.members.values())
        members = {"teacher/members": [*acquired.members], "teacher/members/test/acc": accuracies}
    return {
        **dict(zip(keys, values, strict=True)),
        "teacher/test/acc_per_class": by_class,
        **members,
        "compression": round(theirs / parameters, 3),
        "teacher/outputs": acquired.teacher.output_source,
        "teacher/cache_seconds": round(acquired.teacher.seconds, 3),
        "teacher_forwards": acquired.teacher.forwards,
    }
