"""Mistakes that only student and teacher together show end a run before the teacher is trained."""

import pytest
from support import configured

from kd.errors import UserError
from kd.training.run import run


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("student=vit_tiny_cifar", "student.net.width=1", "student.net.heads=5"), "got 192 and 5"),
        (("method=fcfd", "method.taps=[stage2,stage1]"), "order of the layers, stage1, stage2"),
        (("teacher=ensemble", "teacher.members=[resnet14,vgg8]", "teacher.features=vgg8",
          "method=fitnet", "method.student_tap=stage9"), "stage9.*valid: .*stage3"),
    ],
)  # fmt: skip
def test_no_teacher_is_trained_for_a_student_that_cannot_be_built(tmp_path, overrides, message):
    cfg = configured(tmp_path / "run", tmp_path, *overrides)
    with pytest.raises(UserError, match=message):
        run(cfg, tmp_path / "run")
    assert not (tmp_path / "teachers").exists()


def test_what_the_build_logs_is_logged_once(tmp_path, caplog):
    """ResNet-18 ends with a single position on digits, which at leaves out."""
    teacher = ("teacher=resnet18", "teacher.net.width=0.125")
    overrides = ("method=at", "trainer.max_epochs=1", "trainer.limit_train_batches=1")
    result = run(configured(tmp_path / "r", tmp_path, *overrides, teacher=teacher), tmp_path / "r")
    assert result["teacher/source"] == "trained now"
    assert caplog.text.count("the pair is left out") == 1


def test_the_result_is_that_of_a_run_with_a_trained_teacher(tmp_path):
    """The second run finds the teacher, so that nothing is tried before; crd draws its bank."""
    results = []
    for name in ("first", "second"):
        cfg = configured(tmp_path / name, tmp_path, "method=crd", "trainer.max_epochs=2")
        results.append(run(cfg, tmp_path / name))
    assert [r["teacher/source"] for r in results] == ["trained now", "reused"]
    assert results[0]["test/nll"] == results[1]["test/nll"]
