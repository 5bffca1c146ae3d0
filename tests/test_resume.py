"""An interrupted run that is resumed ends where the uninterrupted one does, bit for bit."""

import signal

import pytest
from hydra import compose, initialize_config_dir
from lightning import Callback
from safetensors.torch import load_file

from kd.config import CONF_DIR, register_models
from kd.run import run


class InterruptAt(Callback):
    """Press Ctrl-C behind the given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _ctrl_c():
    """Lightning switches Ctrl-C off for the rest of the process."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def configured(folder, output, *overrides):
    register_models(CONF_DIR)
    tiny = ["teacher=resnet8", "student=resnet8", "student.net.width=0.5", "trainer=cpu"]
    tiny += ["trainer.enable_progress_bar=false", "trainer.max_epochs=3", "logger=none"]
    tiny += ["teacher.training.trainer.max_epochs=1", "data.batch_size=128"]
    paths = [f"paths.run={folder}", f"paths.output={output}"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", overrides=[*tiny, *paths, *overrides])


# 10 steps an epoch: in the middle of one, at its end, and right behind its start.
@pytest.mark.parametrize("step", [5, 10, 14, 21])
@pytest.mark.parametrize("method", ["fitnet"])
def test_resuming_changes_nothing(method, step, output, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = run(configured(whole, output, f"method={method}"), whole)
    stop = f"+callbacks.stop={{_target_: test_resume.InterruptAt, step: {step}}}"
    with pytest.raises(SystemExit, match="130"):
        run(configured(broken, output, f"method={method}", stop), broken)
    resumed = run(configured(broken, output, f"method={method}", f"resume={broken}"), broken)

    for key in ("val/acc", "best_epoch", "test/acc", "test/nll", "epochs"):
        assert resumed[key] == expected[key], key
    theirs = load_file(whole / "student.safetensors")
    for key, value in load_file(broken / "student.safetensors").items():
        assert value.equal(theirs[key]), key
