"""Normalisation of images, and names of classes, that are recorded with a checkpoint."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kd.errors import UserError
from kd.io.documents import read_json
from kd.io.run_folder import RunFolder
from kd.io.student_metadata import read_student_metadata

_MAX_JSON = 1 << 20  # bytes; the configs of Hugging Face have some kilobytes
# Files that lie beside weights, and where they name mean and std: timm's, and those of transformers
_CONFIGS = (
    ("config.json", ("pretrained_cfg",), "mean", "std"),
    ("preprocessor_config.json", (), "image_mean", "image_std"),
)


class Recorded(NamedTuple):
    """Mean and standard deviation per channel on the 0..1 scale, and the file that names them."""

    mean: list[float]
    std: list[float]
    file: Path


def recorded_normalisation(path: Path) -> Recorded | None:
    """Return how the images were normalised on which weights were trained; None: not recorded.

    Args:
        path: a checkpoint, or the folder of a run or of Hugging Face.

    Raises:
        UserError: the description in a weights file is damaged.
    """
    for file in _described(path):
        metadata = read_student_metadata(file)
        if metadata and metadata["mean"] is not None and metadata["std"] is not None:
            return Recorded(metadata["mean"], metadata["std"], file)
    folder = path if path.is_dir() else path.parent
    for name, place, mean, std in _CONFIGS:
        content = _json(folder / name)
        for key in place:
            content = content.get(key) if isinstance(content, dict) else None
        if isinstance(content, dict) and _are_numbers(content.get(mean), content.get(std)):
            return Recorded(content[mean], content[std], folder / name)
    return None


def recorded_classes(path: Path) -> list[str]:
    """Return the names of the classes that weights tell apart; empty: not recorded.

    Args:
        path: a checkpoint, or the folder of a run.

    Raises:
        UserError: the description in a weights file is damaged.
    """
    for file in _described(path):
        metadata = read_student_metadata(file)
        if metadata and metadata["class_names"]:
            return metadata["class_names"]
    return []


def _described(path: Path) -> Iterator[Path]:
    """The weights, and those of the run that a checkpoint or the weights of an epoch belong to."""
    if path.is_dir():
        files = [RunFolder(path).weights]
    else:
        files = [path]
        run = RunFolder(path.parent.parent)
        if path.parent in (run.checkpoints, run.epochs):
            files.append(run.weights)
    yield from (file for file in files if file.is_file())


def _json(file: Path) -> Any:
    try:
        return read_json(file, _MAX_JSON) if file.is_file() else None
    except (OSError, UserError):
        return None


def _are_numbers(mean: Any, std: Any) -> bool:
    if not (isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std)):
        return False
    return all(type(value) in (int, float) for value in [*mean, *std]) and min(std, default=0) > 0
