"""A teacher's own training: its config, its data, and its key in the registry."""

import copy
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from kd.config.compose import plain
from kd.config.identity import content_hash
from kd.data.base import DataModule

# As in configs without these keys: no part of this net trains apart from the others.
_NO_UPDATE = {"update": None, "update_loss": "both", "update_lr": None}
# Device and progress bar do not change which teacher is trained.
_NOT_IN_KEY = ("accelerator", "devices", "enable_progress_bar")


def teacher_key(cfg: DictConfig, data: DataModule) -> str:
    """Return the registry's name of a teacher: net, data, views and training, hashed."""
    training = plain(cfg.teacher.training)
    training["trainer"] = {k: v for k, v in training["trainer"].items() if k not in _NOT_IN_KEY}
    content = {
        "net": plain(cfg.teacher.net),
        "data": data.fingerprint,
        "view": plain(cfg.data.get("view")),
        "training": training,
    }
    if cfg.teacher.epoch is not None:
        # All epochs of one training share an entry, and it is not that of a training without
        # `keep_epochs`, which has the last weights only.
        content["epochs"] = "kept"
    return f"{cfg.teacher.name}-{cfg.data.name}-{content_hash(content)}"


def teacher_run(cfg: DictConfig, folder: Path) -> DictConfig:
    """Return the config of the teacher's own training, in which the teacher is the student.

    Args:
        cfg: the config of the run that needs the teacher; it is not changed.
        folder: the folder of the teacher's training.
    """
    training = plain(cfg.teacher.training)
    run = copy.deepcopy(cfg)
    with open_dict(run):
        run.paths.run = str(folder)
        run.student = {key: plain(cfg.teacher[key]) for key in ("name", "net", "taps")}
        run.teacher.name, run.teacher.net, run.teacher.taps = "none", None, {}
        # A reference, as in any run: teachers that differ in the seed alone have one recipe.
        run.data.batch_size, run.data.seed = training["batch_size"], "${seed}"
        run.data.pop("second", None)
        for key in {"views", "augment", "leave_out"} & set(run.data):  # not data from elsewhere
            run.data[key] = None
        if "labels" in run.data:
            run.data.labels = True
        for part in ("method", "mode", "optimizer", "scheduler", "trainer", "seed"):
            run[part] = training[part]
        run.teacher.update(_NO_UPDATE if "update" in run.teacher else {})
        run.resume, run.keep_epochs = None, cfg.teacher.epoch is not None
        run.figures = False
        if "control" in run:
            run.control = None
        for callback in run.callbacks.values():  # the bar and the lines name the net
            if callback and "label" in callback:
                callback.label = f"teacher {cfg.teacher.name}"
    OmegaConf.set_struct(run, True)
    return run


def teacher_data(cfg: DictConfig, data: DataModule) -> DataModule:
    """Return the same data as the teacher is trained on: labelled, every class and view.

    `data.views`, `.augment`, `.leave_out` and `.labels` are settings of the student's training.
    """
    training = cfg.teacher.training
    settings = {"batch_size": training.batch_size, "seed": training.seed}
    return data.variant(**settings, views=None, augment=None, leave_out=None, labels=True)
