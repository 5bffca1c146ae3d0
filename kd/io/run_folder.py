"""Names of the files in a run folder."""

from pathlib import Path

LAST, BEST = "last.ckpt", "best.ckpt"


# As Hydra names them
_FOLDER = Path(".hydra")


CONFIG, OVERRIDES = _FOLDER / "config.yaml", _FOLDER / "overrides.yaml"


_HYDRA = _FOLDER / "hydra.yaml"


RESULT = "result.json"


WEIGHTS = "student.safetensors"


EPOCHS = "epochs"


def epoch_file(folder: Path, epoch: int) -> Path:
    """Where a run that keeps them has its weights after `epoch`, which counts from 1."""
    return folder / EPOCHS / f"epoch_{epoch:04d}.safetensors"
