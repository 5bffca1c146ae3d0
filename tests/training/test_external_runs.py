"""Runs on a user's own data."""

import logging
from typing import Any

import pytest
import torch
from foreign import Pictures, Stream, images_of
from omegaconf import open_dict
from safetensors.torch import load_file
from support import InterruptAt, configured
from torch.utils.data import DataLoader, WeightedRandomSampler

from kd.build.given import GivenParts
from kd.data.adapt import adapt
from kd.errors import UserError
from kd.training.run import run

MODULE = ("data=external", "data._target_=foreign.Hooked", "data.num_classes=10")


def given(train=None, **settings):
    if train is None:
        train = DataLoader(Pictures("train", noise=0.2), 128, shuffle=True, drop_last=True)
    data = adapt((train, Pictures("val"), Pictures("test")), num_classes=10, **settings)
    data.setup()
    return GivenParts(data=data)


def config(folder, output, *overrides):
    """Of a run with given data: there is no `_target_` that would make them."""
    cfg = configured(folder, output, "data=external", "data._target_=given", *overrides)
    with open_dict(cfg):
        del cfg.data["_target_"]
    return cfg


def test_a_data_module_named_in_the_config(output, tmp_path, caplog):
    cfg = configured(tmp_path, output, *MODULE, "data.batch_size=100", "method=kd")
    with caplog.at_level(logging.INFO):
        result = run(cfg, tmp_path)
    assert result["status"] == "completed"
    assert result["teacher_forwards"] > 3 * 1200  # three epochs, and the test set once
    assert result["teacher/outputs"] == "live"
    assert any("every batch" in message and "random" in message for message in caplog.messages)


def test_a_teacher_is_trained_on_such_data_once(output, tmp_path):
    first, second = (
        run(configured(tmp_path / name, output, *MODULE, "trainer.max_epochs=1"), tmp_path / name)
        for name in "ab"
    )
    assert second["teacher/source"] == "reused"
    assert first["teacher/test/acc"] == second["teacher/test/acc"]
    assert first["test/nll"] == second["test/nll"]


@pytest.mark.parametrize(
    "method", [*(pytest.param(n, marks=pytest.mark.slow) for n in ("ce", "kd")), "crd"]
)
def test_resuming_within_an_epoch_changes_nothing(method, output, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    told = [f"method={method}", "student=mlp800"] if method == "ce" else [f"method={method}"]
    expected = run(config(whole, output, *told), whole, given())
    with pytest.raises(SystemExit, match="130"):
        run(config(broken, output, *told), broken, given(), [InterruptAt(13)])
    resumed = run(config(broken, output, *told), broken, given())
    assert resumed["test/nll"] == expected["test/nll"]
    theirs = load_file(whole / "student.safetensors")
    for key, value in load_file(broken / "student.safetensors").items():
        assert value.equal(theirs[key]), key


def test_modes_with_a_memory_run_on_map_style_data(output, tmp_path):
    cfg = config(tmp_path, output, "mode=pskd", "teacher=itself", "trainer.max_epochs=1")
    assert run(cfg, tmp_path, given())["status"] == "completed"


def sampled():
    weights = WeightedRandomSampler([1.0] * 1293, 1200)
    return given(DataLoader(Pictures("train"), 100, sampler=weights))


def test_with_a_foreign_sampler_a_run_resumes_from_the_last_whole_epoch(output, tmp_path):
    cfg = config(tmp_path, output, "method=ce")
    with pytest.raises(SystemExit, match="130"):
        run(cfg, tmp_path, sampled(), [InterruptAt(13)])
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 12  # the interrupt came at step 13
    assert run(config(tmp_path, output, "method=ce"), tmp_path, sampled())["epochs"] == 3


def streamed():
    return given(DataLoader(Stream("train"), 100))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("method=crd",),
            r"method\.objectives\.contrast\w* keeps a memory by sample index: an Itera",
        ),
        (("mode=pskd", "teacher=itself"), "mode=pskd keeps a memory by sample index"),
        (
            ("mode=cskd", "teacher=itself"),
            "mode=cskd reads training images by index: .* not in mem",
        ),
        (("figures=[1]",), "figures: the images are not in memory"),
        (("method=kd",), "teacher=resnet8 has no checkpoint, and .* IterableDataset"),
        (("method=ce",), "has no length, which schedules need; set trainer.limit_train_batches"),
    ],
)
def test_features_a_stream_lacks_are_refused_before_training(overrides, message, output, tmp_path):
    with pytest.raises(UserError, match=message):
        run(config(tmp_path, output, *overrides), tmp_path, streamed())


def test_a_stream_trains_for_a_given_number_of_batches(output, tmp_path):
    limit = "+trainer.limit_train_batches=10"
    cfg = config(tmp_path, output, "method=ce", limit, "trainer.max_epochs=2")
    result = run(cfg, tmp_path, streamed())
    assert result["epochs"] == 2
    assert 0 < result["test/acc"] <= 1


def test_labels_are_not_read_where_nothing_needs_them(output, tmp_path):
    class Unlisted(Pictures):
        targets: Any
        read = 0

        def __init__(self, split):
            super().__init__(split)
            self.kept, self.targets = self.targets, None

        def __len__(self) -> int:
            return len(self.kept)

        def __getitem__(self, index):
            Unlisted.read += 1
            return self.images[index].float() / 255, self.kept[index]

    data = given(DataLoader(Unlisted("train"), 128, shuffle=True, drop_last=True))
    run(config(tmp_path, output, "method=ce", "trainer.max_epochs=1"), tmp_path, data)
    assert Unlisted.read < 1293 + 64 + 10  # one epoch, the fingerprint and the first look
    assert images_of("train")[1].shape == (1293,)
