"""Base classes of loss terms, and what most of them need."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from kd.types import Batch, Outputs


class Setting(NamedTuple):
    """The data and the nets' heads, for adapters that depend on more than the shapes of taps.

    Attributes:
        num_classes: number of classes K.
        targets: labels [N] of the training pool, int64, in the order of `Batch.index`.
        student_head: the module that turns the tap `embedding` into logits; None where the net has
            no such module. An objective that only reads it must not register it as a submodule, or
            the head would be saved and optimised twice.
        teacher_head: the same of the teacher.
        image_size: height and width of the images in pixels; None where inputs are no images.
        pad_index: token id that fills texts up to the length of a batch; None where inputs are no
            texts.
        student_net, teacher_net: the nets, for objectives that need more than their outputs, such
            as a detector's decoding; not to be registered as submodules. None: an ensemble.
    """

    num_classes: int
    targets: Tensor
    student_head: nn.Module | None = None
    teacher_head: nn.Module | None = None
    image_size: tuple[int, int] | None = None
    pad_index: int | None = None
    student_net: nn.Module | None = None
    teacher_net: nn.Module | None = None


Family = Literal["labels", "response", "feature", "relation"]


class Objective(nn.Module, ABC):
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
        needs_labels: whether `forward` reads `Batch.target` as class indices, which mixed images
            (mixup, CutMix) do not have.
        copies_head: whether `build` copies the teacher's head, which must be trained by then.
        needs_index: whether the term reads `Batch.index` or `Setting.targets`, as memory banks do.
        one_device: reason why the term cannot be computed on several devices; empty if it can.
        scheduled: settings that a schedule may vary during a run, by the name of argument and
            attribute, each with a function that raises ValueError for values out of range.
        paired: whether the taps were given to `pair`, so that `teacher.taps` has the student's
            names in `build` and `forward`.
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
    needs_labels: ClassVar[bool] = False
    copies_head: ClassVar[bool] = False
    needs_index: ClassVar[bool] = False
    one_device: ClassVar[str] = ""
    scheduled: ClassVar[Mapping[str, Callable[[float], float]]] = {}
    tasks: ClassVar[tuple[str, ...]] = ("image_classification", "text_classification")
    needs_places: ClassVar[bool] = False
    tokens_as_maps: ClassVar[bool] = False
    refuses_tokens: ClassVar[str] = ""
    fitting_student: ClassVar[str] = ""
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()
    paired: bool = False
    progress: float = 0.0
    stage: str = ""

    def pair(self, taps: Sequence[str]) -> None:
        """Set the taps that are compared with each other.

        Args:
            taps: a name for both nets, or two names `student:teacher`.

        Raises:
            ValueError: there are none, or one of the student has two partners.
        """
        if not taps:
            raise ValueError(
                "taps is empty: the two nets have no stage in common; name some of the nets' taps, "
                "or give a net without any its own, as student.taps={stage1: features.3}"
            )
        names = [tap.partition(":") for tap in taps]
        self.student_taps = tuple(own for own, _, _ in names)
        self.teacher_taps = tuple(other or own for own, _, other in names)
        self.paired = True
        pairs = set(zip(self.student_taps, self.teacher_taps, strict=True))
        if len(pairs) > len({own for own, _ in pairs}):
            raise ValueError(f"taps must pair a tap of the student once, got {list(taps)}")

    def keep_pairs(self, taps: Sequence[str]) -> None:
        """Drop the pairs whose tap of the student is not among `taps`."""
        kept = zip(self.student_taps, self.teacher_taps, strict=True)
        self.pair([f"{own}:{other}" for own, other in kept if own in taps])

    def aligned(self, teacher: Outputs) -> Outputs:
        """Return the teacher's outputs with its taps by the student's names of `pair`."""
        if not self.paired or self.student_taps == self.teacher_taps or not teacher.taps:
            return teacher
        names = zip(self.student_taps, self.teacher_taps, strict=True)
        return teacher._replace(taps={own: teacher.taps[other] for own, other in names})

    def select_taps(self, teacher: Outputs) -> None:
        """Drop the pairs of taps that the teacher's shapes rule out, before outputs are cached.

        Args:
            teacher: its outputs for a batch of zeros, with the taps by the student's names.
        """

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        """Create adapters that fit the shapes of one batch, before the optimizer exists.

        Args:
            student: outputs of the student for a batch of zeros.
            teacher: outputs of the teacher for the same batch.
            setting: number of classes, labels and heads.

        Raises:
            UserError: the shapes do not fit the method; the message has the taps and both shapes.
        """

    def enter(self, stage: str) -> None:
        """Start a stage of a method that has several."""
        self.stage = stage

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

    @abstractmethod
    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """Compute the term, a scalar.

        Args:
            student: logits [B, K] and the taps of `student_taps`.
            teacher: logits [B, K] and the taps of `teacher_taps`; without gradients.
            batch: images, labels and indices of the batch.
        """


MAX_TEMPERATURE = 1e6  # T² stays finite in float32, whose largest number is 3.4e38


def check_temperature(temperature: float) -> float:
    """Return `temperature` as a float.

    Raises:
        ValueError: it is not a number in (0, 1e6].
    """
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not number or not temperature > 0:
        raise ValueError(f"temperature must be a number > 0, got {temperature!r}")
    if temperature > MAX_TEMPERATURE:
        raise ValueError(f"temperature must be ≤ {MAX_TEMPERATURE:g}, got {temperature!r}")
    return float(temperature)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Check that the setting `name` has one of the values in `choices`.

    Raises:
        ValueError: it has another value.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}")


def upcast(tensor: Tensor) -> Tensor:
    """Convert float16 and bfloat16 to float32; return any other tensor unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


