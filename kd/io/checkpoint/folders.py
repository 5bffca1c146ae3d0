"""The weights file that a folder holds: of a run, of Hugging Face, or the only one there."""

from pathlib import Path

from kd.errors import UserError
from kd.io.checkpoint.names import shorten
from kd.io.documents import read_json
from kd.io.run_folder import RunFolder

# Names of `save_pretrained` in the libraries of Hugging Face, best first
_HUGGING_FACE = (
    "model.safetensors",
    "pytorch_model.bin",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)
_SUFFIXES = (".safetensors", ".pt", ".pth", ".pth.tar", ".ckpt", ".bin", ".th", ".t7", ".pkl")
_MAX_INDEX = 1 << 26  # bytes of an index file
# Folders that other programs read as one checkpoint, by a file in them, and how to convert them
_OTHERS = {
    ".metadata": (
        "a distributed checkpoint of torch; convert it: python -m "
        "torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pt"
    ),
    "zero_to_fp32.py": (
        "a DeepSpeed checkpoint; convert it: python {folder}/zero_to_fp32.py {folder} weights.pt"
    ),
    "saved_model.pb": (
        "a TensorFlow SavedModel, which holds a graph; save its arrays with numpy.savez by the "
        "names of the PyTorch weights"
    ),
    "tf_model.h5": "a Keras model without PyTorch weights",
    "flax_model.msgpack": "a Flax model without PyTorch weights",
}


def weights_files(path: Path) -> list[Path]:
    """Return the files that hold the weights: one, or the parts of an index.

    Args:
        path: a file or folder that exists.

    Raises:
        UserError: a folder without weights, or with several files to choose from; an index that
            names files elsewhere; something that is neither file nor folder.
    """
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} is no regular file")
    if path.name.endswith(".index.json"):
        return _parts(path)
    return [path]


def _in_folder(folder: Path) -> Path:
    files = {path.name for path in folder.iterdir() if path.is_file()}
    for name in (RunFolder(folder).weights.name, *_HUGGING_FACE):
        if name in files:
            return folder / name
    for name, kind in _OTHERS.items():
        if name in files:
            raise UserError(f"the folder {folder} is {kind.format(folder=folder)}")
    found = sorted(name for name in files if name.lower().endswith(_SUFFIXES))
    if len(found) == 1:
        return folder / found[0]
    if found:
        raise UserError(f"the folder {folder} has {len(found)} files; name one: {shorten(found)}")
    raise UserError(
        f"the folder {folder} has no {RunFolder(folder).weights.name}; name a finished run or a "
        f"file{_below(folder)}"
    )


def _below(folder: Path) -> str:
    """Checkpoints of a run that has not finished."""
    found = [path for path in (RunFolder(folder).best, RunFolder(folder).last) if path.is_file()]
    return f", such as {found[0]}" if found else ""


def _parts(index: Path) -> list[Path]:
    """The files that an index of Hugging Face names, all in its folder."""
    try:
        named = read_json(index, _MAX_INDEX)["weight_map"].values()
        names = sorted({str(name) for name in named})
    except UserError:
        raise
    except (OSError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{index} is damaged: {error}") from None
    missing = [n for n in names if Path(n).name != n or not (index.parent / n).is_file()]
    if missing or not names:
        raise UserError(f"{index} names files that are not beside it: {shorten(missing)}")
    return [index.parent / name for name in names]
