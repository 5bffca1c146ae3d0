"""Runs of jointly trained nets: files, figures, refusals, resuming."""

import csv
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from support import Losses, accuracy, configured

from kd.errors import UserError
from kd.training.run import run
from kd.training.summary import print_summary
from kd.validation.check import check_config

# A last term without restrictions on the number of devices
HARMLESS = (
    "+method.objectives.last={_target_: kd.objectives.ce.CrossEntropy}",
    "+method.weights.last=1",
)


@pytest.mark.parametrize(
    ("options", "peers"),
    [
        (["mode=online", "method=at", "mode.peers=[resnet14,student]"], ["peer1", "peer2"]),
        (["mode=kdcl", "mode.distiller.ensemble=min_loss"], ["peer1"]),
        (["mode=one"], ["branch1", "branch2", "ensemble"]),
    ],
)
@pytest.mark.slow
def test_run_saves_every_net_and_its_figures(options, peers, output, tmp_path, capsys):
    cfg = joint(tmp_path, output, *options, "logger=csv", "trainer.max_epochs=2")
    result: Mapping[str, Any] = run(cfg, tmp_path)
    assert (result["status"], result["teacher"], result["teacher_forwards"]) == (
        *("completed", "peers", 0),
    )
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/acc")]
    best = rows[result["best_epoch"] - 1]
    for peer in peers:
        logged = float(best[f"val/{peer}/acc"])
        assert result[f"{peer}/val/acc"] == pytest.approx(logged), peer
        assert result[f"{peer}/params"] > 10_000
        if peer != "ensemble":
            width = 1.0 if result[f"{peer}/net"] == "resnet14" else 0.5
            own = load_file(tmp_path / f"{peer}.safetensors")
            found = accuracy(own, result[f"{peer}/net"], width)
            assert found == pytest.approx(result[f"{peer}/test/acc"]), peer
    assert accuracy(load_file(tmp_path / "student.safetensors")) == pytest.approx(
        result["test/acc"]
    )
    capsys.readouterr()
    print_summary(result)
    shown = capsys.readouterr().out
    assert all(net in shown for net in ("student", *peers))


def joint(folder, output, *options):
    """As `configured`, with the teacher that the mode implies."""
    return configured(folder, output, *options, teacher=())


@pytest.mark.parametrize("method", ["dkd", "ce", "fitnet"])
def test_offline_methods_run_mutually(method, output, tmp_path):
    short = ("trainer.max_epochs=1", "trainer.limit_train_batches=3")
    watch = "+callbacks.losses={_target_: support.Losses}"
    result = run(
        joint(tmp_path, output, "mode=online", f"method={method}", *short, watch), tmp_path
    )
    assert result["status"] == "completed"
    assert len(Losses.seen) == 3
    assert all(np.isfinite(Losses.seen))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["mode=online", "teacher=resnet18"], "teacher=resnet18: with mode=online the student"),
        (["teacher=peers"], "teacher=peers: mode=offline needs a pretrained teacher"),
        (["mode=online", "mode.peers=[]"], r"mode.peers=\[\]: must name at least one model"),
        (["mode=online", "mode.peers=student"], "mode.peers=student: must name at least one"),
        (["mode=kdcl", "mode.peers=[resnt8]"], "no model 'resnt8'; did you mean 'resnet8'"),
        (["mode=kdcl", "method=at"], "reads teacher taps stage1, stage2, stage3, but mode=kdcl"),
        (["mode=one", "method=fitnet"], "hint reads teacher taps stage2, but mode=one has"),
        (
            ["mode=online", "method=simkd"],
            "reused copies the classifier of a pretrained.*mode=onl",
        ),
        (["mode=online", "method=nd"], "direction keeps class means of a pretrained.*mode=online"),
        (["mode=online", "method=fcfd"], "function runs maps through the layers of a pretrained"),
        (["mode=online", "method=norm"], "matching replaces the head of one student.*mode=online"),
        (
            ["mode=online", "method=at", "mode.peers=[mlp800]"],
            "no tap 'stage3' in mode.peers=mlp800; did you mean",
        ),
    ],
)
def test_incompatible_settings_are_refused(options, message, output, tmp_path):
    with pytest.raises(UserError, match=message):
        check_config(joint(tmp_path, output, *options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["mode=kdcl", "mode.distiller.ensemble=max"], "mode=kdcl: ensemble must be one of"),
        (["mode=one", "mode.distiller.branch_at=stage4"], "mode=one: no tap 'stage4'.*valid: emb"),
        (
            ["mode=online", "method=sp", "trainer.devices=2"],
            "method=sp runs on one device: it compares the images of a batch.*trainer.devices=1",
        ),
        (["mode=online", "method=crd", "trainer.devices=2"], "method=crd runs on .*: its bank of"),
        (["mode=online", "method=sp", *HARMLESS, "trainer.devices=2"], "method=sp runs on one"),
    ],
)
def test_settings_that_do_not_fit_the_nets_are_refused(options, message, output, tmp_path):
    with pytest.raises(UserError, match=message):
        run(joint(tmp_path, output, *options), tmp_path)


def test_several_devices_are_refused_before_a_teacher_is_trained(output, tmp_path):
    teachers = tmp_path / "teachers"
    options = ("method=sp", "trainer.devices=2", f"paths.teachers={teachers}")
    with pytest.raises(UserError, match="method=sp runs on one device"):
        run(configured(tmp_path, output, *options), tmp_path)
    assert not teachers.exists()


@pytest.mark.parametrize(("mode", "step"), [("online", 14), ("one", 5)])
def test_resumed_run_equals_an_uninterrupted_one(mode, step, output, tmp_path):
    options = (f"mode={mode}", "trainer.max_epochs=2")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected: Mapping[str, Any] = run(joint(whole, output, *options), whole)
    stop = f"+callbacks.stop={{_target_: support.InterruptAt, step: {step}}}"
    with pytest.raises(SystemExit, match="130"):
        run(joint(broken, output, *options, stop), broken)
    resumed: Mapping[str, Any] = run(joint(broken, output, *options, f"resume={broken}"), broken)
    figures = [key for key in expected if key.endswith(("/acc", "/nll", "/ece"))]
    assert len(figures) > 6
    for key in ("best_epoch", *figures):
        assert resumed[key] == expected[key], key
    for file in whole.glob("*.safetensors"):
        theirs = load_file(file)
        for key, value in load_file(broken / file.name).items():
            assert value.equal(theirs[key]), (file.name, key)
