"""A teacher's key in the registry holds all that its weights depend on, and nothing else."""

from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from kd.config.compose import CONF_DIR, register_models
from kd.training.teacher_run import teacher_key, teacher_run


def composed(*overrides: str):
    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", overrides=["paths.run=run", *overrides])


def key(*overrides: str, fingerprint: str = "data") -> str:
    data: Any = SimpleNamespace(fingerprint=fingerprint)
    return teacher_key(composed(*overrides), data)


@pytest.mark.parametrize(
    "override",
    [
        "teacher.net.width=2",
        "teacher=resnet32",
        "data.view.pixels=2",
        "teacher.training.seed=1",
        "teacher.training.batch_size=32",
        "teacher.training.optimizer.lr=0.1",
        "teacher.training.trainer.max_epochs=3",
        "teacher.training.trainer.precision=bf16-mixed",
    ],
)
def test_settings_of_the_teacher_change_its_key(override):
    assert key(override) != key()


def test_other_data_change_the_key():
    assert key(fingerprint="other") != key()


@pytest.mark.parametrize(
    "override",
    [
        "seed=5",
        "method=fitnet",
        "method.alpha=0.5",
        "student=mlp800",
        "optimizer.lr=0.5",
        "optimizer=adam",
        "data.batch_size=16",
        "trainer.max_epochs=3",
        "trainer.precision=bf16-mixed",
        "trainer=cpu",
        "trainer.enable_progress_bar=false",
        "paths.output=elsewhere",
    ],
)
def test_settings_of_the_student_leave_the_key_unchanged(override):
    assert key(override) == key()


def test_the_teacher_is_trained_with_its_own_settings(tmp_path):
    cfg = composed("seed=5", "trainer.max_epochs=3", "optimizer.lr=9", "data.batch_size=7")
    run = teacher_run(cfg, tmp_path)
    assert (run.seed, run.data.seed) == (0, 0)
    assert (run.method.name, run.student.name, run.teacher.net) == ("ce", "resnet20", None)
    assert (run.trainer.max_epochs, run.optimizer.lr, run.data.batch_size) == (40, 0.05, 64)
    assert run.paths.run == str(tmp_path)
    assert cfg.student.name == "resnet8"
