"""Settings that change when a run is resumed: applied and recorded, or refused."""

import pytest
from support import InterruptAt, Watch, configured, present

from kd.errors import UserError
from kd.io.result_file import read_result
from kd.training.finished import finished
from kd.training.run import run

LABELS = ("method=ce", "teacher.training.trainer.max_epochs=1")


@pytest.fixture(scope="module")
def first(output, tmp_path_factory):
    """The folder of a run of one epoch, 10 steps."""
    folder = tmp_path_factory.mktemp("first")
    run(configured(folder, output, *LABELS, "trainer.max_epochs=1"), folder)
    return folder


class Groups(Watch):
    """Record the settings of the optimizer's group after every step as well."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        group = dict(trainer.optimizers[0].param_groups[0])
        self.seen.append(
            (pl_module.progress, group["lr"], group["momentum"], group["weight_decay"])
        )


def test_new_settings_hold_from_the_first_resumed_step(first, output, tmp_path):
    changed = ("optimizer.lr=0.001", "optimizer.momentum=0.5", "optimizer.weight_decay=0")
    options = (*LABELS, *changed, "trainer.max_epochs=2", "scheduler=linear", f"resume={first}")
    result = run(configured(tmp_path, output, *options), tmp_path, callbacks=[Groups()])
    _, *steps = Groups.seen
    assert len(steps) == 10
    for number, (progress, rate, momentum, decay) in enumerate(steps, start=11):
        assert progress == pytest.approx(number / 20)
        assert rate == pytest.approx(0.001 * (1 - number / 20))
        assert (momentum, decay) == (0.5, 0)
    (change,) = result["changes"]
    assert (change["epoch"], change["step"]) == (2, 10)
    assert change["settings"]["optimizer.lr"] == [0.05, 0.001]
    assert change["settings"]["trainer.max_epochs"] == [1, 2]
    assert "kd.schedules.Linear" in change["settings"]["scheduler._target_"]


class Mask(Watch):
    """Record the share of the classes that DeepKD's mask leaves."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen.append(trainer.optimizers[0].share(0.0))


def test_the_mask_of_deepkd_may_change(output, tmp_path):
    words = ("method=kd", "optimizer=deepkd", "teacher.training.trainer.max_epochs=1")
    begun, resumed = tmp_path / "begun", tmp_path / "resumed"
    run(configured(begun, output, *words, "trainer.max_epochs=1"), begun, callbacks=[Mask()])
    assert Mask.seen[-1] == 0.05
    more = (*words, "trainer.max_epochs=2", "optimizer.first=0.2", f"resume={begun}")
    result = run(configured(resumed, output, *more), resumed, callbacks=[Mask()])
    assert Mask.seen[-1] == 0.2
    assert result["changes"][0]["settings"]["optimizer.first"] == [0.05, 0.2]


def test_a_run_of_changed_length_is_no_straight_run(first, output, tmp_path):
    longer, straight = tmp_path / "longer", tmp_path / "straight"
    two = (*LABELS, "trainer.max_epochs=2")
    resumed = run(configured(longer, output, *two, f"resume={first}"), longer, callbacks=[Watch()])
    rates = [rate for _, rate in Watch.seen[1:]]
    expected = run(configured(straight, output, *two), straight, callbacks=[Watch()])
    # The learning rate follows the schedule of two epochs at once.
    assert rates == [rate for _, rate in Watch.seen[11:]]
    for key in ("config_hash", "recipe_hash"):
        assert len({resumed[key], expected[key], present(read_result(first))[key]}) == 3
    # The command of the straight run does not take the folder for its own; the resumed one does.
    with pytest.raises(UserError, match=r"it was resumed with trainer\.max_epochs=2 from epoch 2"):
        finished(configured(longer, output, *two), longer)
    assert finished(configured(longer, output, *two, f"resume={first}"), longer) is not None


def test_an_interrupted_changed_run_keeps_its_changes(first, output, tmp_path):
    two = (*LABELS, "trainer.max_epochs=2", "optimizer.lr=0.01", f"resume={first}")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = run(configured(whole, output, *two), whole)
    with pytest.raises(SystemExit):
        run(configured(broken, output, *two), broken, callbacks=[InterruptAt(14)])
    resumed = run(configured(broken, output, *two), broken)
    for key in ("config_hash", "changes", "val/acc", "test/nll"):
        assert resumed[key] == expected[key]


@pytest.mark.parametrize(
    "override",
    [
        *("seed=1", "data.batch_size=64", "data.val_fraction=0.2", "student.net.width=0.25"),
        *("method=kd", "data/view=none", "optimizer.lr=0.1 trainer.limit_train_batches=3"),
        *("+trainer.accumulate_grad_batches=2", "+optimizer.maximize=true"),
    ],
)
def test_settings_that_cannot_change_within_a_run_are_refused(override, first, output, tmp_path):
    words = *LABELS, "trainer.max_epochs=2", f"resume={first}", *override.split()
    key = override.split()[-1].lstrip("+").partition("=")[0].replace("/", ".")
    key = {"method": "method.name", "mode": "mode.name"}.get(key, key)
    with pytest.raises(UserError, match=rf"{key}.* cannot change within a run") as refused:
        run(configured(tmp_path, output, *words), tmp_path)
    assert "optimizer.lr" not in str(refused.value)
    assert not (tmp_path / "checkpoints").exists()


def test_epochs_that_are_done_cannot_be_taken_back(first, output, tmp_path):
    two = tmp_path / "two"
    options = (*LABELS, "trainer.max_epochs=2")
    run(configured(two, output, *options), two)
    fewer = configured(two, output, *LABELS, "trainer.max_epochs=1", f"resume={two}")
    with pytest.raises(UserError, match=r"2 epochs are done, which is more than .*max_epochs=1"):
        run(fewer, two)
    late = configured(two, output, *options, "optimizer.lr=0.1", f"resume={two}")
    with pytest.raises(UserError, match=r"max_epochs=2 leaves none in which optimizer\.lr=0\.1"):
        run(late, two)
    assert present(read_result(two))["status"] == "completed"


def test_a_method_does_not_return_to_an_earlier_stage(output, tmp_path):
    stages = ("method=fitnet", "method.initial=0.5")
    folder, other = tmp_path / "a", tmp_path / "b"
    run(configured(folder, output, *stages, "trainer.max_epochs=1"), folder)
    longer = configured(other, output, *stages, "trainer.max_epochs=9", f"resume={folder}")
    with pytest.raises(UserError, match=r"has reached stage .* would return to"):
        run(longer, other)
