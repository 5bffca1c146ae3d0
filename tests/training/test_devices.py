"""Training on several processes equals training on one, or is refused."""

from pathlib import Path

import numpy as np
import pytest
from lightning import Callback


class NoteLosses(Callback):
    """Write the loss and terms of every step to one file a process when training ends."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.rows: list[list[float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.rows.append([outputs["loss"].item(), *(t.item() for t in outputs["terms"].values())])

    def on_train_end(self, trainer, pl_module) -> None:
        np.savetxt(f"{self.folder}/losses_{trainer.global_rank}.txt", self.rows)


RUNS = {
    "peers": ["mode=online", "method.temperature=1"],
    "kd": ["method=kd", "teacher=mlp1200", "teacher.net.width=0.05"],
    "nkd": ["method=nkd", "teacher=mlp1200", "teacher.net.width=0.05"],
    "logit_mse": ["method=logit_mse", "teacher=mlp1200", "teacher.net.width=0.05"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_like_one(name, train, tmp_path):
    """Without batch norm, the mean over processes is the loss of the whole batch."""
    losses = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        note = f"+callbacks.note={{_target_: test_devices.NoteLosses, folder: '{folder}'}}"
        answer = train(
            *("student=mlp800", "student.net.width=0.05", *RUNS[name]),
            *("trainer.limit_train_batches=20", f"trainer.devices={devices}", note),
            *(f"hydra.run.dir={folder}/run", "logger=none"),
            fresh=devices > 1,
            PYTHONPATH=str(Path(__file__).parent),
        )
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.count(" on digits, method ") == 1  # one process reports
        files = sorted(folder.glob("losses_*.txt"))
        assert len(files) == devices
        losses.append(np.mean([np.loadtxt(file) for file in files], axis=0))
    assert losses[0].shape[0] == 20
    assert losses[0].shape[1] > 1
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


@pytest.mark.parametrize("several", ["trainer.devices=2", "+trainer.strategy=ddp"])
def test_a_sweep_of_several_devices_a_job_is_refused(several, train, tmp_path):
    """Lightning would start the second process with the command of the whole sweep."""
    answer = train("-m", "seed=0,1", several, f"hydra.sweep.dir={tmp_path}")
    assert answer.returncode == 1
    assert "a job of a sweep runs on one device" in answer.stderr
    assert "hydra/launcher=joblib hydra.launcher.n_jobs=" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not list(tmp_path.rglob("checkpoints"))


def test_more_processes_than_cores_are_refused(train, tmp_path):
    answer = train("trainer.devices=300", f"hydra.run.dir={tmp_path}")
    assert answer.returncode == 1
    assert "trainer.devices=300: this machine has" in answer.stderr
