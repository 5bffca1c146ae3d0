"""Base LightningModule of all modes: the training step, evaluation and checkpoint hooks."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import ParamsT

from kd.distillers.deployed import ChangedStudent
from kd.distillers.pairing import Pairing, key
from kd.distillers.stages import Plan, Stage
from kd.errors import UserError
from kd.metrics import Evaluation, Means
from kd.objectives.base import Objective, Setting
from kd.schedules import Schedule
from kd.taps import Taps
from kd.types import Batch, Outputs

# TensorBoard's HPARAMS tab ranks by it; callbacks.LogHyperparameters announces it.
HPARAMS_METRIC = "hp/val_acc"
NO_OUTPUTS = Outputs(torch.empty(0), {})


class Distiller(LightningModule, ABC):
    """Trains a student on Σ weight · objective; a mode says who teaches it.

    A mode turns a batch into pairings: who learns, and from whom. Every pairing has the method's
    terms, with adapters of its own; most modes have one pairing, whose name is empty.

    Args:
        student: the net to train; its weights are `student.*` in checkpoints.
        tap_paths: the student's taps, canonical name -> module path.
        objectives: the terms by name; their adapters are `objectives.*` in checkpoints.
        plan: the stages of the run with the terms' weights.
        optimizer: makes the optimizer from parameters.
        scheduler: factor of the learning rate as a function of a stage's progress, applied every
            step.
        num_classes: K.
        pairings: the names of the mode's pairings that have a teacher.
        labels_only: those of pairings without one.
        reads: the student's taps that the mode itself reads, beside those of the objectives.

    Attributes:
        teacher_kind: source of the teacher outputs: a pretrained teacher, peers trained jointly
            with the student, or the student itself.
        available_teacher_taps: teacher taps that objectives may read; None: all taps of its net.
        available_student_taps: student taps that objectives may read; None: all taps of its net.
        one_device: why the mode cannot be spread over several devices; empty: it can.
    """

    teacher_kind: ClassVar[Literal["pretrained", "peers", "itself"]] = "pretrained"
    available_teacher_taps: ClassVar[tuple[str, ...] | None] = None
    available_student_taps: ClassVar[tuple[str, ...] | None] = None
    one_device: ClassVar[str] = ""

    def __init__(
        self,
        student: nn.Module,
        tap_paths: Mapping[str, str],
        objectives: Mapping[str, Objective],
        plan: Plan,
        optimizer: Callable[[ParamsT], Optimizer],
        scheduler: Schedule,
        num_classes: int,
        pairings: Sequence[str] = ("",),
        labels_only: Sequence[str] = (),
        reads: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.strict_loading = False  # a checkpoint has no teacher; see on_load_checkpoint
        self.student = student
        wanted = [tap for objective in objectives.values() for tap in objective.student_taps]
        if self.teacher_kind == "peers":  # among peers the student teaches as well
            wanted += [tap for term in objectives.values() for tap in term.teacher_taps]
        self.student_taps = Taps(student, tap_paths, [*wanted, *reads])
        self.teacher_terms = {name for name, term in objectives.items() if term.needs_teacher}
        self.objectives = nn.ModuleDict(_terms(objectives, pairings, labels_only))
        self.plan = plan
        self.optimizer_factory = optimizer
        self.scheduler = scheduler
        self.num_classes = num_classes
        self.total_steps = 1
        self._stage: Stage | None = None
        self._resumed_stage: int | None = None  # in which a checkpoint was written
        self.weighted: dict[str, tuple[float, Tensor]] = {}  # this step's terms, for callbacks
        self._means = Means()  # of loss and raw terms over the epoch
        self.val_figures = Evaluation(num_classes)
        self.test_suffix = ""  # of the names of test figures; `_last`: of the last epoch's weights
        self.test_figures = Evaluation(num_classes, closely=True)

    @abstractmethod
    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        """Return the step's pairings by name.

        Args:
            batch: what the loader yields.
            taught: whether any term that counts now reads a teacher; nobody is asked otherwise,
                and the pairings have none.
        """

    @abstractmethod
    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        """Return the pairings of a small batch in eval mode, leaving no mark on the nets."""

    def build_adapters(self, images: Tensor, targets: Tensor) -> dict[str, Pairing]:
        """Let every objective make its adapters from real shapes; before the optimizer exists.

        Args:
            images: a small normalised batch [b, C, H, W].
            targets: labels [N] of the training pool.
        """
        pairings = self.example_pairings(images)
        for name, pairing in pairings.items():
            heads = pairing.student_head, pairing.teacher_head
            setting = Setting(self.num_classes, targets, *heads)
            for objective in self.terms_of(name).values():
                objective.build(pairing.student, pairing.teacher or NO_OUTPUTS, setting)
        return pairings

    def terms_of(self, pairing: str) -> dict[str, Objective]:
        """The objectives of one pairing, by the method's names for them."""
        start = key(pairing, "")
        return {
            name.removeprefix(start): term
            for name, term in self.terms.items()
            if name.startswith(start) and "/" not in name.removeprefix(start)
        }

    @property
    def terms(self) -> dict[str, Objective]:
        """All objectives, by the names that logs and checkpoints use."""
        return cast(dict[str, Objective], dict(self.objectives.items()))

    def compile_nets(self, mode: str) -> None:
        """Have torch compile what runs every step, with their taps; after `build_adapters`."""
        self.student.compile(mode=mode)

    @property
    def uses_teacher(self) -> bool:
        """Whether any term that counts now reads a teacher."""
        return not self.teacher_terms.isdisjoint(self.plan.weights(self.progress))

    @property
    def progress(self) -> float:
        """The weight of all steps that is done, in [0, 1]."""
        return min(self.global_step / self.total_steps, 1.0)

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        stage, _ = self.plan.at(self.progress)
        if stage is not self._stage:
            self._enter(stage)
        for objective in self.terms.values():
            objective.progress = self.progress
        self.plan.set_temperatures(self.terms.values(), self.progress)

    def _enter(self, stage: Stage) -> None:
        """Begin a stage: with a fresh optimizer, unless it is the first of this process."""
        if self._stage is not None:
            cast(Optimizer, self.optimizers(use_pl_optimizer=False)).state.clear()
        if stage.name:
            for objective in self.terms.values():
                objective.enter(stage.name)
        self._stage = stage

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Any]:
        """Return the loss, and the raw terms by name; a term whose weight is 0 is not computed."""
        weights = self.plan.weights(self.progress)
        self.weighted = {}
        for name, pairing in self.pairings(batch, self.uses_teacher).items():
            for term, objective in self.terms_of(name).items():
                if term in weights:
                    value = objective(pairing.student, pairing.teacher or NO_OUTPUTS, batch)
                    self.weighted[key(name, term)] = (pairing.weight * weights[term], value)
        loss = torch.stack([weight * value for weight, value in self.weighted.values()]).sum()
        raw = {name: value.detach() for name, (_, value) in self.weighted.items()}
        self._means.add({"loss": loss.detach(), **raw})
        return {"loss": loss, "terms": raw}

    def on_train_epoch_end(self) -> None:
        means = {f"train/{name}": mean for name, mean in self._means.take().items()}
        several = self.trainer.world_size > 1
        self.log("train/loss", means.pop("train/loss"), prog_bar=True, sync_dist=several)
        self.log_dict(means, sync_dist=several)

    def predict(self, images: Tensor) -> Tensor:
        """The logits [B, K] at inference."""
        return cast(Tensor, self.deployed()(images))

    def deployed(self) -> nn.Module:
        """The net that answers at inference: what is tested and saved."""
        changing = [term for term in self.terms.values() if term.changes_student]
        return ChangedStudent(self.student_taps, changing[0]) if changing else self.student

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self.val_figures.update(self.predict(batch.input), batch.target)

    def on_validation_epoch_end(self) -> None:
        figures = {f"val/{k}": v for k, v in self.val_figures.compute().items()}
        self.log_dict(figures, prog_bar=True)
        self.log(HPARAMS_METRIC, figures["val/acc"])
        if not self.trainer.sanity_checking:
            self.plan.observe(figures["val/acc"].item())

    def test_step(self, batch: Batch, batch_index: int) -> None:
        teacher = self.teacher_test_logits(batch)
        self.test_figures.update(self.predict(batch.input), batch.target, teacher)

    def on_test_epoch_end(self) -> None:
        self.log_test({f"test/{k}": v for k, v in self.test_figures.compute().items()})

    def log_test(self, figures: Mapping[str, Tensor]) -> None:
        """Log figures of the test set by their names in result.json."""
        self.log_dict({f"{name}{self.test_suffix}": value for name, value in figures.items()})

    def teacher_test_logits(self, batch: Batch) -> Tensor | None:
        """The teacher's logits [B, K] on a test batch, if there is a teacher to agree with."""
        return None

    def results(self) -> dict[str, Any]:
        """What result.json says of the mode beside the student's figures: flat, plain values."""
        return {}

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """The weights that a run leaves, by the names of their files."""
        return {"student": self.deployed().state_dict()}

    def on_train_start(self) -> None:
        # Not in configure_optimizers: asked for there, Lightning makes the loaders before it
        # restores a checkpoint, and a resumed epoch starts over.
        self.total_steps = max(int(self.trainer.estimated_stepping_batches), 1)
        # A stage may freeze parameters, which the optimizer that was just restored still has.
        if self._resumed_stage is not None:
            self._enter(self.plan.stages[self._resumed_stage])

    def groups(self) -> ParamsT:
        """What the optimizer trains: parameters, or groups of them."""
        return [p for p in self.parameters() if p.requires_grad]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self.optimizer_factory(self.groups())
        schedule = LambdaLR(optimizer, self._rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "train/lr"},
        }

    def _rate(self, step: int) -> float:
        """The factor of the learning rate at a step; every stage starts anew."""
        _, done = self.plan.at(min(step / self.total_steps, 1.0))
        return self.scheduler(done)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["means"] = self._means.state_dict()
        checkpoint["plan"] = self.plan.state_dict()
        checkpoint["stages"] = [stage.name for stage in self.plan.stages]
        checkpoint["stage"] = None if self._stage is None else self.plan.stages.index(self._stage)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that is not of these nets; Lightning's strictness is off."""
        ours, theirs = self.state_dict().keys(), checkpoint["state_dict"].keys()
        if ours != theirs:
            missing, unknown = sorted(ours - theirs)[:5], sorted(theirs - ours)[:5]
            raise UserError(
                f"the checkpoint is of another run: missing {missing}, unknown {unknown}; "
                "resume with the method, student and data it was made with"
            )
        stages, schedules = checkpoint["stages"], checkpoint["plan"]["schedules"]
        if stages != [stage.name for stage in self.plan.stages] or len(schedules) != len(
            self.plan.schedules
        ):
            raise UserError(
                f"the checkpoint is of another plan: stages {stages} and {len(schedules)} "
                "schedules; resume with the method's stages and schedules as they were"
            )
        self._means.load_state_dict(checkpoint["means"])
        self.plan.load_state_dict(checkpoint["plan"])
        self._resumed_stage = checkpoint["stage"]


def _terms(
    objectives: Mapping[str, Objective], taught: Sequence[str], labels_only: Sequence[str]
) -> dict[str, Objective]:
    """Every pairing's terms: the first pairing has the given ones, the others copies."""
    found: dict[str, Objective] = {}
    for pairing in (*taught, *labels_only):
        used = {k: o for k, o in objectives.items() if pairing in taught or not o.needs_teacher}
        fresh = used if pairing == taught[0] else copy.deepcopy(used)
        found |= {key(pairing, name): objective for name, objective in fresh.items()}
    return found
