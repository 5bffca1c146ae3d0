"""Runs of self-distillation: figures, refusals, resuming."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from lightning import Callback
from safetensors.torch import load_file
from support import composed, configured

from kd.errors import UserError
from kd.training.run import run
from kd.validation.check import check_config

ITSELF = ("teacher=itself", "trainer.max_epochs=2")


class Recurrence(Callback):
    """Compute the average of the student's weights after each optimizer step independently."""

    seen: ClassVar[list] = []
    weights: ClassVar[dict] = {}

    def on_train_start(self, trainer, pl_module) -> None:
        self.seen.clear()
        self.weights.update({k: p.detach().clone() for k, p in self.parameters(pl_module)})

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == len(self.seen):
            return
        self.seen.append(trainer.global_step)
        keep = min(1 - 1 / (trainer.global_step + 1), 0.8)
        for key, parameter in self.parameters(pl_module):
            self.weights[key] = keep * self.weights[key] + (1 - keep) * parameter.detach()
        for key, parameter in pl_module.average.module.named_parameters():
            torch.testing.assert_close(parameter, self.weights[key])

    @staticmethod
    def parameters(pl_module):
        return pl_module.student.named_parameters()


def test_average_is_updated_once_an_optimizer_step(output, tmp_path):
    options = ["mode=mean_teacher", "mode.distiller.decay=0.8", "method=at"]
    options += ["+trainer.accumulate_grad_batches=2", "+callbacks.watch=" + TARGET]
    result: Mapping[str, Any] = run(configured(tmp_path, output, *ITSELF, *options), tmp_path)
    assert Recurrence.seen == list(range(1, 11))
    assert 0 < result["test/ema/acc"] <= 1
    assert all(not key.startswith("average") for key in load_file(tmp_path / "student.safetensors"))


TARGET = "{_target_: test_self_runs.Recurrence}"


@pytest.mark.parametrize(
    ("mode", "method", "step"),
    [
        ("pskd", "kd", 5),
        pytest.param("pskd", "kd", 10, marks=pytest.mark.slow),
        pytest.param("pskd", "dkd", 14, marks=pytest.mark.slow),
        pytest.param("cskd", "at", 14, marks=pytest.mark.slow),
        ("mean_teacher", "kd", 14),
        pytest.param("byot", "cosine", 14, marks=pytest.mark.slow),
    ],
)
def test_resumed_run_equals_an_uninterrupted_one(mode, method, step, output, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    final = "+callbacks.final={_target_: test_self_runs.Final}"
    options = (*ITSELF, f"mode={mode}", f"method={method}", final)
    expected: Mapping[str, Any] = run(configured(whole, output, *options), whole)
    finals = [dict(Final.state)]
    stop = f"+callbacks.stop={{_target_: support.InterruptAt, step: {step}}}"
    with pytest.raises(SystemExit, match="130"):
        run(configured(broken, output, *options, stop), broken)
    resumed: Mapping[str, Any] = run(
        configured(broken, output, *options, f"resume={broken}"), broken
    )
    finals.append(dict(Final.state))
    assert {k for k in resumed if k.startswith("test/")} >= {"test/acc", "test/nll"}
    for key in {k for k in resumed if k.startswith("test/")} | {"val/acc", "best_epoch", "epochs"}:
        assert resumed[key] == expected[key], key
    assert finals[0].keys() == finals[1].keys()
    for key, value in finals[0].items():
        assert value.equal(finals[1][key]), key


class Final(Callback):
    """Keep the state dict at the end of training."""

    state: ClassVar[dict] = {}

    def on_train_end(self, trainer, pl_module) -> None:
        self.state.update({k: v.clone() for k, v in pl_module.state_dict().items()})


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("pskd", set()),
        ("cskd", set()),
        ("mean_teacher", {"test/ema/acc"}),
        ("byot", {"test/exit1/acc", "test/exit2/acc"}),
    ],
)
def test_published_settings_run(name, extra, output, tmp_path):
    result = run(configured(tmp_path, output, *ITSELF, f"experiment={name}"), tmp_path)
    assert (result["mode"], result["teacher"], result["status"]) == (name, "itself", "completed")
    assert result["teacher_forwards"] == 0
    assert result["compression"] is None
    assert {key for key in result if key.startswith("test/")} >= {"test/acc", *extra}
    weights = load_file(tmp_path / "student.safetensors")
    assert {key.split(".")[0] for key in weights} == {"stem", "stage1", "stage2", "stage3", "fc"}
    assert result["student/params"] == sum(
        value.numel() for key, value in weights.items() if "running" not in key and "num" not in key
    )


def test_mode_self_is_an_alias_of_pskd():
    mode, other = (composed(f"mode={name}") for name in ("self", "pskd"))
    assert mode == other
    assert mode.teacher.name == "itself"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["mode=pskd", "method=at"],
            "teacher taps stage1, stage2, stage3, but mode=pskd has logits only",
        ),
        (
            ["mode=byot", "method=at"],
            "student taps stage1, stage2, stage3, but mode=byot has embedding",
        ),
        (
            ["mode=byot", "method=at"],
            "teacher taps stage1, stage2, stage3, but mode=byot has embedding",
        ),
        (["mode=cskd", "method=fitnet", "method.student_tap=stag2"], "no tap 'stag2'.*did you m"),
        (["mode=cskd", "method=fitnet", "method.teacher_tap=stage4"], "'stage4' in student=resn"),
        (["mode=pskd", "teacher=resnet20"], "teacher=resnet20: with mode=pskd.*teacher is itself"),
        (["mode=cskd", "+mode.distiller.deca=1"], "takes no 'deca'"),
        (["teacher=itself"], "teacher=itself: mode=offline needs a pretrained teacher"),
    ],
)
def test_taps_and_settings_that_a_mode_lacks_are_refused(overrides, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        check_config(composed(*overrides))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["mode=cskd", "method=srrl"],
            "copies the classifier of a pretrained teacher, but mode=cskd",
        ),
        (["mode=mean_teacher", "mode.distiller.decay=2"], r"mode=mean_teacher: decay must be in"),
        (
            ["mode=byot", "method.alpha=1"],
            "mode=byot: the deepest exit is trained on labels",
        ),
        (["mode=byot", "mode.distiller.exits=[stage9]"], "exits: no tap 'stage9'; did you mean"),
        (["mode=byot", "mode.distiller.exits=[]"], "an exit needs an early stage, with maps"),
    ],
)
def test_combinations_that_a_mode_cannot_train_are_refused(overrides, message, output, tmp_path):
    with pytest.raises(UserError, match=message):
        run(configured(tmp_path, output, *ITSELF, *overrides), tmp_path)
