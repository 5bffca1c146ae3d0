"""Soft targets of a teacher with a normalisation of its own, image by image."""

import json
from typing import ClassVar

import pytest
import torch
from checkpoint_files import save
from hydra import initialize_config_dir
from lightning import Callback
from support import built, configured
from torch import nn

from kd.chains.run import run_chain
from kd.config.compose import CONF_DIR, register_models
from kd.io.weights import load_weights
from kd.models.published import published_normalisation
from kd.training.run import run

SHORT = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "data/view=none")
MEAN, STD = 0.2, 0.7
DATA = 0.3053, 0.3760  # of conf/data/digits.yaml


class Targets(Callback):
    """Record the raw images of every batch, and the logits that teach on it."""

    seen: ClassVar[list[tuple[torch.Tensor, torch.Tensor]]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        images = trainer.datamodule.arrays.train_inputs[batch.index]
        assert images.dtype == torch.uint8
        self.seen.append((images, pl_module.teacher.outputs(batch).logits))


WATCH = "+callbacks.targets={_target_: test_teacher_normalisation.Targets}"


@pytest.fixture(autouse=True)
def unseen():
    Targets.seen.clear()


def make_net() -> nn.Module:
    """A teacher whose batch norms have statistics of some images."""
    torch.manual_seed(1)
    net = built("resnet8", width=0.5)[0].train()
    with torch.no_grad():
        net(torch.rand(64, 1, 8, 8))
    return net.eval()


def expected(net: nn.Module, images: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    with torch.no_grad():
        return net.eval()((images.float() / 255 - mean) / std)


def check_targets(net: nn.Module, mean: float, std: float, seen) -> None:
    for images, logits in seen:
        wanted = expected(net, images, mean, std)
        scale = float(wanted.abs().max())
        torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-5 * scale)
        other = expected(net, images, *(DATA if mean == MEAN else (MEAN, STD)))
        assert float((logits - other).abs().max()) > 1e-2 * scale


@pytest.mark.parametrize("cache", ["off", "on"])
@pytest.mark.parametrize("source", ["settings", "config.json", "preprocessor_config.json"])
def test_targets_are_those_of_the_own_pipeline(source, cache, tmp_path):
    net = make_net()
    file = save(tmp_path / "x.pt", net.state_dict())
    options = [f"teacher.checkpoint={file}", f"teacher.cache.mode={cache}", "method=kd", WATCH]
    options += ["teacher.cache.dtype=float32", "teacher.net.width=0.5"]
    if source == "settings":
        options += [f"teacher.mean=[{MEAN}]", f"teacher.std=[{STD}]"]
    elif source == "config.json":
        timm = {"architecture": "x", "pretrained_cfg": {"mean": [MEAN], "std": [STD]}}
        (tmp_path / source).write_text(json.dumps(timm))
    else:
        (tmp_path / source).write_text(json.dumps({"image_mean": [MEAN], "image_std": [STD]}))
    result = run(configured(tmp_path / "run", tmp_path, *SHORT, *options), tmp_path / "run")
    assert result["teacher/outputs"] == ("live" if cache == "off" else "cached")
    assert len(Targets.seen) == 2
    check_targets(net, MEAN, STD, Targets.seen)


def test_in_a_chain_only_the_first_teacher_has_them(tmp_path):
    net = make_net()
    file = save(tmp_path / "x.pt", {"a": net.state_dict()})
    options = ["stages=[resnet8,resnet8,resnet8]", "student.net.width=0.5", "teacher.net.width=0.5"]
    options += [f"teacher.checkpoint={file}", "teacher.checkpoint_key=a", "trainer=cpu", *SHORT]
    options += [f"teacher.mean=[{MEAN}]", f"teacher.std=[{STD}]", "logger=none", WATCH]
    options += ["teacher.cache.dtype=float32", "trainer.enable_progress_bar=false"]
    register_models(CONF_DIR)
    folder = tmp_path / "chain"
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        run_chain([f"paths.output={tmp_path}", "method=kd", *options], folder)
    first, second = Targets.seen[:2], Targets.seen[2:]
    assert len(first) == len(second) == 2
    check_targets(net, MEAN, STD, first)
    student = built("resnet8", width=0.5)[0]
    load_weights(student, folder / "1_resnet8")
    check_targets(student, *DATA, second)


def test_timm_and_torchvision_name_theirs_without_a_network(monkeypatch):
    timm = pytest.importorskip("timm")

    def refused(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", refused)
    net = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    half = [0.5, 0.5, 0.5]
    assert published_normalisation(net, {}) == (half, half)
    imagenet = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    named = {"arch": "resnet18", "weights": "IMAGENET1K_V1"}
    assert published_normalisation(nn.Identity(), named) == imagenet
    for unknown in ({"arch": "resnet18", "weights": "V9"}, {"arch": "nn", "weights": "x"}, {}):
        assert published_normalisation(nn.Identity(), unknown) is None
