"""Int8 versions of one ONNX file by onnxruntime's static quantisation, calibrated once."""

import copy
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.deploy.exporting.description import KEY, decode, encode
from kd.deploy.exporting.exported_net import ExportedNet
from kd.deploy.exporting.int8_layers import LAYERS, Layer, find_layers
from kd.deploy.exporting.int8_trial import batches
from kd.errors import UserError

# Operators with an int8 kernel on CPUs. Others, such as a batch norm that precedes its convolution,
# would compute in fp32 from rounded values, which costs accuracy and gains nothing.
_OPERATORS = (
    *LAYERS,
    *("Add", "Mul", "Relu", "Clip", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Concat", "Split", "Slice", "Pad", "Resize"),
    *("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"),
)
_LOWEST = "kd.lowest"


class Int8Quantiser:
    """A net whose layers are quantised, all or some.

    Weights are int8, symmetric, with a scale for each output channel; activations are uint8, with a
    range for each tensor: its minimum and maximum over the calibration images. Preprocessing and
    logits stay in fp32: an integer for each logit would make ties between classes.

    Args:
        file: ONNX file in fp32, as `write_onnx` writes it.
        calibration: uint8 images [N, C, H, W].

    Attributes:
        layers: the layers that can be quantised, in the order of computation.

    Raises:
        UserError: the net has no layer that can be quantised, or an operator prevents it.
    """

    def __init__(self, file: Path, calibration: NDArray[np.uint8]) -> None:
        self._file = file
        with tempfile.TemporaryDirectory(prefix="kd.int8.", dir=file.parent) as folder:
            prepared = Path(folder) / "prepared.onnx"
            self._model = _prepared(file, prepared)
            self.layers: list[Layer] = find_layers(self._model)
            if not self.layers:
                raise UserError(
                    f"{file}: nothing to quantise: int8 needs {', '.join(LAYERS)} with constant "
                    f"weights; the operators are {', '.join(_operators(self._model))}"
                )
            try:
                self._ranges = _ranges(prepared, calibration)
            except (OSError, MemoryError):
                raise
            except Exception as error:  # of many kinds, from onnxruntime's Python code
                raise self._refusal(error) from error

    def quantised(self, fp32: Collection[str] = ()) -> bytes:
        """Return the ONNX model with all layers in int8 except those named.

        Args:
            fp32: names of the layers that stay in fp32, with the operators that belong to them.
        """
        from onnxruntime.quantization import QDQQuantizer, QuantType

        int8 = [node for layer in self.layers if layer.name not in fp32 for node in layer.nodes]
        others = {node.name for node in self._model.graph.node} - set(int8)
        quantiser = QDQQuantizer(
            copy.deepcopy(self._model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=sorted(others),
            op_types_to_quantize=list(_OPERATORS),
            extra_options={},
        )
        try:
            quantiser.quantize_model()
        except MemoryError:
            raise
        except Exception as error:  # of many kinds, from onnxruntime's Python code
            raise self._refusal(error) from error
        model = quantiser.model.model
        _restore_output(model.graph)
        _protect(model.graph, {layer.nodes[0] for layer in self.layers if layer.name in fp32})
        _describe(model, self._file)
        return bytes(model.SerializeToString())

    def _refusal(self, error: Exception) -> UserError:
        return UserError(
            f"{self._file}: an operator cannot be quantised: {error}; the operators are "
            f"{', '.join(_operators(self._model))}"
        )


def _prepared(file: Path, prepared: Path) -> Any:
    """Fold constants, infer shapes, and return the model; the quantiser needs both."""
    import onnx
    from onnxruntime.quantization import quant_pre_process

    # The symbolic inference is for transformers, and needs a package of its own.
    quant_pre_process(file, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    used = {node.domain for node in model.graph.node}
    unused = [entry for entry in model.opset_import if entry.domain and entry.domain not in used]
    for entry in unused:
        model.opset_import.remove(entry)
    return model


def _ranges(file: Path, images: NDArray[np.uint8]) -> Any:
    """Return minimum and maximum of every tensor over the images."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches: Iterator[NDArray[np.uint8]] = batches(images)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {ExportedNet.input_name: batch}

    calibrator = create_calibrator(
        file,
        list(_OPERATORS),
        augmented_model_path=str(file.with_name("augmented.onnx")),
        calibrate_method=CalibrationMethod.MinMax,
    )
    calibrator.collect_data(Images())
    return calibrator.compute_data()


def _restore_output(graph: Any) -> None:
    """Remove the quantisation of the logits."""
    makers = {name: node for node in graph.node for name in node.output}
    dequantise = makers[graph.output[0].name]
    if dequantise.op_type != "DequantizeLinear":
        return
    quantise = makers[dequantise.input[0]]
    last = makers[quantise.input[0]]
    last.output[list(last.output).index(quantise.input[0])] = graph.output[0].name
    graph.node.remove(dequantise)
    graph.node.remove(quantise)
    parameters = set(dequantise.input[1:])
    for tensor in [tensor for tensor in graph.initializer if tensor.name in parameters]:
        graph.initializer.remove(tensor)


def _protect(graph: Any, fp32: Collection[str]) -> None:
    """Keep onnxruntime from quantising the weights of layers that are to stay in fp32.

    Between quantised tensors it does so when it loads a file, with one scale for all channels
    (https://github.com/microsoft/onnxruntime/pull/22969). A maximum with the lowest float, which
    changes no value, hides the quantised input.
    """
    from onnx import helper, numpy_helper

    makers = {name: node.op_type for node in graph.node for name in node.output}
    nodes = []
    for node in graph.node:
        if node.name in fp32 and makers.get(node.input[0]) == "DequantizeLinear":
            exact = f"{node.name}.input"
            nodes.append(helper.make_node("Max", [node.input[0], _LOWEST], [exact], exact))
            node.input[0] = exact
        nodes.append(node)
    if len(nodes) > len(graph.node):
        lowest = np.array(np.finfo(np.float32).min, np.float32)
        graph.initializer.append(numpy_helper.from_array(lowest, _LOWEST))
        del graph.node[:]
        graph.node.extend(nodes)


def _describe(model: Any, file: Path) -> None:
    """Keep the description of the fp32 file, with the new precision, and nothing else."""
    import onnx

    texts = {entry.key: entry.value for entry in model.metadata_props}
    description = decode(texts[KEY], file)
    description["precision"] = "int8"
    onnx.helper.set_model_props(model, {KEY: encode(description)})


def _operators(model: Any) -> list[str]:
    return sorted({node.op_type for node in model.graph.node})
