"""Several processes compute what one does."""

import numpy as np
from lightning import Callback


class NoteLosses(Callback):
    """Write down every step's loss and terms when the training ends, one file a process."""

    def __init__(self, folder: str) -> None:
        self.folder, self.rows = folder, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.rows.append([outputs["loss"].item(), *(t.item() for t in outputs["terms"].values())])

    def on_train_end(self, trainer, pl_module) -> None:
        np.savetxt(f"{self.folder}/losses_{trainer.global_rank}.txt", self.rows)


def test_two_processes_learn_what_one_does(train, tmp_path):
    """Nets without batch norm: the mean over the processes is the loss of the whole batch."""
    losses = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        note = f"+callbacks.note={{_target_: test_devices.NoteLosses, folder: '{folder}'}}"
        answer = train(
            *("mode=online", "student=mlp800", "student.net.width=0.05", "method.temperature=1"),
            *("trainer.limit_train_batches=20", f"trainer.devices={devices}", note),
            *(f"hydra.run.dir={folder}/run", "logger=none"),
            PYTHONPATH="tests",
        )
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.count("kd on digits, seed 0") == 1  # one process reports
        files = sorted(folder.glob("losses_*.txt"))
        assert len(files) == devices
        losses.append(np.mean([np.loadtxt(file) for file in files], axis=0))
    assert losses[0].shape == (20, 5)
    np.testing.assert_allclose(*losses, rtol=1e-5)
