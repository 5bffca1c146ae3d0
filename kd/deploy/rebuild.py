"""Rebuilding of a net from the architecture that a weights file names.

The file may come from a stranger. Only the constructors of `kd.models` are called, never with an
argument that downloads or reads a file, and never for a net larger than the weights in the file.
"""

import inspect
import math
import pkgutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from kd import models
from kd.deploy.compression.pruned_net import shrunk
from kd.errors import UserError
from kd.io.student_metadata import (
    MAX_CHANNELS,
    MAX_CLASSES,
    MAX_SIZE,
    MAX_TOKENS,
    Architecture,
)
from kd.io.tensors import tensor_shapes

# First parameters of every model constructor of `kd`; no helper of the same modules has them.
_IMAGES = ("in_channels", "image_size", "num_classes")
_TEXTS = ("vocab_size", "max_length", "pad_index", "num_classes")
_LARGEST = {"in_channels": MAX_CHANNELS, "image_size": MAX_SIZE, "num_classes": MAX_CLASSES}
_LARGEST |= {"vocab_size": 10_000_000, "max_length": MAX_TOKENS, "pad_index": 10_000_000}
_LARGEST_OTHER = 100_000  # depths, widths, units of a layer
_LARGEST_IMAGE = 64_000_000  # values; constructors of timm and torchvision run on a zero image
_LONGEST = 1000  # characters of a text, values of a list, arguments
# Arguments that make constructors of timm, torchvision or transformers download or read files
_READS_FILES = {
    "cache_dir",
    "checkpoint_path",
    "path",
    "pretrained",
    "pretrained_backbone",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "weights",
    "weights_backbone",
}
# Entries of a config.json by which transformers would import code or convert weights
_LOADS_CODE = {"auto_map", "quantization_config", "custom_pipelines"}


def constructors() -> dict[str, Callable[..., nn.Module]]:
    """Return the model constructors of `kd.models` by dotted path."""
    names = [module.name for module in pkgutil.iter_modules(models.__path__)]
    return {path: build for name in names for path, build in _constructors_of(name)}


def rebuild(architecture: Architecture, file: Path, channels_removed: bool = False) -> nn.Module:
    """Build the net of an architecture with random weights; torch's generators are not advanced.

    Args:
        architecture: from the metadata of `file`.
        file: the safetensors file; its tensors bound the size of the net.
        channels_removed: the net has the architecture's layers with fewer channels, as many as the
            tensors of the file have; its weights are zeros.

    Raises:
        UserError: the target is no model constructor of `kd`, it refuses its arguments, or the net
            is larger than the weights; the shapes of the tensors do not fit each other.
    """
    build = _constructor(architecture["target"], file)
    _check_arguments(architecture["arguments"], file)
    shapes = tensor_shapes(file)
    if channels_removed:
        # On the meta device the unpruned net takes no memory, however large it is.
        with torch.device("meta"):
            net = _built(build, architecture, file, _Bounds(2 * len(shapes) + 16, math.inf))
        return shrunk(net, architecture["arguments"], shapes, file)
    # Twice those of the file, since constructors replace layers that they have built:
    # `torchvision_net` does so with the first convolution.
    values = 2 * sum(map(math.prod, shapes.values())) + 1_000_000
    return _built(build, architecture, file, _Bounds(2 * len(shapes) + 16, values))


def _built(
    build: Callable[..., nn.Module], architecture: Architecture, file: Path, largest: "_Bounds"
) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]), _no_larger_than(largest):
            return build(**architecture["arguments"])
    except MemoryError:
        raise
    except Exception as error:  # what arguments of a stranger lead to in torchvision and timm
        raise UserError(
            f"{file}: {architecture['target']} refuses its recorded arguments: {error}"
        ) from error


def _constructors_of(module: str) -> Iterator[tuple[str, Callable[..., nn.Module]]]:
    path = f"{models.__name__}.{module}"
    for name, found in vars(import_module(path)).items():
        if getattr(found, "__module__", None) == path and _is_constructor(found):
            yield f"{path}.{name}", found


