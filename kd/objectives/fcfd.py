"""Function-consistent features (FCFD): the later layers read both nets' maps alike.

    L = λ·[Σ_k d(a_k, F_t,k) + (2/P)·Σ_k Σ_{j>k} d(T_kj(a_k), F_t,j)]
        + (2/P)·Σ_k T²·[KL(z_t ‖ T_k(a_k)) + KL(z_t ‖ S_k(b_k))],    d(a, b) = ⟨(a − b)²⟩

a_k is the student's map of stage k in the teacher's shape, b_k the teacher's in the student's, by
trained bridges: 3×3 convolution, batch norm and a leaky ReLU. T_kj are the teacher's layers from
stage k to j and T_k those from stage k to its logits; S_k are the student's. Each stage k but the
last begins two paths of layers, P in all: a student's map goes on in the teacher, and a teacher's
map in the student. A difference that the later layers do not read costs little, and one that they
amplify costs much.

Paper: Liu, Kan, Shan & Chen, "Function-Consistent Feature Distillation", ICLR 2023,
https://arxiv.org/abs/2304.11832.

The authors' code draws two paths in every step; here all run, with the weight 2/P at which that has
the same mean. Its teacher runs with the statistics of the batch, and in its mixed paths each batch
norm has statistics of its own. Here the teacher's are those of its training, so that equal features
cost nothing, and the student's are those of the batch, which leave its running statistics alone.
The authors' bridges into stages without a ReLU at their end (MobileNetV2, WRN) have no leaky ReLU.
Their code resamples by strides and transposed convolutions, here `resample` does; it compares the
averages of the last maps as well, and raises λ over the first 20 of 240 epochs.

The layers of both nets must be an `nn.Sequential` with the stages among its members, or among those
of a sequence in it, as the layers of `kd.models` for images are. They run with the nets' own
parameters, and no copy of these is saved.

Reduction: ⟨·⟩ is the mean over the batch, channels and positions; sum over stages; mean over the
batch of the divergences.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.checks import check_temperature
from kd.objectives.kd import kd
from kd.objectives.maps import IMAGES, check_maps, resample
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.objectives.stage_layers import StageLayers
from kd.types import Batch, Outputs

SAMPLED = 2  # paths in a step of the authors' code
Pairs = Sequence[tuple[Tensor, Tensor]]


def fcfd(
    appearance: Pairs,
    function: Pairs,
    paths: Sequence[Tensor],
    teacher_logits: Tensor,
    distance: float = 0.02,
    temperature: float = 4.0,
) -> Tensor:
    """Distances of maps before and behind the teacher's layers, and divergences of paths' logits.

    Args:
        appearance: for every stage a_k and the teacher's map, both [B, C, H, W] of one shape.
        function: for every path in the teacher's layers and every stage on it, the path's map and
            the teacher's.
        paths: the logits of every path, each [B, K].
        teacher_logits: z_t [B, K].
        distance: λ ≥ 0, weight of the maps' distances.
        temperature: T > 0.

    Returns:
        Scalar ≥ 0: mean over the batch, sum over stages; paths have the weight 2 in all.

    Example:
        A map at a distance of 3, which the later layers do not read:

        >>> import torch
        >>> from kd import losses
        >>> teacher, logits = torch.zeros(1, 1, 2, 2), torch.zeros(1, 2)
        >>> losses.fcfd([(teacher + 3, teacher)], [(teacher, teacher)], [logits] * 2, logits, 1.0)
        tensor(9.)

    Reference:
        Liu et al. 2023, https://arxiv.org/abs/2304.11832
    """
    share = SAMPLED / len(paths)
    near, later = (
        torch.stack([F.mse_loss(upcast(own), upcast(other)) for own, other in pairs]).sum()
        for pairs in (appearance, function)
    )
    divergences = torch.stack([kd(logits, teacher_logits, temperature) for logits in paths]).sum()
    return distance * (near + share * later) + share * divergences


class FunctionConsistent(Objective):
    """Function consistency as a loss term, with trained bridges between the nets.

    Args:
        taps: canonical names of two stages or more with maps [B, C, H, W], in forward order, or
            pairs `student:teacher`.
        student_paths: the student's taps, canonical name -> module path.
        teacher_paths: the same of the teacher.
        distance: λ ≥ 0, weight of the maps' distances.
        temperature: T > 0 of the paths' logits.

    Raises:
        ValueError: there are fewer than two taps, or a setting is out of range.
    """

    family = "feature"
    tasks = IMAGES
    reads_logits = True
    runs_teacher_layers = True
    needs_pretrained = "runs maps through the layers of a pretrained teacher"
    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(
        self,
        taps: Sequence[str],
        student_paths: Mapping[str, str],
        teacher_paths: Mapping[str, str] | None,
        distance: float = 0.02,
        temperature: float = 4.0,
    ) -> None:
        super().__init__()
        self.pair(taps)
        if len(taps) < 2:
            raise ValueError(f"taps must name two stages or more, got {list(taps)!r}")
        if not distance >= 0:
            raise ValueError(f"distance must be ≥ 0, got {distance!r}")
        self.student_paths, self.teacher_paths = student_paths, teacher_paths or {}
        self.distance, self.temperature = distance, check_temperature(temperature)
        self.to_teacher, self.to_student = nn.ModuleList(), nn.ModuleList()
        self._layers: tuple[StageLayers, ...] = ()  # of student and teacher; no submodules

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        check_maps("fcfd", self.student_taps, student, teacher)
        stages = [self.student_paths[tap] for tap in self.student_taps]
        ours = StageLayers(setting.student_net, stages, "student")
        stages = [self.teacher_paths[tap] for tap in self.teacher_taps]
        theirs = StageLayers(setting.teacher_net, stages, "teacher")
        maps = [[outputs.taps[tap] for tap in self.student_taps] for outputs in (student, teacher)]
        ours.check(maps[0], student.logits, "student")
        theirs.check(maps[1], teacher.logits, "teacher")
        widths = [(own.shape[1], other.shape[1]) for own, other in zip(*maps, strict=True)]
        self.to_teacher.extend(_bridge(own, other) for own, other in widths)
        self.to_student.extend(_bridge(other, own) for own, other in widths[:-1])
        self._layers = (ours, theirs)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        # After a validation Lightning sets `training` of each submodule, and does not call `train`.
        for layers, training in zip(self._layers, (self.training, False), strict=True):
            layers.train(training)
        ours = [student.taps[tap] for tap in self.student_taps]
        theirs = [teacher.taps[tap].to(ours[0].dtype) for tap in self.student_taps]
        entered = [
            bridge(resample(own, _size(other)))
            for bridge, own, other in zip(self.to_teacher, ours, theirs, strict=True)
        ]
        function: list[tuple[Tensor, Tensor]] = []
        paths: list[Tensor] = []
        for stage, bridge in enumerate(self.to_student):
            *later, logits = self._path(1, stage, entered[stage])
            function += zip(later, theirs[stage + 1 :], strict=True)
            *_, own_logits = self._path(
                0, stage, bridge(resample(theirs[stage], _size(ours[stage])))
            )
            paths += [logits, own_logits]
        appearance = list(zip(entered, theirs, strict=True))
        settings = self.distance, self.temperature
        return fcfd(appearance, function, paths, teacher.logits.float(), *settings)

    def _path(self, net: int, stage: int, maps: Tensor) -> list[Tensor]:
        """Outputs of all stages behind `stage`, and the logits; `net` 0 is the student."""
        outputs = [maps]
        for number in range(stage, len(self.student_taps)):
            outputs.append(self._layers[net].run(number, outputs[-1]))
        return outputs[1:]


def _size(maps: Tensor) -> tuple[int, int]:
    return maps.shape[2], maps.shape[3]


def _bridge(in_channels: int, out_channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.LeakyReLU(0.1))
