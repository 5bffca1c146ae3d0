"""Reproduced experiments: every row is a valid run, their own figures, and whole runs."""

import os
import subprocess
import sys

import comparison as compare
import numpy as np
import pytest
import reproduce
from commands import ROOT
from hydra import compose, initialize_config_dir
from PIL import Image
from reproductions import mnist

from kd.config.compose import CONF_DIR, register_models
from kd.config.overrides import expand_shorthand
from kd.validation.check import check_config


def reproduced(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/reproduce.py", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", reproduce.EXPERIMENTS)
def test_every_row_is_a_valid_run(name, tmp_path):
    register_models(CONF_DIR)
    for row in reproduce.EXPERIMENTS[name].rows.values():
        overrides = [override.format(seed=0, folder=tmp_path) for override in row]
        kind = "chain" if overrides[-1].startswith("stages") else "train"
        shared = [f"paths.run={tmp_path}", f"paths.output={tmp_path}", "logger=csv"]
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            cfg = compose(kind, overrides=[*map(expand_shorthand, overrides), *shared])
        if kind == "train":
            check_config(cfg)


def test_the_bias_of_a_class_that_was_left_out_is_chosen_on_other_images():
    # Two images of the class: one needs 2 on its logit, the other 5; more than 4 spoils a third.
    logits = np.zeros((4, 10), np.float32)
    logits[0, 0], logits[1, 2], logits[2, 1], logits[3, 2] = 2, 5, 4, 9
    labels = np.array([3, 3, 1, 2])
    assert mnist.accuracies(logits, labels, 0.0) == {"acc": 0.5, "acc_left_out": 0.0}
    bias = mnist.best_bias(logits, labels)
    assert bias == 2.1  # the least constant with three of four right
    assert mnist.accuracies(logits, labels, bias) == {"acc": 0.75, "acc_left_out": 0.5}


def test_an_unknown_row_is_named_with_the_known_ones(tmp_path):
    failed = reproduced("mnist", tmp_path / "runs", "--rows", "kd_without_4")
    assert failed.returncode == 2
    assert (
        "--rows kd_without_4: there is none; did you mean 'kd_without_3'? valid: ce, "
        in failed.stderr
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("share", ["foo", "2/2", "1"])
def test_a_share_that_does_not_exist_is_refused(share, tmp_path):
    failed = reproduced("mnist", tmp_path / "runs", "--share", share)
    assert failed.returncode == 2
    assert f"{share}: must be k/n with k from 0 to n - 1, as 0/2 and 1/2" in failed.stderr
    assert not (tmp_path / "runs").exists()


def test_a_failed_run_is_named_and_ends_the_command_with_an_error(tmp_path):
    chosen = ["--rows", "ce", "--seeds", 0, "--images", tmp_path / "nowhere"]
    failed = reproduced("tutorial", tmp_path / "runs", *chosen)
    assert failed.returncode == 1
    assert failed.stdout.startswith("ce seed 0: UserError: data.root=")
    assert "nowhere is not a folder" in failed.stdout


@pytest.mark.slow
def test_a_run_a_chain_and_a_restart(tmp_path):
    images = tmp_path / "images"
    generator = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 4)):
        for label in "ab":
            (images / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(images / split / label / f"{number}.png")
    short: list[object] = ["trainer.max_epochs=1", "teacher.training.trainer.max_epochs=1"]
    short += ["data.train_samples=null", "--images", images, "--seeds", 0]
    views = ["views", tmp_path / "views", *short, "--rows", "kd_4", "ce_all"]
    first = reproduced(*views)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("seed 0: 0.") + first.stdout.count("seed 0: 1.") == 2, first.stdout
    result = compare.read(tmp_path / "views" / "kd_4_s0")
    assert result["data"] == "cifar10_jpeg"
    assert not (tmp_path / "views" / "kd_4_s0" / "checkpoints").exists()
    assert not (tmp_path / "views" / "kd_4_s0" / "cache").exists()
    assert reproduced(*views).stdout == ""  # nothing is left to do
    chain = ["guide", tmp_path / "guide", "stages=[resnet8,resnet8]", *short]
    done = reproduced(*chain, "--rows", "half_chain")
    assert done.returncode == 0, done.stderr
    assert compare.read(tmp_path / "guide" / "half_chain_s0")["status"] == "completed"


@pytest.mark.slow
@pytest.mark.skipif("KD_DATA_DIR" not in os.environ, reason="needs MNIST")
def test_threes_are_recognised_without_having_been_seen(tmp_path):
    short = ["trainer.max_epochs=2", "teacher.training.trainer.max_epochs=2"]
    rows = ["--rows", "kd_without_3", "ce_without_3", "--seeds", 0]
    done = reproduced("mnist", tmp_path, *short, "data.train_samples=10000", *rows)
    assert done.returncode == 0, done.stderr
    taught, alone = (compare.read(tmp_path / f"{way}_without_3_s0") for way in ("kd", "ce"))
    assert alone["test/acc_per_class"][3] == 0
    corrected = (tmp_path / "kd_without_3_s0" / mnist.CORRECTED).read_text()
    assert taught["test/acc_per_class"][3] > 0.3, corrected
