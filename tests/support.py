"""Configs, data and callbacks that several test files share."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_method
from lightning import Callback
from omegaconf import OmegaConf

from kd.config.compose import CONF_DIR, model_config, plain, register_models
from kd.data.digits import Digits
from kd.data.vision import MNIST


def configured(folder, output, *overrides, teacher=("teacher=resnet8",)):
    register_models(CONF_DIR)
    tiny = [*teacher, "student=resnet8", "student.net.width=0.5", "trainer=cpu"]
    tiny += ["trainer.enable_progress_bar=false", "trainer.max_epochs=3", "logger=none"]
    tiny += ["teacher.training.trainer.max_epochs=1", "data.batch_size=128"]
    paths = [f"paths.run={folder}", f"paths.output={output}"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", overrides=[*tiny, *paths, *overrides])


class Losses(Callback):
    """Note the loss of every step."""

    seen: ClassVar[list] = []

    # Not when it is made: a teacher that has to be trained first has one of its own.
    def on_train_start(self, trainer, pl_module) -> None:
        self.seen.clear()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen.append(outputs["loss"].item())


def composed(*overrides: str):
    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", overrides=["paths.run=run", *overrides])


def accuracy(weights, name="resnet8", width=0.5):
    """Of weights in a plain net, on the test set of the digits."""
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


def hydra(*task, config_dir=None, search=()):
    """Hydra's part of a config, as far as it is read again."""
    sources = [{"provider": "main", "path": "conf", "schema": "file"}]
    if config_dir is not None:
        sources.append({"provider": "command-line", "path": config_dir, "schema": "file"})
    own = ["hydra.mode=RUN", *(f"hydra.searchpath=[{path}]" for path in search)]
    content = {"overrides": {"task": [*task], "hydra": own}}
    return OmegaConf.create(content | {"runtime": {"config_sources": sources}})


def idx(values: torch.Tensor) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.dim()]) + sizes + values.numpy().tobytes()


def mnist(root, **settings):
    return MNIST(root=str(root), name="mnist", batch_size=16, **settings)


LIMIT = 60  # seconds that a case may take


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
