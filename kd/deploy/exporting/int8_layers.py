"""Layers of an ONNX graph: the units that are quantised or kept in fp32."""

from typing import Any, NamedTuple

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Layer(NamedTuple):
    """An operator with weights, and the operators without weights that compute from its output.

    Attributes:
        name: path of the module in the net, such as `net.stage1.0.body.0`.
        nodes: names of its graph nodes; the first one has the weights.
    """

    name: str
    nodes: tuple[str, ...]


def find_layers(model: Any) -> list[Layer]:
    """Return the layers of an `onnx.ModelProto` in the order of computation.

    A node without weights, such as the addition of two branches, belongs to the last layer that it
    depends on. What precedes the first layer, the preprocessing, belongs to none.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    found: list[tuple[str, list[str]]] = []
    layer_of: dict[str, int] = {}  # tensor -> number of the layer that computes it
    for node in model.graph.node:
        own = [name for name in node.input[:2] if name in weights]
        if node.op_type in LAYERS and own:
            found.append((own[0].removesuffix(".weight"), []))
            number = len(found) - 1
        else:
            number = max((layer_of[name] for name in node.input if name in layer_of), default=-1)
        if number >= 0:
            found[number][1].append(node.name)
            layer_of.update(dict.fromkeys(node.output, number))
    return [Layer(name, tuple(nodes)) for name, nodes in found]
