"""Detection through the command line: one pair from start to figures, and what is refused."""

import json

import pytest
from hydra import compose, initialize_config_dir
from support import configured

from kd.build.given import GivenParts
from kd.config.compose import CONF_DIR
from kd.errors import UserError
from kd.objectives.det_kd import DetectionKD
from kd.validation.check import check_config
from kd.validation.task import objective_task_problems

SCENES = (
    *("data=digits_scenes", "data.scenes={train: 24, val: 6, test: 6}", "data.batch_size=8"),
    *("student.net.width=0.2", "teacher.net.channels=32", "teacher.net.convs=1"),
    *("teacher.training.batch_size=8", "trainer.max_epochs=1"),
    "teacher.training.trainer.max_epochs=1",
)


def test_a_teacher_is_trained_cached_and_distilled(train, tmp_path):
    folder = f"hydra.run.dir={tmp_path}"
    ended = train(*SCENES, "method=det_kd", "figures=true", folder, tiny=False)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["task"] == "detection"
    assert result["teacher/outputs"] == "cached"
    assert result["teacher_forwards"] <= 24 + 6 + 6
    keys = ("val/map", "test/map", "test/map50", "teacher/test/map", "teacher/test/map50")
    assert all(0 <= result[key] <= 1 for key in keys)
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {
        *("boxes.png", "boxes-dark.png", "boxes.svg")
    }
    assert "test mAP" in ended.stdout


# Without the soft targets, which detectors do not have
HINT = ("method.joint=true", "method.alpha=0", "method.student_tap=p3", "method.teacher_tap=p3")


@pytest.mark.parametrize("method", ["cwd", "mgd", "pkd_features", "fgfi", "at", "fitnet"])
@pytest.mark.slow
def test_methods_on_maps(method, train):
    own = HINT if method == "fitnet" else ()
    ended = train(*SCENES, f"method={method}", *own, tiny=False)
    assert "p3" in ended.stdout


@pytest.mark.parametrize("teacher", ["faster_rcnn_resnet18", "retinanet_resnet18"])
@pytest.mark.slow
def test_other_teachers(teacher, train):
    train(
        *(s for s in SCENES if "convs" not in s), f"teacher={teacher}", "method=det_kd", tiny=False
    )


REFUSED = {
    "method=kd": "SoftTargets is for image classification and text classification, and data=",
    "method=crd": "is for object detection; choose a method of that task, such as method=det_kd",
    "mode=online": "mode=online: not for object detection; choose mode=offline",
    "mode=pskd": "mode=pskd: not for object detection; choose mode=offline",
    "teacher=ensemble": "outputs of nets for object detection cannot be averaged; name one teacher",
    "teacher=resnet8": "teacher=resnet8: a net for image classification, and data=digits_scenes is",
    "student=resnet8": "student=resnet8: a net for image classification, and data=digits_scenes is",
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_detection_refuses_before_anything_is_trained(word, output, tmp_path):
    options = "data=digits_scenes", "teacher=fcos_resnet18", "student=tiny_detector"
    words = ("method=det_kd", word)
    with pytest.raises(UserError) as error:
        check_config(configured(tmp_path, output, *options, *words))
    assert REFUSED[word] in str(error.value)


def test_a_student_that_finds_its_regions_itself_has_no_places():
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        words = ("data=digits_scenes", "student=faster_rcnn_resnet18", "method=det_kd")
        cfg = compose("train", overrides=[*words, "trainer=cpu", "paths.run=run"])
    (problem,) = objective_task_problems(cfg, GivenParts(), {"detection": DetectionKD()})
    assert "DetectionKD compares the places of an image, and student=faster_rcnn" in problem
