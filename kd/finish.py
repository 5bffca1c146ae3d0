"""What a finished run leaves: its test figures, its weights, and what its teacher was and cost."""

from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from safetensors.torch import save_file

from kd.acquire import Teaching
from kd.build import distiller_class
from kd.data.module import ImageDataModule
from kd.distillers.base import Distiller
from kd.results import count_parameters
from kd.teachers.checkpoint import WEIGHTS

Result = dict[str, Any]


def finish(
    cfg: DictConfig,
    folder: Path,
    data: ImageDataModule,
    trainer: Trainer,
    distiller: Distiller,
    teaching: Teaching | None,
    seconds: float,
    test: bool,
) -> Result:
    """Test the weights that were best on validation, once, and write the student's weights."""
    selected = _load_selected(trainer, distiller)
    (tested,) = trainer.test(distiller, datamodule=data, verbose=False) if test else ({},)
    rank_zero_only(_save_weights)(distiller, folder)
    parameters = count_parameters(distiller.deployed())
    result: Result = {"val/acc": selected[0], "best_epoch": selected[1], **tested}
    result |= distiller.results()
    result |= {
        "student/params": parameters,
        "epochs": trainer.current_epoch,
        "fit_seconds": round(seconds, 3),
        "images_per_second": round(trainer.global_step * data.batch_size / seconds, 1),
    }
    return result | _teacher_result(cfg, teaching, parameters)


def _save_weights(distiller: Distiller, folder: Path) -> None:
    for name, weights in distiller.weights().items():
        file = (folder / WEIGHTS).with_stem(name)
        save_file({k: v.contiguous().cpu() for k, v in weights.items()}, file)


def _load_selected(trainer: Trainer, distiller: Distiller) -> tuple[float, int]:
    """Load the checkpoint with the best validation accuracy; return the accuracy and its epoch."""
    keeper = trainer.checkpoint_callback
    if not isinstance(keeper, ModelCheckpoint) or keeper.best_model_score is None:
        return trainer.callback_metrics["val/acc"].item(), trainer.current_epoch
    checkpoint = torch.load(keeper.best_model_path, map_location="cpu", weights_only=True)
    distiller.load_state_dict(checkpoint["state_dict"], strict=False)
    return keeper.best_model_score.item(), checkpoint["epoch"] + 1


def _teacher_result(cfg: DictConfig, teaching: Teaching | None, parameters: int) -> Result:
    keys = ("teacher/test/acc", "teacher/params", "teacher/source", "teacher/seconds")
    if teaching is None:
        nothing = dict.fromkeys((*keys, "compression", "teacher/answers", "teacher/cache_seconds"))
        # Which of the student's peers or of its own past taught it is the mode's to say.
        who = "none" if distiller_class(cfg).taught_by == "teacher" else cfg.teacher.name
        return {"teacher": who, **nothing, "teacher_forwards": 0}
    theirs = count_parameters(teaching.teacher)
    values = (teaching.test_acc, theirs, teaching.source, round(teaching.seconds, 3))
    members: Result = {}
    if teaching.members:
        accuracies = list(teaching.members.values())
        members = {"teacher/members": [*teaching.members], "teacher/members/test/acc": accuracies}
    return {
        **dict(zip(keys, values, strict=True)),
        **members,
        "compression": round(theirs / parameters, 3),
        "teacher/answers": teaching.teacher.answers,
        "teacher/cache_seconds": round(teaching.teacher.seconds, 3),
        "teacher_forwards": teaching.teacher.forwards,
    }
