"""Base LightningModule of all training modes: pairings, weighted loss, optimizer, checkpoints."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import ParamsT

from kd.distillers.compatibility import check_compatible
from kd.distillers.deployed import ChangedStudent
from kd.distillers.evaluation import EvaluatedModule
from kd.distillers.pairing import Pairing, objectives_by_term, term_name
from kd.distillers.stages import Plan, Stage
from kd.errors import UserError
from kd.metrics import Means
from kd.objectives.base import Objective, Setting
from kd.schedules import Schedule
from kd.taps import Taps
from kd.tasks.base import Task
from kd.types import Batch, Outputs

NO_OUTPUTS = Outputs(torch.empty(0), {})  # teacher argument of objectives that read no teacher


class Distiller(EvaluatedModule, ABC):
    """Trains a student on a weighted sum of objectives.

        L = Σ_pairings w_pairing · Σ_terms w_term · objective_term(student, teacher, batch)

    A subclass is a mode: it turns a batch into pairings of student and teacher outputs. Every
    pairing has the method's objectives, with adapters of its own. Most modes have one pairing,
    named "".

    Args:
        student: the net to train; `student.*` in checkpoints.
        tap_paths: the student's taps, canonical name -> module path.
        objectives: the loss terms by name; their adapters are `objectives.*` in checkpoints.
        plan: stages and weights of the terms.
        optimizer: called with the parameters, or groups of them.
        scheduler: factor of the learning rate as a function of a stage's progress, applied at
            every step.
        num_classes: K.
        task: what the student is trained for; None: image classification.
        pairings: names of the pairings that have a teacher.
        labels_only: names of the pairings without one.
        reads: student taps that the mode itself needs, in addition to those of the objectives.

    Attributes:
        teacher_kind: source of the teacher outputs: a pretrained teacher, peers trained jointly
            with the student, or the student itself.
        available_teacher_taps: teacher taps that objectives may read; None: all taps of its net.
        available_student_taps: student taps that objectives may read; None: all taps of its net.
        needs_index: the mode reads `Batch.index` or the labels of the training pool.
        needs_images: the mode reads training images by their index.
        tasks: names of the tasks, of `kd.tasks.TASKS`, that the mode trains.
        one_device: why the mode is limited to one device; empty: it is not.
        weighted: weight and value of every term of the last step, for callbacks.
        settings_changed: the run resumes with other settings than it had: those of the optimizer
            and of the scheduler replace the restored ones.
    """

    teacher_kind: ClassVar[Literal["pretrained", "peers", "itself"]] = "pretrained"
    available_teacher_taps: ClassVar[tuple[str, ...] | None] = None
    available_student_taps: ClassVar[tuple[str, ...] | None] = None
    needs_index: ClassVar[bool] = False
    needs_images: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("image_classification", "text_classification")
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
        task: Task | None = None,
        pairings: Sequence[str] = ("",),
        labels_only: Sequence[str] = (),
        reads: Sequence[str] = (),
    ) -> None:
        super().__init__(num_classes, task)
        self.strict_loading = False  # checkpoints hold no teacher; see `check_compatible`
        self.student = student
        wanted = [tap for objective in objectives.values() for tap in objective.student_taps]
        if self.teacher_kind == "peers":  # the student is a teacher of its peers
            wanted += [tap for objective in objectives.values() for tap in objective.teacher_taps]
        self.student_taps = Taps(student, tap_paths, [*wanted, *reads])
        self.teacher_terms = {name for name, term in objectives.items() if term.needs_teacher}
        self.objectives = nn.ModuleDict(objectives_by_term(objectives, pairings, labels_only))
        self.plan = plan
        self.optimizer_factory = optimizer
        self.scheduler = scheduler
        self.total_steps = 1
        self.pad_index: int | None = None  # token id that fills texts; set with the data
        self.weighted: dict[str, tuple[float, Tensor]] = {}
        self.settings_changed = False
        self._fresh: list[dict[str, Any]] = []  # settings of the optimizer's groups, as configured
        self._stage: Stage | None = None
        self._resumed_stage: int | None = None  # index of the stage in which a checkpoint was saved
        self._means = Means()  # of loss and raw terms over the epoch

    # Pairings

    @abstractmethod
    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        """Run the nets on a batch and return the step's pairings by name.

        Args:
            batch: from the training loader.
            with_teacher: whether a term of nonzero weight reads a teacher. If not, no teacher is
                run, and the pairings have none.
        """

    @abstractmethod
    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        """Return the pairings of a small batch [b, C, H, W] in eval mode, with all teachers.

        Leaves parameters, buffers and training flags unchanged.
        """

    def build_adapters(self, images: Tensor, targets: Tensor) -> dict[str, Pairing]:
        """Create the objectives' adapters from real shapes, before the optimizer is configured.

        Args:
            images: a small normalised batch [b, C, H, W], or token ids [b, L].
            targets: labels [N] of the training pool.

        Returns:
            The pairings of `images`.
        """
        pairings = self.example_pairings(images)
        size = (images.shape[2], images.shape[3]) if images.dim() == 4 else None
        for name, pairing in pairings.items():
            heads = pairing.student_head, pairing.teacher_head
            own = self.student if pairing.student_net is None else pairing.student_net
            nets = own, pairing.teacher_net
            setting = Setting(self.num_classes, targets, *heads, size, self.pad_index, *nets)
            for objective in self.terms_of(name).values():
                teacher = objective.aligned(pairing.teacher or NO_OUTPUTS)
                objective.build(pairing.student, teacher, setting)
        return pairings

    @property
    def terms(self) -> dict[str, Objective]:
        """The objectives of all pairings, by the names used in logs and checkpoints."""
        return cast(dict[str, Objective], dict(self.objectives.items()))

    def terms_of(self, pairing: str) -> dict[str, Objective]:
        """Return the objectives of one pairing, by their names in the method."""
        start = term_name(pairing, "")
        return {
            name.removeprefix(start): term
            for name, term in self.terms.items()
            if name.startswith(start) and "/" not in name.removeprefix(start)
        }

    # Training

    @property
    def progress(self) -> float:
        """Fraction of all training steps that are done, in [0, 1]."""
        return min(self.global_step / self.total_steps, 1.0)

    @property
    def uses_teacher(self) -> bool:
        """Whether any term of nonzero weight reads a teacher at this step."""
        return not self.teacher_terms.isdisjoint(self.plan.weights(self.progress))

    def on_train_start(self) -> None:
        # Not in configure_optimizers: reading `estimated_stepping_batches` there makes Lightning
        # set up the loaders before it restores a checkpoint, and a resumed epoch would restart.
        self.total_steps = max(int(self.trainer.estimated_stepping_batches), 1)
        if self.settings_changed:
            self._refuse_earlier_stage()
            self._apply_settings()
        # A stage may freeze parameters that the restored optimizer still holds.
        if self._resumed_stage is not None:
            self._enter(self.plan.stages[self._resumed_stage])

    def _refuse_earlier_stage(self) -> None:
        now, _ = self.plan.at(self.progress)
        before = self.plan.stages[self._resumed_stage or 0]
        if self.plan.stages.index(now) < (self._resumed_stage or 0):
            raise UserError(
                f"the run has reached stage {before.name!r} of its method, and with "
                f"trainer.max_epochs={self.trainer.max_epochs} it would return to {now.name!r}; "
                "start a new run without resume"
            )

    def _apply_settings(self) -> None:
        """Give the restored optimizer and learning rate their values by the present settings."""
        optimizer = cast(Optimizer, self.optimizers(use_pl_optimizer=False))
        schedule = cast(LambdaLR, self.lr_schedulers())
        schedule.base_lrs = [settings["lr"] for settings in self._fresh]
        factor = self._lr_factor(schedule.last_epoch)
        for group, settings in zip(optimizer.param_groups, self._fresh, strict=True):
            group.update(settings, initial_lr=settings["lr"], lr=settings["lr"] * factor)

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        stage, _ = self.plan.at(self.progress)
        if stage is not self._stage:
            self._enter(stage)
        for objective in self.terms.values():
            objective.progress = self.progress
        self.plan.set_settings(self.terms, self.progress)

    def _enter(self, stage: Stage) -> None:
        """Start a stage. The optimizer state is reset between two stages of one process."""
        if self._stage is not None:
            cast(Optimizer, self.optimizers(use_pl_optimizer=False)).state.clear()
        if stage.name:
            for objective in self.terms.values():
                objective.enter(stage.name)
        self._stage = stage

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Any]:
        """Return the loss and the unweighted terms by name; terms of weight 0 are not computed."""
        weights = self.plan.weights(self.progress)
        self.weighted = {}
        for name, pairing in self.pairings(batch, self.uses_teacher).items():
            for term, objective in self.terms_of(name).items():
                if term in weights:
                    teacher = objective.aligned(pairing.teacher or NO_OUTPUTS)
                    value = objective(pairing.student, teacher, batch)
                    weight = pairing.weight * weights[term]
                    self.weighted[term_name(name, term)] = (weight, value)
        loss = torch.stack([weight * value for weight, value in self.weighted.values()]).sum()
        # Detached: callbacks and means must not keep the graph of a past step alive.
        raw = {name: value.detach() for name, (_, value) in self.weighted.items()}
        self._means.add({"loss": loss.detach(), **raw})
        return {"loss": loss, "terms": raw}

    def on_train_epoch_end(self) -> None:
        means = {f"train/{name}": mean for name, mean in self._means.take().items()}
        several = self.trainer.world_size > 1  # sync_dist on one device warns
        self.log("train/loss", means.pop("train/loss"), prog_bar=True, sync_dist=several)
        self.log_dict(means, sync_dist=several)

    def on_validation_score(self, score: float) -> None:
        self.plan.observe(score)

    def parameter_groups(self) -> ParamsT:
        """Return what the optimizer trains: parameters, or groups of them."""
        return [p for p in self.parameters() if p.requires_grad]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self.optimizer_factory(self.parameter_groups())
        groups = optimizer.param_groups
        self._fresh = [{k: v for k, v in each.items() if k != "params"} for each in groups]
        schedule = LambdaLR(optimizer, self._lr_factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "train/lr"},
        }

    def _lr_factor(self, step: int) -> float:
        """Return the factor of the learning rate; every stage has the whole schedule."""
        _, done = self.plan.at(min(step / self.total_steps, 1.0))
        return self.scheduler(done)

    def compile_nets(self, mode: str) -> None:
        """Compile the nets that run at every step, with their taps; call after `build_adapters`."""
        self.student.compile(mode=mode)

    # Inference

    def deployed(self) -> nn.Module:
        """Return the net that is tested and saved: images [B, C, H, W] -> logits [B, K]."""
        changing = [term for term in self.terms.values() if term.changes_student]
        return ChangedStudent(self.student_taps, changing[0]) if changing else self.student

    def predict(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.deployed()(images))

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """Return the state dicts that a run saves, by file name without suffix."""
        return {"student": self.deployed().state_dict()}

    def results(self) -> dict[str, Any]:
        """Return the mode's own entries of result.json: flat, plain values."""
        return {}

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["means"] = self._means.state_dict()
        checkpoint["plan"] = self.plan.state_dict()
        checkpoint["stages"] = [stage.name for stage in self.plan.stages]
        if isinstance(self.deployed(), ChangedStudent):
            checkpoint["changed_student"] = True  # `student.*` alone does not predict
        checkpoint["stage"] = None if self._stage is None else self.plan.stages.index(self._stage)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_compatible(checkpoint, self.state_dict().keys(), self.plan)
        self._means.load_state_dict(checkpoint["means"])
        self.plan.load_state_dict(checkpoint["plan"])
        self._resumed_stage = checkpoint["stage"]
