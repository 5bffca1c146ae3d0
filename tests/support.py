"""Configs, data and callbacks that several test files share."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_method
from lightning import Callback
from omegaconf import OmegaConf
from torch import nn

from kd.config.compose import CONF_DIR, model_config, plain, register_models
from kd.data.arrays import Arrays
from kd.data.digits import Digits
from kd.data.vision import MNIST
from kd.distillers.base import Distiller
from kd.distillers.stages import Plan, Stage
from kd.objectives.base import Objective
from kd.schedules import Constant
from kd.types import Batch

T = TypeVar("T")

# An argument that the tested code must not read.
UNUSED: Any = None

# Methods that must not disappear. A new method need not be added here.
SHIPPED = set(
    """
    ce kd soft_ce logit_mse cosine dkd nkd dist mlkd ctkd ttm wttm wsld tfkd spherical fitnet at nst
    ft ab fsp vid ofd reviewkd srrl simkd semckd catkd ickd mgd cwd srd afd sp cc rkd pkt crd irg
    itrd feature
    """.split()  # noqa: SIM905
)

# Methods that compare the tokens of texts, and nets with layers for them
TEXT_METHODS = ("distilbert", "minilm", "pkd", "tinybert")
# Methods that compare detectors alone
BOX_METHODS = ("det_kd", "fgfi")
# Methods that need a student with a distillation token
TOKEN_METHODS = ("deit",)
# Methods that do not train every classifier of images
OTHER_METHODS = (*TEXT_METHODS, *BOX_METHODS, *TOKEN_METHODS)
TEXT_NETS = ("data=text", "teacher=transformer_mini", "student=transformer_mini_2")


def configured(folder, output, *overrides, teacher=("teacher=resnet8",)):
    register_models(CONF_DIR)
    tiny = [*teacher, "student=resnet8", "student.net.width=0.5", "trainer=cpu"]
    tiny += ["trainer.enable_progress_bar=false", "trainer.max_epochs=3", "logger=none"]
    tiny += ["teacher.training.trainer.max_epochs=1", "data.batch_size=128"]
    paths = [f"paths.run={folder}", f"paths.output={output}"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", overrides=[*tiny, *paths, *overrides])


class Losses(Callback):
    """Record the loss of every step."""

    seen: ClassVar[list] = []

    # Not in the constructor: a teacher that is trained first has the same callback.
    def on_train_start(self, trainer, pl_module) -> None:
        self.seen.clear()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen.append(outputs["loss"].item())


class InterruptAt(Callback):
    """Raise SIGINT, as Ctrl-C does, after the given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            signal.raise_signal(signal.SIGINT)


def composed(*overrides: str):
    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", overrides=["paths.run=run", *overrides])


def accuracy(weights, name="resnet8", width=0.5):
    """Return the accuracy of weights in a plain net on the test set of the digits."""
    net, _ = built(name, width=width)
    net.load_state_dict(weights)
    data = Digits(name="digits", batch_size=64, mean=[0.3053], std=[0.3760])
    data.prepare_data()
    data.setup()
    with torch.no_grad():
        right = [net(batch.input).argmax(1) == batch.target for batch in data.test_dataloader()]
    return torch.cat(right).float().mean().item()


def built(name, **arguments):
    """A model for the digits in eval mode, and its taps."""
    model = model_config(name)
    arguments = plain(model.net) | arguments
    make_net = get_method(arguments.pop("_target_"))
    net = make_net(in_channels=1, image_size=8, num_classes=10, **arguments)
    return net.eval(), plain(model.taps)


def digits_arrays() -> Arrays:
    """All digits, as their data module holds them."""
    data = Digits(name="digits", batch_size=64)
    data.prepare_data()
    data.setup()
    return data.arrays


def idx(values: torch.Tensor) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.dim()]) + sizes + values.numpy().tobytes()


def mnist(root, **settings):
    return MNIST(root=str(root), name="mnist", batch_size=16, **settings)


LIMIT = 60  # seconds for one case


@contextmanager
def within(seconds: int) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise AssertionError(f"it hangs: more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def random_batch(size: int = 6, classes: int = 3) -> Batch:
    """Images [size, 1, 8, 8] and labels that are the same in every call."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, classes, (size,), generator=generator)
    images = torch.randn(size, 1, 8, 8, generator=generator)
    index = torch.arange(size)
    return Batch(images, target, index, torch.zeros_like(index), epoch=0)


def make_distiller(
    mode: type[Distiller],
    objectives: Mapping[str, Objective],
    weights: Mapping[str, float] | None = None,
    momentum: float = 0.0,
    **options,
):
    """A distiller of three classes with SGD at a constant rate, which logs nowhere."""
    distiller = mode(
        objectives=objectives,
        plan=Plan([Stage("", 1.0, weights or dict.fromkeys(objectives, 1.0))]),
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=momentum),
        scheduler=Constant(),
        num_classes=3,
        **options,
    )
    # Lightning's own need a trainer.
    vars(distiller).update(log=log_nothing, log_dict=log_nothing)
    return distiller


def log_nothing(*_: object, **__: object) -> None:
    """Stand in for `LightningModule.log` and `log_dict`."""


def linear_net(seed: int) -> nn.Sequential:
    """Images [B, 1, 8, 8] -> logits [B, 3]."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


class TwoStages(nn.Module):
    """Two stages of maps and a head, with dropout before the head: [B, 1, 8, 8] -> [B, 3]."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(2, 5, 3, stride=4, padding=1), nn.ReLU())
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(self.drop(self.stage2(self.stage1(x)).mean((2, 3))))


def self_distiller(mode, objectives, weights=None, net=None, **options):
    """A distiller of `TwoStages` that has built its adapters; nine training samples."""
    taps = {"stage1": "stage1", "stage2": "stage2", "embedding": "fc:in"}
    net = net or TwoStages()
    distiller = make_distiller(mode, objectives, weights, student=net, tap_paths=taps, **options)
    distiller.build_adapters(torch.zeros(2, 1, 8, 8), torch.arange(9) % 3)
    return distiller


def training_logits(distiller, images):
    """The student's logits in training mode, without gradients."""
    with torch.no_grad():
        return distiller.student(images)


def present(value: T | None) -> T:
    """The value, which must not be None."""
    assert value is not None
    return value


def gradient(tensor: torch.Tensor) -> torch.Tensor:
    """The gradient of a tensor that must have one."""
    return present(tensor.grad)


def unresolved(cfg: Any) -> dict[str, Any]:
    """A config as a dict, with its interpolations as they are written."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg))


def read_yaml(path: Path) -> dict[str, Any]:
    """A config file as a dict, with its interpolations as they are written."""
    return unresolved(OmegaConf.load(path))


def softmax(logits):
    """Softmax over the last axis in NumPy, in float64."""
    powers = np.exp(np.asarray(logits, dtype=np.float64) - np.max(logits, -1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def divergence(p, q):
    """Mean over the batch of KL(p || q) of probabilities [B, K]."""
    return (p * (np.log(p) - np.log(q))).sum(1).mean()


class Watch(Callback):
    """Record the random state at the start, then progress and learning rate after every step."""

    seen: ClassVar[list] = []

    def on_train_start(self, trainer, pl_module) -> None:
        self.seen.clear()  # the teacher's training has a Watch as well
        self.seen.append(torch.get_rng_state())

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.seen.append((pl_module.progress, rate))
