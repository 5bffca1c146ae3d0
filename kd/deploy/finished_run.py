"""A finished run as the commands after training use it: its result, data, student and teacher."""

import logging
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import torch
from omegaconf import DictConfig
from torch import nn

from kd.build.data import build_data
from kd.build.parts import build_net, distiller_class
from kd.config.members import is_ensemble, member_configs
from kd.config.record import recorded_config
from kd.config.trust import NO_TRUST, Trust
from kd.data.base import DataModule
from kd.deploy.load import load
from kd.deploy.student import Student
from kd.errors import UserError, closest, nearest
from kd.io.checksums import read_intact
from kd.io.result_file import FORMAT, Result, mistyped, upgraded
from kd.io.run_folder import RunFolder
from kd.io.student_metadata import read_student_metadata
from kd.io.tensors import tensor_shapes
from kd.io.weights import load_weights
from kd.models.shrink import shrink_to
from kd.teachers.registry import Registry
from kd.teachers.updated import UpdatedTeacher
from kd.training.acquired import AcquiredTeacher
from kd.training.controls import control_of
from kd.training.student import build_student
from kd.training.teacher import acquire
from kd.training.teacher_checks import check_teacher_files
from kd.training.teacher_run import teacher_key
from kd.validation.check import check_config

log = logging.getLogger(__name__)

_CHAIN = "chain.json"
_SHOWN = 10  # runs or folders that a message names
_CPU = torch.device("cpu")


class FinishedRun:
    """A run whose student is trained; its parts are built when they are first read.

    Nothing is trained and nothing is written into the run's folder. The folder may come from a
    stranger: its config is verified, and weights are read as data.

    Args:
        folder: the run's folder, or that of a chain, whose last stage is meant.
        setting: of the command that names the folder, for messages.
        trust: what its record may name beside what `conf/` names.
        teacher_checkpoint: weights of the teacher in place of the run's own; None: the run's.
        device: the device on which the teacher runs.

    Attributes:
        folder: the run's folder; that of the last stage for a chain.
        result: the content of its result.json.

    Raises:
        UserError: there is no such folder, or it holds no run that has finished.
    """

    def __init__(
        self,
        folder: str | Path,
        setting: str = "run",
        trust: Trust = NO_TRUST,
        teacher_checkpoint: str | None = None,
        device: torch.device = _CPU,
    ) -> None:
        self._setting, self._trust = setting, trust
        self._teacher_checkpoint, self._device = teacher_checkpoint, device
        self.folder = _last_stage(_existing(folder, setting), setting)
        self.result = _finished_result(self.folder, setting)

    @cached_property
    def cfg(self) -> DictConfig:
        """The run's config, verified."""
        cfg = recorded_config(self.folder, self._setting, self._trust)
        if self._teacher_checkpoint is not None:
            cfg.teacher.checkpoint = self._teacher_checkpoint
        return cfg

    @cached_property
    def data(self) -> DataModule:
        """The run's data, set up.

        Raises:
            UserError: they are missing or damaged, or were given to `kd.distil`.
        """
        if "_target_" not in self.cfg.data:
            raise UserError(
                f"{self._setting}={self.folder}: its data were given to kd.distil and are not in "
                "its folder; kd.evaluate takes other data of the same classes as data=NAME"
            )
        return build_data(self.cfg)

    @cached_property
    def student(self) -> Student:
        """The student in eval mode on the CPU: uint8 or normalised images -> logits [B, K].

        Raises:
            UserError: its weights are missing or damaged, or it was given to the run as a module.
        """
        file = RunFolder(self.folder).weights
        metadata = read_student_metadata(file) if file.is_file() else None
        if metadata is None or metadata["architecture"] is not None:
            return load(self.folder)
        if "_target_" not in self.cfg.student.net:
            raise UserError(
                f"{self._setting}={self.folder}: {metadata['no_architecture']}; only "
                "kd.load(FOLDER, net=MyNet()) in your own program can load it"
            )
        # The method's own parts follow the student at inference, and are built as in the run, but
        # for the table of matched taps.
        with torch.random.fork_rng(devices=[]), redirect_stdout(None):
            net = self.plain_net() if metadata.get("channels_removed") else None
            distiller = build_student(check_config(self.cfg), self.data, self.teacher, net)
        return load(self.folder, distiller.deployed())

    def plain_net(self) -> nn.Module:
        """Build the student's own net with the channels that its file has, untrained."""
        file = RunFolder(self.folder).weights
        net = build_net(self.cfg, "student", self.data)
        prefix = "changed_student."  # as kd.distillers.deployed.ChangedStudent names it
        shapes = {name.removeprefix(prefix): shape for name, shape in tensor_shapes(file).items()}
        try:
            shrink_to(net, shapes)
        except ValueError as error:
            raise UserError(f"{self._setting}={self.folder}: {file.name}: {error}") from None
        return net

    @cached_property
    def teacher(self) -> AcquiredTeacher | None:
        """The teacher with its test logits; None if the run has no pretrained one.

        Raises:
            UserError: its weights are no longer there, or it was given to `kd.distil`.
        """
        if not self._needs_teacher:
            if self._teacher_checkpoint is not None:
                raise UserError(
                    f"teacher_checkpoint={self._teacher_checkpoint}: the run in {self.folder} has "
                    "no pretrained teacher; remove it"
                )
            return None
        if self._teacher_checkpoint is not None and is_ensemble(self.cfg):
            raise UserError(
                f"teacher_checkpoint={self._teacher_checkpoint}: the teacher of {self.folder} is "
                "an ensemble of several nets; remove it"
            )
        if self.teacher_was_given:
            raise UserError(
                f"{self._setting}={self.folder}: its teacher was given to kd.distil as a module, "
                "which its folder does not hold"
            )
        self.check_teacher(self.cfg)
        cfg = deepcopy(self.cfg)
        # Nothing is trained, so its outputs for training images are neither saved nor, by
        # `refresh`, deleted.
        cfg.teacher.cache.mode = "off"
        acquired = acquire(check_config(cfg), self.data, self._device, _train_nothing)
        assert acquired is not None  # see `_needs_teacher`
        if isinstance(acquired.teacher, UpdatedTeacher) and self._teacher_checkpoint is None:
            # As it was at the selected epoch; the logits are those of the beginning.
            load_weights(acquired.teacher.nets[0], RunFolder(self.folder).weights_of("teacher"))
            acquired = replace(acquired, test_logits=None)
        return acquired

    @property
    def teacher_was_given(self) -> bool:
        """Whether `kd.distil` got the teacher as a module, which is not in the run's folder."""
        return self.result.get("teacher/source") == "given"

    def check_teacher(self, cfg: DictConfig) -> None:
        """Refuse a teacher that is not there, for this run or for one with a changed config.

        Raises:
            UserError: its weights would have to be trained, or their file is missing.
        """
        check_teacher_files(cfg)
        for alone in member_configs(cfg).values() if is_ensemble(cfg) else [cfg]:
            self._check_registered(alone)

    def another(self, folder: Path) -> "FinishedRun":
        """Return a finished run that this process has made from this one, with the same data."""
        own = self._trust._replace(record=True)
        made = FinishedRun(folder, "output", own, device=self._device)
        made.data = self.data  # perhaps long to decode
        return made

    @property
    def _needs_teacher(self) -> bool:
        pretrained = distiller_class(self.cfg).teacher_kind == "pretrained"
        return pretrained and self.result.get("teacher", "none") != "none"

    def _check_registered(self, cfg: DictConfig) -> None:
        """Refuse a teacher that would have to be trained."""
        if control_of(cfg) == "untrained":
            return  # its weights are drawn from its seed
        root = Path(cfg.paths.teachers)
        if (
            cfg.teacher.checkpoint is None
            and Registry(root).find(teacher_key(cfg, self.data)) is None
        ):
            raise UserError(
                f"{self._setting}={self.folder}: its teacher {cfg.teacher.name} is not in {root} "
                "any more; give its weights as teacher_checkpoint=FILE, or train it with the "
                "command of the run"
            )


