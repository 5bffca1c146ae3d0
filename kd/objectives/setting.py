"""Data and nets of a run, from which objectives build their adapters."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from kd.types import Outputs

Run = Callable[[Tensor], Outputs]  # images [B, C, H, W] -> outputs of a net


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
        run_student, run_teacher: run a net on images of the objective's own, for outputs with the
            taps that the method reads: the student as in a training step, the teacher without
            gradients. None: the mode or the teacher cannot.
    """

    num_classes: int
    targets: Tensor
    student_head: nn.Module | None = None
    teacher_head: nn.Module | None = None
    image_size: tuple[int, int] | None = None
    pad_index: int | None = None
    student_net: nn.Module | None = None
    teacher_net: nn.Module | None = None
    run_student: Run | None = None
    run_teacher: Run | None = None
