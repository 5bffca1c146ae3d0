"""Plans of compressions: defaults, and what is refused before anything is trained."""

import shutil

import pytest
from compressions import plan
from finished_runs import finished_run

from kd.errors import UserError


def test_defaults_are_a_tenth_of_the_rate_and_half_of_the_epochs(output):
    run = finished_run("kd", output)
    made = plan(run)
    ((_, cfg),) = made.steps
    assert cfg.optimizer.lr == pytest.approx(made.run.cfg.optimizer.lr / 10)
    assert cfg.trainer.max_epochs == 1
    assert made.output.parent == run.parent


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 1}, "ratio=1: must be above 0 and below 1"),
        ({"ratio": 0}, "ratio=0: must be above 0 and below 1"),
        ({"ratio": "half"}, "ratio=half: must be above 0 and below 1"),
        ({"prune": "channel"}, "prune=channel: .*channels"),
        ({"quantise": "int4"}, "quantise=int4: .*int8"),
        ({"max_drop": -1}, "max_drop=-1: must be points"),
        ({"max_drop": float("nan")}, "max_drop=nan: must be points"),
        ({"max_drop": "one"}, "max_drop=one: must be points"),
        ({"max_epochs": 0}, "max_epochs=0: must be a whole number above 0"),
        ({"lr": float("inf")}, "lr=inf: must be a number above 0"),
        ({"force": "yes"}, "force=yes: must be true or false"),
        ({"prune": "none", "quantise": "none"}, "leaves nothing to do"),
        ({"taught_by": "fitnett"}, "method=fitnett: .*fitnet"),
        ({"walk": True, "ratios": [0.5, 2]}, "ratios=2: must be above 0"),
        ({"walk": True, "ratios": []}, r"ratios=\[\]: must be a list"),
        ({"walk": True, "prune": "none"}, "search=true walks pruning ratios"),
        ({"walk": 3}, "search=3: must be true or false"),
    ],
)
def test_impossible_settings_are_named(settings, message, output):
    with pytest.raises(UserError, match=message):
        plan(finished_run("kd", output), **settings)


def test_a_folder_with_something_else_is_left_alone(output, tmp_path):
    run = finished_run("kd", output)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for folder, search, said in (
        (tmp_path / "mine", False, "holds no compressed run"),
        (tmp_path / "mine", True, r"holds notes\.txt"),
        (tmp_path / "mine" / "notes.txt", False, "is a file"),
        (tmp_path / "mine" / "notes.txt", True, "is a file"),
        (run, False, "holds another run, with"),
        (run, True, "which is of no search"),
    ):
        with pytest.raises(UserError, match=said):
            plan(run, output=str(folder), walk=search)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_teacher_that_is_gone_and_one_that_was_never_there_are_named(output, tmp_path):
    run = finished_run("kd", output)
    moved = tmp_path / "teachers"
    shutil.move(output / "teachers", moved)
    try:
        with pytest.raises(UserError, match=r"its teacher resnet8 is not in .*teacher_checkpoint"):
            plan(run)
        assert plan(run, taught_by="ce")
    finally:
        shutil.move(moved, output / "teachers")


def test_too_few_images_for_the_ranges_of_int8_are_named_before_the_training(output, monkeypatch):
    made = plan(finished_run("ce", output))
    split = made.run.data.split
    monkeypatch.setattr(
        "kd.deploy.finished_run.build_data",
        lambda cfg: _with_few_images(made.run.data, split),
    )
    with pytest.raises(UserError, match="31 calibration images are too few"):
        plan(finished_run("ce", output))


def _with_few_images(data, split):
    few = data.variant()
    few._split = split._replace(train=split.train[:31])
    return few


def test_another_method_is_without_what_only_the_runs_method_reads(output, caplog):
    """A second view, and an optimizer for two parts of the loss."""
    words = ("+data/second=strong", "data.second.magnitude=5", "optimizer=deepkd")
    run = finished_run("crld", output, *words)
    ((_, same),) = plan(run).steps
    assert same.data.second.magnitude == 5
    assert same.optimizer._target_.endswith("DeepKD")
    ((_, other),) = plan(run, taught_by="dist").steps
    assert "second" not in other.data
    assert other.optimizer._target_ == "torch.optim.SGD"
    assert other.optimizer.lr == same.optimizer.lr
    assert "method=dist: trains with optimizer=sgd" in caplog.text
    ((_, soft),) = plan(run, taught_by="kd").steps
    assert soft.optimizer == same.optimizer