def _train_nothing(*_: Any) -> NoReturn:
    raise AssertionError("a teacher that is registered is not trained")


def _existing(given: Any, setting: str) -> Path:
    # On a command line a list is none of these, and a name of digits is a number.
    if not isinstance(given, str | Path | int) or isinstance(given, bool):
        raise UserError(f"{setting}={given}: name the folder of one run")
    folder = Path(str(given))
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"{setting}={folder} is a file; name the run's folder")
    above = next(parent for parent in folder.absolute().parents if parent.is_dir())
    there = [path.name for path in above.iterdir() if path.is_dir() and path.name[0] != "."]
    hint = nearest(folder.name, there)
    if len(there) > _SHOWN:
        near = closest(folder.name, there)
        hint = f"did you mean {near!r}?" if near else f"{len(there)} other folders"
    raise UserError(f"{setting}={folder}: there is no such folder; in {above}: {hint}")


def _last_stage(folder: Path, setting: str) -> Path:
    """Return the folder of a chain's last stage; any other folder as it is."""
    if not (folder / _CHAIN).is_file() or RunFolder(folder).result.is_file():
        return folder
    chain = read_intact(folder / _CHAIN) or {}
    stages = [run.get("stage") for run in chain.get("runs", []) if isinstance(run, dict)]
    last = stages[-1] if stages else None
    if not isinstance(last, str) or Path(last).name != last or chain.get("status") != "completed":
        raise UserError(
            f"{setting}={folder}: this chain is not finished: {chain.get('error', 'damaged')}"
        )
    log.info("%s is a chain: its last stage is %s", folder, last)
    return folder / last


def _finished_result(folder: Path, setting: str) -> Result:
    """Read the result of a run that has a trained student."""
    file, start = RunFolder(folder).result, f"{setting}={folder}"
    if not file.is_file():
        if RunFolder(folder).config.is_file():
            raise UserError(
                f"{start}: this run has not finished; resume it: python -m kd.train resume={folder}"
            )
        raise UserError(f"{start} is no run: it holds {_runs_in(folder) or f'no {file.name}'}")
    content = read_intact(file)
    if content is None:
        raise UserError(f"{start}: its {file.name} is damaged or was edited")
    if isinstance(content.get("format"), int) and content["format"] > FORMAT:
        raise UserError(
            f"{start}: its {file.name} has format {content['format']}, and this version of kd "
            f"reads up to {FORMAT}; update kd"
        )
    result = upgraded(content)
    if problem := mistyped(result):
        raise UserError(f"{start}: {file.name}: {problem}")
    if result.get("status") in ("completed", "untested"):
        return result
    raise UserError(
        f"{start}: this run has no trained student, its status is {result.get('status')}"
        f"{_because(result)}; resume it: python -m kd.train resume={folder}"
    )


def _runs_in(folder: Path) -> str:
    """Return what a folder of runs holds, such as that of a sweep; empty if it holds none."""
    names = sorted(path.parent.name for path in folder.glob(f"*/{RunFolder(folder).result.name}"))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"the runs {', '.join(names[:_SHOWN])}{more}; name one of them" if names else ""


def _because(result: Result) -> str:
    return f" ({result['error']})" if result.get("error") else ""
