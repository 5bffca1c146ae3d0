"""Settings that belong to an experiment's identity, and those that do not."""

import pytest
from support import composed

from kd.config.experiment import differing, experiment_settings, name_differences
from kd.config.identity import settings_hash

SWA = "lightning.pytorch.callbacks.StochasticWeightAveraging"
CHANGING = [
    *("seed=1", "data.seed=1", "data.batch_size=32", "data.val_fraction=0.2", "data.split_seed=1"),
    *("data.views=2", "data/view=none", "data/augment=mixup", "data.mean=[0.5]", "data=mnist"),
    *("student=resnet14", "student.net.width=0.5", "student.checkpoint=/x", "teacher=vgg8"),
    *("teacher.checkpoint=/x", "teacher.epoch=1", "teacher.cache.mode=off"),
    *("teacher.cache.dtype=float32", "teacher.training.seed=1", "teacher=ensemble"),
    *("teacher.training.trainer.max_epochs=1", "method=dkd", "method.alpha=0.5"),
    *("method.temperature=2", "+method.schedules.alpha._target_=kd.schedules.Cosine"),
    *("mode=online", "optimizer=adam", "optimizer.lr=1", "optimizer.weight_decay=0"),
    *("scheduler=step", "scheduler.warmup=0.5", "trainer.max_epochs=1", "trainer=gpu"),
    *("trainer.precision=16-mixed", "trainer.gradient_clip_val=1", "trainer.devices=2"),
    *("trainer.limit_train_batches=2", "+trainer.accumulate_grad_batches=2"),
    *("+trainer.check_val_every_n_epoch=2", "channels_last=true", "compile=default"),
    *("deterministic=strict", "debug=fast", f"+callbacks.swa={{_target_: {SWA}, swa_lrs: 0.1}}"),
    "+callbacks.stop={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/acc}",
    "+callbacks.grow={_target_: lightning.pytorch.callbacks.GradientAccumulationScheduler}",
    "+callbacks.mine={_target_: support.Losses}",
]
OTHERS = [
    *("paths.output=elsewhere", "paths.cache=/x", "logger=csv", "logger=none", "resume=x"),
    *("checkpoint.every_minutes=1", "figures=true", "keep_epochs=true", "doctor=true"),
    *("trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1", "~callbacks.progress"),
    *("teacher.training.trainer.enable_progress_bar=false", "callbacks.divergence.every=3"),
    "+callbacks.rate={_target_: lightning.pytorch.callbacks.lr_monitor.LearningRateMonitor}",
    "+callbacks.sizes={_target_: lightning.pytorch.callbacks.ModelSummary}",
]


@pytest.fixture(scope="module")
def base():
    return settings_hash(composed())


@pytest.mark.parametrize("override", CHANGING)
def test_what_may_change_a_number_changes_the_hash(override, base):
    assert settings_hash(composed(override)) != base


@pytest.mark.parametrize("override", OTHERS)
def test_what_is_written_and_shown_does_not(override, base):
    assert settings_hash(composed(override)) == base


def test_paths_of_data_and_weights_do_not():
    """Fingerprints stand for them."""
    for key in ("data.root", "teacher.checkpoint", "student.checkpoint"):
        here, there = (composed("data=mnist", f"{key}=/{place}") for place in ("here", "there"))
        assert settings_hash(here) == settings_hash(there)
    one, other = (
        composed("teacher=ensemble", f"teacher.checkpoints=[/{x}/a,/{x}/b]") for x in "xy"
    )
    assert settings_hash(one) == settings_hash(other)


def test_unresolved_settings_are_equal_for_all_seeds():
    one, other = (experiment_settings(composed(f"seed={n}"), resolve=False) for n in (0, 1))
    assert differing(one, other) == {"seed": (0, 1)}


def test_differences_are_named():
    found = differing({"a": 1, "b": 2}, {"b": 3, "c": [4]})
    assert found == {"b": (2, 3), "c": ("absent", [4]), "a": (1, "absent")}
    assert name_differences({str(n): (n, 0) for n in range(6)}).endswith("and 2 more changes")
