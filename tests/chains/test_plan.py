"""Plans of chains: configs of the stages, and mistakes found before the first one runs."""

from pathlib import Path

import pytest

from kd.chains.plan import plan
from kd.config.compose import plain
from kd.errors import UserError

pytestmark = pytest.mark.usefixtures("config_path")


def planned(*overrides: str):
    return plan(["paths.output=out", *overrides], Path("chain"))


def test_generations_start_from_different_weights():
    stages = planned("stages=[resnet8,resnet8,resnet8,resnet8]", "seed=0")
    assert [stage.cfg.seed for stage in stages] == [2, 1, 0]
    assert stages[0].cfg.teacher.training.seed == 3
    # No student starts like this teacher, which other runs can then share.
    assert planned("stages=[resnet20,resnet8,resnet8]")[0].cfg.teacher.training.seed == 0
    assert planned("stages=[resnet8,resnet8]", "seed=1")[0].cfg.teacher.training.seed == 0


def test_settings_of_the_student_apply_to_all_students():
    first, second = planned(
        "stages=[resnet20,resnet14,resnet8]", "student.net.width=0.5", "method.alpha=0.3"
    )
    assert (first.cfg.teacher.net.width, first.cfg.student.net.width) == (1.0, 0.5)
    assert plain(second.cfg.teacher.net) == plain(first.cfg.student.net)
    assert second.cfg.teacher.checkpoint == str(Path("chain") / "1_resnet14")
    assert second.cfg.student.net.depth == 8
    assert second.cfg.method.weights.hard == pytest.approx(0.7)


def test_stages_of_a_route_continue_the_same_student():
    first, second = planned("route=[3,7]", "teacher=resnet14")
    assert [stage.folder.name for stage in (first, second)] == ["1_epoch3", "2_epoch7"]
    assert (first.cfg.teacher.epoch, second.cfg.teacher.epoch) == (3, 7)
    assert (first.cfg.student.checkpoint, first.cfg.seed) == (None, 0)
    assert second.cfg.student.checkpoint == str(Path("chain") / "1_epoch3")
    assert second.cfg.seed == 1


MISTAKES = {
    "neither": ([], r"either stages=\[.*or route="),
    "both": (["stages=[resnet8,resnet8]", "route=[1,2]"], r"either stages=\[.*or route="),
    "one net": (["stages=[resnet8]"], r"stages=\['resnet8'\]: must be at least two names"),
    "no list": (["stages=resnet8"], "stages=resnet8: must be at least two names of models"),
    "unknown": (["stages=[resnet8,resnt20]"], "'resnt20'; did you mean 'resnet20'"),
    "a student": (["stages=[resnet8,resnet8]", "student=vgg8"], "student=…: .*remove student"),
    "a teacher": (["stages=[resnet8,resnet8]", "teacher=vgg8"], "teacher=…: .*remove teacher"),
    "resume": (["stages=[resnet8,resnet8]", "resume=x"], "resume=x: a chain resumes by itself"),
    "labels": (["stages=[resnet8,resnet8]", "method=ce"], "method=ce uses no teacher"),
    "other net": (
        ["stages=[resnet8,resnet8]", "method=simkd"],
        "method=simkd may deploy another net",
    ),
    "mode": (["stages=[resnet8,resnet8]", "mode=pskd"], "mode=pskd has no pretrained teacher"),
    "seed": (["stages=[resnet8,resnet8]", "seed=x"], "seed=x: must be a whole number"),
    "taps of a later stage": (
        ["stages=[resnet8,resnet8,mlp800]", "method=fitnet", "method.student_tap=stage3"],
        "stage 2_mlp800: .*no tap 'stage3' in student=mlp800",
    ),
    "one epoch": (["route=[5]"], r"route=\[5\]: must be at least two epochs"),
    "descending epochs": (["route=[5,3]"], r"route=\[5,3\]: the epochs must ascend"),
    "epoch zero": (["route=[0,3]"], r"route=\[0,3\]: epochs are whole numbers ≥ 1"),
    "epoch beyond": (["route=[5,41]"], "trains for teacher.training.trainer.max_epochs=40"),
    "epoch twice": (["route=[1,2]", "teacher.epoch=3"], "teacher.epoch=3: route=.*remove"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_reported_before_anything_runs(name):
    overrides, message = MISTAKES[name]
    with pytest.raises(UserError, match=f"(?s){message}"):
        planned(*overrides)
