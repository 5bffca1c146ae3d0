"""Ready-made parts of a run, in place of those that its config describes."""

import hashlib
from dataclasses import dataclass

from torch import nn

from kd.build.method import Method
from kd.data.base import DataModule


@dataclass(frozen=True)
class GivenParts:
    """Objects that a caller of `kd.training.run.run` provides; None: built from the config.

    The config still holds what describes a part: its name (for messages, tables and file names),
    the taps of a net, and everything that trains. For a given net, `student.net` or `teacher.net`
    is `describe_net(net)`, so that the hash of the config, and with it the teacher's cache and
    resuming, tell two given nets apart. For a given method, `method.objectives` and
    `method.weights` may be empty.

    Attributes:
        data: set up, that is with its data in memory and split.
        student: trained in place; its weights are those selected by validation when the run ends.
        teacher: with its trained weights. It is frozen in place (eval mode, no gradients), and
            its outputs are cached or live as for any other teacher; `teacher/source` is `given`.
        method: objectives and the plan of their weights; objectives keep state, so every run
            needs its own.

    Example:
        >>> GivenParts(student=nn.Linear(4, 2)).teacher is None
        True
    """

    data: DataModule | None = None
    student: nn.Module | None = None
    teacher: nn.Module | None = None
    method: Method | None = None


def describe_net(net: nn.Module) -> dict[str, str]:
    """Describe a given net by its class and the names and shapes of its weights.

    The result stands in a config in place of the `_target_` and arguments of a net. The values of
    the weights have no part in it.

    Example:
        >>> describe_net(nn.Linear(4, 2))["given"]
        'torch.nn.modules.linear.Linear'
    """
    kind = type(net)
    shapes = "\n".join(f"{name} {list(value.shape)}" for name, value in net.state_dict().items())
    return {
        "given": f"{kind.__module__}.{kind.__qualname__}",
        "shapes": hashlib.sha256(shapes.encode()).hexdigest()[:12],
    }
