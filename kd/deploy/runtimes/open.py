"""Opening of an exported model in its own runtime, by the suffix of its file."""

from pathlib import Path

from kd.deploy.runtimes.base import ModelFile
from kd.errors import UserError

SUFFIXES = (".onnx", ".pt2")


def open_model_file(path: Path, threads: int | None = None) -> ModelFile:
    """Open an exported model for inference on the CPU; the file may come from a stranger.

    Args:
        path: a file of a suffix in `SUFFIXES`.
        threads: of onnxruntime; None: all cores. torch has its own setting.

    Raises:
        UserError: there is no such file, it has another suffix, its runtime is not installed, or
            it is no classifier of images.
    """
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise UserError(f"the model {path} {what}")
    if path.suffix == ".onnx":
        from kd.deploy.runtimes.onnx import OnnxFile

        return OnnxFile(path, threads)
    if path.suffix == ".pt2":
        from kd.deploy.runtimes.torch_export import TorchExportFile

        return TorchExportFile(path)
    raise UserError(
        f"the model {path} has the suffix {path.suffix or 'none'!r}; valid: {', '.join(SUFFIXES)}"
    )
