"""Base class of loss terms."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

from torch import Tensor

from kd.objectives.setting import Setting
from kd.objectives.tap_pairs import TapPairs
from kd.types import Batch, Outputs

Family = Literal["labels", "response", "feature", "relation"]


class Objective(TapPairs, ABC):
    """Base class of all loss terms.

    A term is the mean over the batch, unweighted, with the constants of its formula inside (T² of
    soft targets). A subclass names the taps it reads in `student_taps` and `teacher_taps`, creates
    trainable adapters in `build` and computes the term in `forward`. The formula itself is a pure
    function of tensors beside the class, without `.item()` and without branches on tensor values,
    so that it compiles.

    Attributes:
        family: group of the method in the table of `python -m kd.methods`; None: "feature" with
            taps, "response" without.
        needs_teacher: whether `forward` reads the teacher's outputs.
        needs_labels: whether `forward` or `build` reads labels as class indices, which mixed images
            (mixup, CutMix) and unlabelled ones do not have.
        reads_targets: whether it reads `Batch.target` in some form, as class indices or as the
            probabilities of mixed images; a term with `needs_labels` does.
        reads_logits: whether a term with taps reads the teacher's logits as well; see
            `compares_classes`.
        by_class: whether the term falls into a part of the label and one of the other classes, see
            `class_terms`.
        standardise: whether the term scales every row of logits to the deviation 1, which makes all
            rows of two classes alike.
        reads_log_odds: whether the term compares logits themselves, and not their softmax, so that
            those of a certain label are no targets for it.
        copies_head: whether `build` copies the teacher's head, which must be trained by then.
        needs_pretrained: what else the term does with a teacher that must be trained by then, as
            the middle of a message; empty if the teacher may change.
        runs_nets: whether the term runs both nets on images of its own, so that the teacher must be
            a single pretrained net.
        runs_teacher_layers: whether the term runs layers of `Setting.teacher_net`, which end in all
            of the teacher's classes.
        needs_index: whether the term reads `Batch.index` or `Setting.targets`, as memory banks do.
        max_batch: most rows of a batch that the term takes; None: any number.
        one_device: reason why the term cannot be computed on several devices; empty if it can.
        scheduled: settings that a schedule may vary during a run, by the name of argument and
            attribute, each with a function that raises ValueError for values out of range.
        two_views: whether outputs and batch must have two views of each image: 2·B rows, those of
            the first views before those of the second.
        tasks: names of the tasks, of `kd.tasks.TASKS`, whose nets the term can compare.
        needs_places: whether the student's predictions must belong to fixed places of the image, as
            those of a one-stage detector do.
        tokens_as_maps: whether `build` and `forward` get the tokens [B, N, D] of nets on patches as
            maps [B, D, H, W]; see `kd.objectives.token_maps`.
        refuses_tokens: reason why the term cannot read such tokens; empty if it can, or if it
            checks the shapes of its taps itself.
        fitting_student: name of a net in `conf/model`, for terms that read taps that other nets do
            not have; empty for terms that fit many nets.
        progress: fraction of all training steps done, in [0, 1]; set before every step.
        stage: current stage of a method that has several; see `enter`.

    Example:
        >>> import torch
        >>> from kd.types import Batch, Outputs
        >>> class LogitL1(Objective):
        ...     def forward(self, student, teacher, batch):
        ...         return (student.logits - teacher.logits).abs().mean()
        >>> student, teacher = Outputs(torch.zeros(2, 3), {}), Outputs(torch.ones(2, 3), {})
        >>> zeros = torch.zeros(2, dtype=torch.long)
        >>> LogitL1()(student, teacher, Batch(zeros, zeros, torch.arange(2), zeros, epoch=0))
        tensor(1.)
    """

    family: ClassVar[Family | None] = None
    needs_teacher: ClassVar[bool] = True
    needs_labels: bool = False
    reads_targets: bool = False
    reads_logits: ClassVar[bool] = False
    two_views: ClassVar[bool] = False
    standardise: bool = False
    reads_log_odds: bool = False
    copies_head: ClassVar[bool] = False
    needs_pretrained: ClassVar[str] = ""
    runs_nets: ClassVar[bool] = False
    runs_teacher_layers: ClassVar[bool] = False
    needs_index: ClassVar[bool] = False
    max_batch: int | None = None
    one_device: ClassVar[str] = ""
    scheduled: ClassVar[Mapping[str, Callable[[float], float]]] = {}
    tasks: ClassVar[tuple[str, ...]] = ("image_classification", "text_classification")
    needs_places: ClassVar[bool] = False
    tokens_as_maps: ClassVar[bool] = False
    refuses_tokens: ClassVar[str] = ""
    fitting_student: ClassVar[str] = ""
    by_class: bool = False
    progress: float = 0.0
    stage: str = ""

    def select_taps(self, teacher: Outputs) -> None:
        """Drop the pairs of taps that the teacher's shapes rule out, before outputs are cached.

        Args:
            teacher: its outputs for a batch of noise, with the taps by the student's names.
        """

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        """Create adapters that fit the shapes of one batch, before the optimizer exists.

        Args:
            student: outputs of the student for a batch of noise.
            teacher: outputs of the teacher for the same batch.
            setting: number of classes, labels and heads.

        Raises:
            UserError: the shapes do not fit the method; the message has the taps and both shapes.
        """

    def enter(self, stage: str) -> None:
        """Start a stage of a method that has several."""
        self.stage = stage

    @property
    def learns_labels(self) -> bool:
        """Whether the term's gradient is that of the task, and not the teacher's."""
        return self.family == "labels"

    @property
    def reads_labels(self) -> bool:
        """Whether the term reads labels in any form."""
        return self.needs_labels or self.reads_targets

    @property
    def fits_every_net(self) -> bool:
        """Whether the term compares the logits of one net with labels, and reads nothing else."""
        return self.reads_labels and not self.needs_teacher and not self.student_taps

    @property
    def compares_classes(self) -> bool:
        """Whether the teacher's classes must be the student's: a term without taps reads logits."""
        return self.needs_teacher and (
            self.reads_logits or self.copies_head or not self.teacher_taps
        )

    @property
    def changes_student(self) -> bool:
        """Whether inference needs the objective's adapters beside the student."""
        return type(self).inference_logits is not Objective.inference_logits

    def inference_logits(self, student: Outputs) -> Tensor:
        """Logits [B, K] at inference.

        They are the student's own unless a subclass replaces its head, as SimKD does; the taps
        that this needs are in `student_taps`.
        """
        return student.logits

    def merge(self, student: Outputs) -> None:
        """Move what `inference_logits` adds to the student into the student's own parameters.

        Called once, after training, with the selected weights. `changes_student` is false from then
        on where it succeeds; by default nothing happens.

        Args:
            student: outputs of the trained student for a small batch, in evaluation mode.
        """

    def class_terms(
        self, student: Outputs, teacher: Outputs, batch: Batch, share: float
    ) -> tuple[Tensor, Tensor]:
        """Compute the parts of the label and of the other classes; their sum is the term.

        Only objectives with `by_class` have them.

        Args:
            student: as in `forward`.
            teacher: as in `forward`.
            batch: as in `forward`.
            share: of the other classes, in (0, 1], that the second part compares: those of the
                teacher's largest logits. At 1 the sum is the value of `forward`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no parts by class")

    @abstractmethod
    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """Compute the term, a scalar.

        Args:
            student: logits [B, K] and the taps of `student_taps`.
            teacher: logits [B, K] and the taps of `teacher_taps`; without gradients.
            batch: images, labels and indices of the batch.
        """
