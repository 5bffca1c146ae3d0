"""A resumed run ends with the numbers of one that was not interrupted."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import Watch, composed, configured, present

from kd.config.experiment import experiment_settings
from kd.config.identity import Identity
from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.training.resume import find_checkpoint
from kd.training.run import run

MORE_STEPS = [
    *(("fitnet", 8), ("fitnet", 21), ("kd", 5)),
    ("mgd", 5),  # random masks
    ("ft", 14),  # freezes adapters in its second stage
    *(("rrd", 14), ("nd", 5)),  # memories of images seen
    ("ce student=mlp800", 14),  # dropout
]


# 10 steps an epoch: in the middle of one, at its end, and right after its start.
@pytest.mark.parametrize(
    ("method", "step"),
    [
        *(("fitnet", 5), ("fitnet", 14), ("kd", 10)),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in MORE_STEPS),
    ],
)
def test_resuming_changes_nothing(method, step, output, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = f"method={method}".split()
    expected = run(configured(whole, output, *options), whole)
    stop = f"+callbacks.stop={{_target_: support.InterruptAt, step: {step}}}"
    with pytest.raises(SystemExit, match="130"):
        run(configured(broken, output, *options, stop), broken)
    watch = "+callbacks.watch={_target_: support.Watch}"
    resumed = run(configured(broken, output, *options, f"resume={broken}", watch), broken)
    assert len(Watch.seen) - 1 == 30 - step  # resumed, not started over

    for key in ("val/acc", "best_epoch", "test/acc", "test/nll", "epochs"):
        assert resumed[key] == expected[key], key
    theirs = load_file(whole / "student.safetensors")
    for key, value in load_file(broken / "student.safetensors").items():
        assert value.equal(theirs[key]), key


@pytest.fixture
def folders(tmp_path):
    """Two run folders, the first with checkpoints of the last and the best epoch."""
    ours, other = RunFolder(tmp_path / "ours"), RunFolder(tmp_path / "other")
    ours.checkpoints.mkdir(parents=True)
    return ours, other


def save_checkpoint(
    folder: RunFolder, *overrides: str, best: float | None = 0.5, epochs: int = 1
) -> None:
    """Write the entries that resuming reads of a checkpoint of a run with these overrides."""
    entries: dict[str, Any] = dict.fromkeys(
        ("state_dict", "pytorch-lightning_version", "plan", "stages"), 0
    )
    entries["callbacks"] = {"Checkpoints": {"best_score": best}}
    identity = Identity(experiment_settings(composed(*overrides))).state()
    entries |= {"identity": identity, "optimizer": "torch.optim.sgd.SGD"}
    entries |= {"epochs_done": epochs, "global_step": 10 * epochs}
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    torch.save(entries, folder.last)
    if best is not None:
        torch.save({"best": best}, folder.best)


def found(folder: Path, *overrides: str) -> Path:
    return present(find_checkpoint(composed(*overrides), folder)).checkpoint


def test_a_run_without_checkpoints_starts_from_the_beginning(folders):
    assert find_checkpoint(composed(), folders[0].root) is None


def test_an_interrupted_run_finds_its_own_checkpoint(folders):
    ours, _ = folders
    save_checkpoint(ours)
    assert found(ours.root) == ours.last


def test_another_run_is_continued_with_its_best_epoch(folders):
    ours, other = folders
    save_checkpoint(other)
    for named in (other.root, other.last):
        ours.best.unlink(missing_ok=True)
        assert found(ours.root, f"resume={named}") == other.last
        assert ours.best.read_bytes() == other.best.read_bytes()


def test_a_checkpoint_without_a_best_epoch_needs_no_second_file(folders):
    ours, other = folders
    save_checkpoint(other, best=None)
    assert found(ours.root, f"resume={other.root}") == other.last
    assert not ours.best.exists()


def test_a_checkpoint_that_cannot_be_continued_is_refused(folders):
    ours, other = folders
    with pytest.raises(UserError, match="there is no checkpoint"):
        find_checkpoint(composed(f"resume={other.root}"), ours.root)
    save_checkpoint(other)
    adam = composed(f"resume={other.root}", "optimizer=adam")
    with pytest.raises(UserError, match=r"state of torch.optim.sgd.SGD, which .*Adam cannot"):
        find_checkpoint(adam, ours.root)
    other.best.unlink()
    with pytest.raises(UserError, match=r"best.ckpt, the checkpoint of the best epoch, is missing"):
        find_checkpoint(composed(f"resume={other.root}"), ours.root)
    torch.save({"state_dict": 0}, other.last)
    with pytest.raises(UserError, match="not a checkpoint of a run"):
        find_checkpoint(composed(f"resume={other.root}"), ours.root)


def test_a_checkpoint_of_another_configuration_is_not_overwritten(folders):
    ours, other = folders
    save_checkpoint(ours, "trainer.max_epochs=9")
    with pytest.raises(UserError, match="belongs to a run with another configuration"):
        find_checkpoint(composed(), ours.root)
    save_checkpoint(other, "trainer.max_epochs=8")
    with pytest.raises(UserError, match="belongs to a run with another configuration"):
        find_checkpoint(composed(f"resume={other.root}"), ours.root)
    assert found(ours.root, f"resume={ours.root}") == ours.last