class LogitObjective(Objective):
    """Base class of terms that read nothing but the logits of the two nets.

    Args:
        standardise: standardise every row of logits of both nets first; see `standardise`. The
            term is then invariant to scale and shift of the student's logits. It needs K > 2: with
            two classes every standardised row is ±(1, −1)/√2. The setting changes neither
            temperature nor weight; the paper has T = 2 and weights of 9 for T²·KL and 0.1 for the
            labels: `experiment=logit_standardisation`.

    Attributes:
        reads_raw_logits: whether `compare` gets the logits as they are, because it also reads
            confidences from them, and standardises what it softens by itself.
    """

    family = "response"
    reads_raw_logits: ClassVar[bool] = False

    def __init__(self, standardise: bool = False) -> None:
        super().__init__()
        self.standardise = standardise

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        # A method without a teacher (tfkd) has no teacher outputs to read.
        reference = teacher if self.needs_teacher else student
        ours, theirs = student.logits.float(), reference.logits.float()
        if not self.reads_raw_logits:
            ours, theirs = self.standardised(ours), self.standardised(theirs)
        return self.compare(ours, theirs, batch.target)

    def standardised(self, logits: Tensor) -> Tensor:
        """Return logits [B, K] standardised, or as they are without `standardise`."""
        return standardise(logits) if self.standardise else logits

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the term from logits [B, K] in float32 and labels [B]."""


def standardise(logits: Tensor) -> Tensor:
    """Scale and shift every row of logits to mean 0 and (unbiased) standard deviation 1.

    Sun, Ren, Li, Wang & Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024,
    https://arxiv.org/abs/2403.01427. As in the paper, 1e-7 is added to the deviation; constant
    rows become 0.

    Args:
        logits: [B, K].

    Returns:
        [B, K].

    Example:
        >>> import torch
        >>> standardise(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[-1.0000,  0.0000,  1.0000]])
    """
    centred = logits - logits.mean(1, keepdim=True)
    # The gradient of sqrt is infinite at 0, the variance of a constant row.
    variance = centred.square().sum(1, keepdim=True) / (logits.shape[1] - 1)
    return centred / (variance.clamp_min(1e-14).sqrt() + 1e-7)
