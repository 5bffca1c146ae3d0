"""Base LightningModule of all training modes: its arguments, weighted loss and logged means."""

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from kd.data.splits import Normalisation
from kd.distillers.compatibility import check_compatible
from kd.distillers.deployed import ChangedStudent
from kd.distillers.pairing import outputs_read, term_name
from kd.distillers.staged import StagedModule
from kd.distillers.stages import Plan
from kd.metrics import Means
from kd.objectives.base import Objective
from kd.schedules import Schedule
from kd.tasks.base import Task
from kd.types import Batch, Outputs


class Distiller(StagedModule, ABC):
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
        needs_index: the mode reads `Batch.index` or the labels of the training pool.
        two_views: what the mode does with two views of each image in a batch: `rows` are joined,
            the first views before the second, for objectives that compare them; `nets` each run on
            a view of their own, if `views` is 2; "": it has no use for them.
        needs_images: the mode reads training images by their index.
        starts_certain: whether the first teacher outputs are those of a certain label.
        runs_teacher: why the teacher runs on images that no cache can hold, and is a single net;
            empty: it may be cached, or be an ensemble.
        tasks: names of the tasks, of `kd.tasks.TASKS`, that the mode trains.
        figures: what its runs log beside the terms, as a callback's `monitor` names it, and whether
            a higher figure is better.
        one_device: why the mode is limited to one device; empty: it is not.
        weighted: weight and value of every term of the last step, for callbacks.
    """

    needs_index: ClassVar[bool] = False
    needs_images: ClassVar[bool] = False
    starts_certain: ClassVar[bool] = False
    runs_teacher: ClassVar[str] = ""
    two_views: ClassVar[Literal["", "rows", "nets"]] = ""
    tasks: ClassVar[tuple[str, ...]] = ("image_classification", "text_classification")
    figures: ClassVar[Mapping[str, bool]] = {}
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
        super().__init__(
            plan,
            optimizer,
            scheduler,
            student=student,
            tap_paths=tap_paths,
            objectives=objectives,
            num_classes=num_classes,
            task=task,
            pairings=pairings,
            labels_only=labels_only,
            reads=reads,
        )
        self.strict_loading = False  # checkpoints hold no teacher; see `check_compatible`
        self.weighted: dict[str, tuple[float, Tensor]] = {}
        self.normalisation: Normalisation | None = None  # of the images; set with the data
        self._means = Means()  # of loss and raw terms over the epoch

    @classmethod
    def check_teacher(cls, net: nn.Module) -> None:
        """Refuse a teacher that cannot teach in this mode, before it is trained.

        Raises:
            ValueError: it cannot; names the remedy.
        """

    @classmethod
    def check_settings(cls, **settings: Any) -> None:
        """Refuse settings of the mode that are out of range, before a teacher is trained.

        Args:
            settings: the mode's in the config, of the types of the constructor's arguments.

        Raises:
            ValueError: one is; the message has its value.
        """

    @property
    def uses_teacher(self) -> bool:
        """Whether any term of nonzero weight reads a teacher at this step."""
        return not self.teacher_terms.isdisjoint(self.plan.weights(self.progress))

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Any]:
        """Return the loss and the unweighted terms by name; terms of weight 0 are not computed."""
        weights = self.plan.weights(self.progress)
        self.weighted = {}
        if self.loss_parts is not None:
            self.loss_parts.clear()
        rows = self.rows(batch)
        for name, pairing in self.pairings(batch, self.uses_teacher).items():
            for term, objective in self.terms_of(name).items():
                if term in weights:
                    outputs = outputs_read(objective, pairing, rows.input)
                    weight = pairing.weight * weights[term]
                    value = self._value(objective, weight, outputs, rows)
                    self.weighted[term_name(name, term)] = (weight, value)
        loss = torch.stack([weight * value for weight, value in self.weighted.values()]).sum()
        # Detached: callbacks and means must not keep the graph of a past step alive.
        raw = {name: value.detach() for name, (_, value) in self.weighted.items()}
        self._means.add({"loss": loss.detach(), **raw})
        return {"loss": loss, "terms": raw}

    def _value(
        self, objective: Objective, weight: float, outputs: tuple[Outputs, Outputs], batch: Batch
    ) -> Tensor:
        """Compute a term, unweighted, from the outputs of the student and of its teacher."""
        if self.loss_parts is None:
            return cast(Tensor, objective(*outputs, batch))
        return self.loss_parts.term(objective, weight, outputs, batch)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradient of the loss, or one of each part if the optimizer asks for them."""
        if self.loss_parts is None:
            super().backward(loss, *args, **kwargs)
        else:
            self.loss_parts.backward(1 / self.trainer.accumulate_grad_batches)

    def on_train_epoch_end(self) -> None:
        means = {f"train/{name}": mean for name, mean in self._means.take().items()}
        several = self.trainer.world_size > 1  # sync_dist on one device warns
        self.log("train/loss", means.pop("train/loss"), prog_bar=True, sync_dist=several)
        self.log_dict(means, sync_dist=several)

    def results(self) -> dict[str, Any]:
        """Return the mode's own entries of result.json: flat, plain values."""
        return {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["means"] = self._means.state_dict()
        super().on_save_checkpoint(checkpoint)
        if isinstance(self.deployed(), ChangedStudent):
            checkpoint["changed_student"] = True  # `student.*` alone does not predict

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_compatible(checkpoint, self.state_dict().keys(), self.plan)
        self._means.load_state_dict(checkpoint["means"])
        super().on_load_checkpoint(checkpoint)
