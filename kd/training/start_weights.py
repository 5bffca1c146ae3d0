"""Loading of trained weights into a net of the config, which may have lost channels since."""

from pathlib import Path

from torch import nn

from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.io.student_metadata import read_student_metadata
from kd.io.tensors import tensor_shapes
from kd.io.weights import load_weights
from kd.models.shrink import shrink_to


def load_start(net: nn.Module, path: Path, key: str | None = None, role: str = "teacher") -> None:
    """Load weights as `load_weights` does; of a channel-pruned student the net takes the shapes.

    Args:
        net: as its constructor builds it, changed in place.
        path: of the weights: a run's folder or a file.
        key: of the weights in the file.
        role: `teacher` or `student`, whose setting the messages name.

    Raises:
        UserError: as for `load_weights`, or the shapes are not those of a net with fewer channels.
    """
    file = RunFolder(path).weights if path.is_dir() else path
    if _lost_channels(file):
        try:
            shrink_to(net, tensor_shapes(file))
        except ValueError as error:
            raise UserError(f"{file}: its channels were pruned from another net: {error}") from None
    load_weights(net, path, key, role)


def _lost_channels(file: Path) -> bool:
    if not file.is_file():
        return False
    try:
        metadata = read_student_metadata(file)
    except UserError:  # a file that `load_weights` refuses, or takes without its description
        return False
    return metadata is not None and bool(metadata.get("channels_removed"))
