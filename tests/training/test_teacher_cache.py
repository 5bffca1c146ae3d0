"""Runs with cached teacher outputs: equal to live ones, and computed once for all runs."""

import signal
from itertools import product

import pytest
import torch
from lightning import Callback
from support import Losses, configured, present

from kd.data.digits import Digits
from kd.data.views import Shift
from kd.io.result_file import read_result
from kd.teachers.cached import CachedTeacher
from kd.training.run import run


class InterruptCaching(Callback):
    """Raise SIGINT, as Ctrl-C does, while teacher outputs are computed for the cache."""

    def on_teacher_progress(self, done: int, total: int) -> None:
        if done < total:
            signal.raise_signal(signal.SIGINT)


def test_outputs_for_other_images_end_the_run(output, tmp_path, monkeypatch):
    """Outputs of the next epoch's views, as an off-by-one error in an epoch would produce."""
    prepare = CachedTeacher.prepare

    def off_by_one(self, loader, index, report):
        loader.sampler.epoch += 1
        prepare(self, loader, index, report)
        loader.sampler.epoch -= 1

    monkeypatch.setattr(CachedTeacher, "prepare", off_by_one)
    with pytest.raises(RuntimeError, match="teacher outputs belong to other images"):
        run(configured(tmp_path, output, "trainer.max_epochs=1"), tmp_path)
    assert present(read_result(tmp_path))["status"] == "failed"


def test_filling_the_cache_can_be_interrupted(output, tmp_path):
    stop = "+callbacks.stop={_target_: test_teacher_cache.InterruptCaching}"
    fresh = f"paths.cache={tmp_path / 'cache'}"
    with pytest.raises(SystemExit, match="130"):
        run(configured(tmp_path, output, fresh, stop), tmp_path)
    assert present(read_result(tmp_path))["error"] == "interrupted"
    assert not (tmp_path / "checkpoints").exists()  # it was interrupted before the first step


@pytest.mark.parametrize(
    ("method", "dtype", "relative"),
    [
        ("kd", "float16", 1e-3),
        pytest.param("kd", "float32", 1e-6, marks=pytest.mark.slow),
        pytest.param("at", "float32", 1e-6, marks=pytest.mark.slow),
    ],
)
def test_cached_and_live_losses_agree(method, dtype, relative, output, tmp_path):
    losses = {}
    for mode in ("off", "refresh", "on"):
        options = (f"method={method}", f"teacher.cache.mode={mode}", f"teacher.cache.dtype={dtype}")
        watch = "+callbacks.losses={_target_: support.Losses}"
        result = run(configured(tmp_path / mode, output, *options, watch), tmp_path / mode)
        assert result["teacher/outputs"] == ("live" if mode == "off" else "cached")
        losses[mode] = list(Losses.seen)
    assert len(losses["off"]) == 30
    assert losses["refresh"] == losses["on"]
    assert losses["on"] == pytest.approx(losses["off"], rel=relative)


@pytest.mark.slow
def test_a_sweep_runs_the_teacher_once(output, tmp_path):
    """Eight jobs, three epochs, nine views: one pass over the views in use and the test set."""
    shared = [
        "paths.cache=" + str(tmp_path / "cache"),
        "paths.teachers=" + str(output / "teachers"),
    ]
    forwards = []
    for number, (temperature, alpha) in enumerate(product((1, 2, 4, 8), (0.5, 0.9))):
        knobs = [f"method.temperature={temperature}", f"method.alpha={alpha}"]
        folder = tmp_path / str(number)
        result = run(configured(folder, output, *shared, *knobs, "trainer.max_epochs=3"), folder)
        forwards.append(result["teacher_forwards"])
    assert forwards[1:] == [0] * 7
    views = set()
    loader = Digits(name="digits", view=Shift(), batch_size=128)
    loader.prepare_data()
    loader.setup()
    training = loader.train_dataloader()
    for epoch in range(3):
        training.sampler.set_epoch(epoch)
        index = training.sampler.order()[: 128 * len(training)]
        views |= set((index * 9 + training.views(index, epoch)).tolist())
    assert forwards[0] == len(views) + loader.num_samples["test"]


def test_methods_with_other_taps_share_the_logits(output, tmp_path, caplog):
    cache = f"paths.cache={tmp_path / 'cache'}"
    forwards = {}
    with caplog.at_level("INFO", "kd.teachers.cached"):
        for name in ("at", "kd"):
            folder = tmp_path / name
            result = run(configured(folder, output, f"method={name}", cache), folder)
            forwards[name] = result["teacher_forwards"]
    assert forwards["at"] > 1000
    assert forwards["kd"] == 0
    assert "teacher outputs cached as float16 (relative error: logits " in caplog.text
    assert "stage3 " in caplog.text


@pytest.mark.slow
def test_a_net_whose_code_changed_fills_the_cache_again(output, tmp_path, monkeypatch, caplog):
    cache = f"paths.cache={tmp_path / 'cache'}"

    def forwards(name):
        return run(configured(tmp_path / name, output, cache), tmp_path / name)["teacher_forwards"]

    first, second = forwards("first"), forwards("second")
    assert (first > 1000, second) == (True, 0)
    normal = torch.nn.functional.adaptive_avg_pool2d
    pool = torch.nn.AdaptiveAvgPool2d
    monkeypatch.setattr(pool, "forward", lambda self, x: 2 * normal(x, self.output_size))
    monkeypatch.setattr("kd.training.single_teacher._check_record", lambda *_: None)
    assert forwards("third") == first
    assert "was filled with other outputs of the teacher" in caplog.text


def test_the_cache_holds_only_the_map_that_cwd_reads(output, tmp_path, monkeypatch):
    """Not those of the stages that could have taken its place."""
    stored = []
    prepare = CachedTeacher.prepare

    def record(self, *arguments):
        stored.append(set(self.cache.stores))
        prepare(self, *arguments)

    monkeypatch.setattr(CachedTeacher, "prepare", record)
    cache = f"paths.cache={tmp_path / 'cache'}"
    run(configured(tmp_path, output, "method=cwd", "trainer.max_epochs=1", cache), tmp_path)
    assert stored[-1] == {"logits", "stage3"}