def _is_constructor(found: Any) -> bool:
    """Return whether a function builds a net, or a class is one of another task than images."""
    if not inspect.isfunction(found) and not (inspect.isclass(found) and hasattr(found, "task")):
        return False
    names = tuple(inspect.signature(found).parameters)
    return names[:3] == _IMAGES or names[:4] == _TEXTS


def _constructor(target: str, file: Path) -> Callable[..., nn.Module]:
    """Import the one module of `kd.models` that the target names, if there is such a file."""
    path, _, _ = target.rpartition(".")
    for module in pkgutil.iter_modules(models.__path__):
        if path == f"{models.__name__}.{module.name}":
            found = dict(_constructors_of(module.name))
            if target in found:
                return found[target]
    raise UserError(
        f"{file} names {target!r}, which is no model constructor of kd.models, so it is not "
        f"called; build the net yourself: kd.load({str(file)!r}, net=MyNet())"
    )


def _check_arguments(arguments: dict[str, Any], file: Path) -> None:
    if len(arguments) > _LONGEST:
        raise UserError(f"{file}: more than {_LONGEST} arguments of the net")
    for name, value in arguments.items():
        if name in _READS_FILES and value:
            raise UserError(f"{file}: the argument {name}={value!r:.80} would read other files")
        _check_value(name, value, file)
    if "vocab_size" in arguments:
        _check_facts_of_texts(arguments, file)
    else:
        _check_facts_of_images(arguments, file)


def _check_facts_of_texts(arguments: dict[str, Any], file: Path) -> None:
    if not all(type(arguments.get(name)) is int for name in _TEXTS):
        raise UserError(f"{file}: {', '.join(_TEXTS)} of the net are no whole numbers")


def _check_facts_of_images(arguments: dict[str, Any], file: Path) -> None:
    channels, size = arguments.get("in_channels"), arguments.get("image_size")
    if not (isinstance(channels, int) and isinstance(size, int)):
        raise UserError(f"{file}: in_channels and image_size of the net are no whole numbers")
    if channels * size**2 > _LARGEST_IMAGE:
        raise UserError(f"{file}: images of {channels} x {size} x {size} are too large")


def _check_value(name: str, value: Any, file: Path, depth: int = 0) -> None:
    if name == "config" and isinstance(value, dict) and depth == 0:
        _check_config(value, file)
        return
    if isinstance(value, list) and depth < 3 and len(value) <= _LONGEST:
        for each in value:
            _check_value(name, each, file, depth + 1)
        return
    if isinstance(value, int | float):
        valid = abs(value) <= _LARGEST.get(
            name.removeprefix("config."), _LARGEST_OTHER
        )  # False for NaN
    else:
        valid = value is None or (isinstance(value, str) and len(value) <= _LONGEST)
    if not valid:
        raise UserError(f"{file}: the argument {name}={value!r:.80} of the net is not accepted")


def _check_config(config: dict[str, Any], file: Path) -> None:
    """Check the configuration of an encoder of transformers, as config.json has it."""
    if len(config) > _LONGEST:
        raise UserError(f"{file}: more than {_LONGEST} entries in the net's config")
    for name, value in config.items():
        if name in _READS_FILES or name in _LOADS_CODE:
            raise UserError(f"{file}: the net's config has {name}, which is not accepted")
        values = [*value.values()] if isinstance(value, dict) else value
        _check_value(f"config.{name}", values, file, depth=1)


class _Bounds(NamedTuple):
    """Largest number of parameters of a net, and of their values."""

    parameters: float
    values: float


@contextmanager
def _no_larger_than(largest: _Bounds) -> Iterator[None]:
    """Stop building a net that has far more parameters than a file has tensors."""
    count = elements = 0
    thread = threading.get_ident()  # the hook is global, and other threads may build nets

    def check(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal count, elements
        if threading.get_ident() != thread:
            return
        count, elements = count + 1, elements + parameter.numel()
        if count > largest.parameters or elements > largest.values:
            raise UserError("the net is larger than the weights in the file")

    # Memory of a new tensor is reserved, but not used, until it is initialised after this hook.
    handle = register_module_parameter_registration_hook(check)
    try:
        yield
    finally:
        handle.remove()
