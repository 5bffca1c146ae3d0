"""A live teacher of which some parts train along with the student.

A strong teacher is far from what a small student can be. Huang, You, Wang, Qian & Xu
("DIST+: Knowledge Distillation From a Stronger Adaptive Teacher", TPAMI 2025,
https://doi.org/10.1109/TPAMI.2025.3554235) make the distance smaller by an acclimation of the
teacher. This is its general form, not that paper's procedure: the parts are named by the user, and
the loss is the run's own, by two ways or one of them:

| `loss` | the gradient that reaches the teacher's parts |
|---|---|
| `method` | that of the method's terms, through the teacher's outputs |
| `labels` | that of the method's term for labels, on the teacher's logits, with the term's weight |
| `both` | the sum |

`method` alone has a trivial minimum, a teacher that says nothing; `both` is held by the labels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kd.errors import UserError, closest
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.wrapped import WrappedTeacher
from kd.types import Batch, Outputs, joined

STATISTICS = "bn"  # the part that is no module: the running statistics of batch norm
LOSSES = ("both", "labels", "method")


class UpdatedTeacher(WrappedTeacher):
    """Runs on every batch; the named parts are trained, all others stay as they are.

    The changing tensors are in the state dict, the others are not.

    Args:
        teacher: the live teacher.
        parts: names of modules or parameters of its net, whose parameters train, and `bn`, with
            which batch norm normalises by the batch and follows it in its running statistics.
        loss: one of `LOSSES`.
        rate: learning rate of the parts; None: the student's.

    Raises:
        UserError: the net has no such part.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 10))
        >>> teacher = UpdatedTeacher(FrozenTeacher(net, {}, []), ["2"])
        >>> sorted(teacher.changing), len(teacher.state_dict())
        (['2.bias', '2.weight'], 2)
    """

    teacher: FrozenTeacher

    def __init__(
        self,
        teacher: FrozenTeacher,
        parts: Sequence[str],
        loss: str = "both",
        rate: float | None = None,
    ) -> None:
        super().__init__(teacher)
        self.parts, self.rate = tuple(parts), rate
        self.changing = changing_tensors(teacher.net, parts)
        for name, parameter in teacher.net.named_parameters():
            parameter.requires_grad_(name in self.changing)
        trains = bool(self.trained())
        self.learns_labels = trains and loss in ("both", "labels")
        self.learns_method = trains and loss in ("both", "method")
        self.loss = loss if trains else None
        self.train(True)

    def train(self, mode: bool = True) -> "UpdatedTeacher":
        """Set the mode of the batch norm whose statistics change; all else stays in eval mode."""
        super().train(False)
        self._mode = mode
        for name, module in self.teacher.net.named_modules():
            if f"{name}.running_mean" in self.changing:
                module.train(mode)
        return self

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        """Return the tensors that change."""
        found = {} if destination is None else destination
        prefix, keep_vars = kwargs.get("prefix", ""), kwargs.get("keep_vars", False)
        for name, value in self.teacher.net.state_dict(keep_vars=keep_vars).items():
            if name in self.changing:
                found[f"{prefix}teacher.net.{name}"] = value
        return found

    def trained(self) -> list[nn.Parameter]:
        """The parameters that train."""
        return [p for p in self.teacher.net.parameters() if p.requires_grad]

    def outputs(self, batch: Batch) -> Outputs:
        """Return logits [B, K] and the wanted taps, with the gradients of the parts that train.

        Of a batch with two views they have 2·B rows, those of the first views first.
        """
        first = self.teacher.live_outputs(batch.input)
        if batch.second is None:
            return first
        return joined(first, self.teacher.live_outputs(batch.second.input))

    def example_outputs(self, images: Tensor) -> dict[str, Outputs]:
        found = self.teacher.example_outputs(images)
        self.train(self._mode)  # the probe restores the mode of the net as a whole
        return found


def changing_tensors(net: nn.Module, parts: Sequence[str]) -> frozenset[str]:
    """Return the names of the parameters and buffers that the named parts hold.

    Raises:
        UserError: the net has no such part; names the nearest that it has.

    Example:
        >>> sorted(changing_tensors(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), ["0", "bn"]))
        ['0.bias', '0.weight', '1.num_batches_tracked', '1.running_mean', '1.running_var']
    """
    return frozenset(name for part in parts for name in _tensors_of(net, part))


def _tensors_of(net: nn.Module, part: str) -> list[str]:
    if part == STATISTICS:
        found = [*_statistics(net)]
    else:
        found = [k for k, _ in net.named_parameters() if k == part or k.startswith(f"{part}.")]
    if found:
        return found
    valid = [k for k, module in net.named_modules() if k and any(True for _ in module.parameters())]
    if [*_statistics(net)]:
        valid.append(STATISTICS)
    close = closest(part, valid)
    hint = "" if close is None else f"did you mean {close!r}? "
    outer = ", ".join(name for name in valid if "." not in name)
    raise UserError(
        f"teacher.update: {type(net).__name__} has no part {part!r} with parameters; {hint}valid: "
        f"{outer}, and what is inside them"
    )


def _statistics(net: nn.Module) -> Iterator[str]:
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            yield from (f"{name}.{key}" for key, _ in module.named_buffers(recurse=False))


def detached(outputs: Outputs) -> Outputs:
    """Return outputs through which no gradient flows."""
    taps = {name: tensor.detach() for name, tensor in outputs.taps.items()}
    return Outputs(outputs.logits.detach(), taps)
