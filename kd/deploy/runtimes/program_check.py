"""Checks of the graph in a file of torch.export, before torch reads it.

torch evaluates parts of such a graph as Python: expressions of sizes go through `eval` (sympy),
names of values and guards become source code, targets are looked up with `getattr` from `torch`,
and the trees of inputs may name modules to import. A file from a stranger is therefore reduced to
what an exported classifier consists of: calls of known operators on tensors and numbers,
identifiers as names, and sums and products of the batch size. All else is refused or left out.
https://docs.pytorch.org/docs/stable/generated/torch.export.load.html
"""

import json
import keyword
import re
from collections.abc import Mapping
from typing import Any

from kd.deploy.runtimes.operators import OPERATORS

_TARGET = re.compile(r"torch\.ops\.aten\.(?P<name>[a-z0-9_]+)\.[A-Za-z0-9_]+")
# Arithmetic on the batch size
_NUMBERS = re.compile(r"_operator\.(add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge|getitem)")
_TEXTS = {"none", "tanh", "constant", "reflect", "replicate", "circular", "trunc", "floor"}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_PATH = re.compile(r"[A-Za-z0-9_]{1,100}(\.[A-Za-z0-9_]{1,100}){0,30}")
_SYMBOL = r"'[su]\d{1,6}'(, (positive|integer|nonnegative|nonzero)=True)*"
_WORDS = "Symbol|Integer|Add|Mul|FloorDiv|CleanDiv|Mod|PythonMod|Max|Min|Eq|Ne|Le|Lt|Ge|Gt"
_TOKEN = re.compile(rf"({_WORDS})?\(|{_SYMBOL}|s\d{{1,6}}|\d{{1,10}}|\)|, ?| ?[*+-] ?")
_MAX_EXPRESSION = 500  # characters
_LARGEST = 2**24  # of a size, a stride or an argument

# Fields of torch's schema that an exported classifier has; each leads to values of the last kinds.
_SCHEMA = """
arg as_bool as_bools as_device as_expr as_float as_floats as_int as_ints as_layout
as_memory_format as_name as_none as_optional_tensor as_optional_tensors as_scalar_type as_string
as_sym_bool as_sym_int as_sym_ints as_tensor as_tensors buffer buffer_name custom_obj_values
device dtype expr_str graph hint index input_specs inputs is_hop_single_tensor_return
is_single_tensor_return kind layout name nodes output_specs outputs parameter parameter_name
persistent requires_grad signature sizes storage_offset strides sym_bool_values sym_float_values
sym_int_values target tensor_constant tensor_constant_name tensor_values type user_input
user_output
"""
_FIELDS = frozenset(_SCHEMA.split())
_LEFT_OUT = {"metadata"}  # of nodes: stack traces, and names that torch looks up
_BY_NAME = {"tensor_values", "sym_int_values", "sym_bool_values"}
_PATHS = {"parameter_name", "buffer_name", "tensor_constant_name"}


def checked_program(program: Any) -> dict[str, Any]:
    """Return the graph of a classifier without anything that torch would evaluate.

    Args:
        program: the parsed `models/model.json` of an archive.

    Raises:
        ValueError: it has something else than calls of known operators; the message names it.
    """
    module = _mapping(_mapping(program, "program").get("graph_module"), "graph_module")
    graph = {key: _checked(module.get(key), key) for key in ("graph", "signature")}
    if graph["graph"].get("custom_obj_values") or graph["graph"].get("sym_float_values"):
        raise ValueError("it holds objects that are no tensors")
    return {
        "graph_module": {
            **graph,
            "module_call_graph": [_root_call(module.get("module_call_graph"))],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": _whole(_mapping(program["opset_version"], "").get("aten"))},
        "range_constraints": {
            _identifier(name): {key: _whole_or_none(limits.get(key)) for key in _LIMITS}
            for name, limits in _mapping(program["range_constraints"], "ranges").items()
        },
        "schema_version": {
            key: _whole(_mapping(program["schema_version"], "").get(key))
            for key in ("major", "minor")
        },
        "verifiers": ["TRAINING"],
        "torch_version": "",
        "guards_code": [],
    }


_LIMITS = ("min_val", "max_val")


def checked_tensor(value: Any) -> dict[str, Any]:
    """Return the description of a tensor (dtype, sizes, strides) after the same checks."""
    return _mapping(_checked(value, "tensor_meta"), "tensor_meta")


def needed_bytes(tensor: dict[str, Any]) -> int:
    """Return the bytes that a tensor spans in its file.

    Args:
        tensor: of `checked_tensor`.

    Raises:
        ValueError: its numbers are of a kind that weights are not, or its sizes are no numbers.
    """
    kind = tensor.get("dtype")
    if kind not in _ITEM_BYTES:
        raise ValueError(f"numbers of kind {kind!r:.20} are no weights")
    sizes, strides = ([_whole(n.get("as_int")) for n in tensor[k]] for k in ("sizes", "strides"))
    offset = _whole(tensor["storage_offset"].get("as_int"))
    if min([*sizes, *strides, offset]) < 0 or len(sizes) != len(strides):
        raise ValueError("sizes of weights are negative")
    if 0 in sizes:
        return 0
    last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    return (last + 1) * _ITEM_BYTES[kind]


# Bytes of a number by torch's code for its type: uint8, int8, int16, int32, int64, float16,
# float32, float64, bool, bfloat16
_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}


def is_path(name: Any) -> bool:
    """Return whether a name is a path to a parameter, such as `net.layer1.0.weight`."""
    return isinstance(name, str) and bool(_PATH.fullmatch(name)) and "__" not in f".{name}"


def _checked(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return _checked_mapping(value, key)
    if isinstance(value, list):
        return [_checked(each, key) for each in value]
    if isinstance(value, str):
        return _checked_text(value, key)
    if type(value) is int and abs(value) > _LARGEST and key in ("as_int", "as_ints"):
        # The end of a slice is 2⁶³ − 1.
        if value != 2**63 - 1:
            raise ValueError(f"the number {value} is too large")
    elif not (value is None or isinstance(value, bool | int | float)):
        raise ValueError(f"{key} is {type(value).__name__}")
    return value


def _checked_mapping(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    if key in _BY_NAME:
        return {_identifier(name): _checked(each, "value") for name, each in value.items()}
    kept = {name: each for name, each in value.items() if name not in _LEFT_OUT}
    if unknown := kept.keys() - _FIELDS:
        raise ValueError(f"it has {min(unknown)!r:.60}, which no exported classifier has")
    checked = {name: _checked(each, name) for name, each in kept.items()}
    # torch wants the key, and reads nothing of an empty one.
    return checked | ({"metadata": {}} if "target" in kept else {})


def _checked_text(value: str, key: str) -> str:
    if key == "target":
        return _operator(value)
    if key == "expr_str":
        return _expression(value)
    if key == "as_string":
        if value not in _TEXTS:
            raise ValueError(f"an operator has the text {value!r:.60}")
        return value
    if key == "type":
        if value != "cpu":
            raise ValueError(f"a tensor lies on the device {value!r:.60}; only cpu is accepted")
        return value
    if key in _PATHS:
        if not is_path(value):
            raise ValueError(f"{value!r:.60} is no name of a parameter")
        return value
    return _identifier(value, key)


def _expression(text: str) -> str:
    # Every character belongs to a token. A power would take forever to compute.
    plain = len(text) <= _MAX_EXPRESSION and not _TOKEN.sub("", text)
    if not plain or "**" in text.replace(" ", ""):
        raise ValueError(f"the size {text!r:.100} is no arithmetic on the batch size")
    return text


def _operator(target: str) -> str:
    found = _TARGET.fullmatch(target)
    if not (found and found["name"] in OPERATORS) and not _NUMBERS.fullmatch(target):
        raise ValueError(f"it calls {target!r:.100}, which is no operator of classifiers")
    return target


def _identifier(name: str, key: str = "") -> str:
    # An argument of an operator may be called `self`; a value may not, since it becomes a variable.
    fits = _NAME.fullmatch(name) and not name.startswith("__") and not keyword.iskeyword(name)
    if not fits or (name in ("self", "torch") and key in ("", "as_name")):
        raise ValueError(f"{name!r:.60} is no name of a value")
    return name


def _root_call(calls: Any) -> dict[str, Any]:
    """Return how the whole module is called: one image tensor in, one tensor out."""
    roots = [call for call in calls or [] if _mapping(call, "call").get("fqn") == ""]
    if len(roots) != 1:
        raise ValueError("it does not say how it is called")
    signature = _mapping(roots[0].get("signature"), "signature")
    names = signature.get("forward_arg_names") or []
    return {
        "fqn": "",
        "signature": {
            "inputs": [],
            "outputs": [],
            "in_spec": _tree(signature.get("in_spec")),
            "out_spec": _tree(signature.get("out_spec")),
            "forward_arg_names": [_identifier(str(name)) for name in names],
        },
    }


def _tree(text: Any) -> str:
    """Return a tree of arguments; torch would import what a `type` or a `context` names."""
    if not isinstance(text, str) or len(text) > 10_000:
        raise ValueError("its arguments are no text")
    tree = json.loads(text)
    if not isinstance(tree, list) or len(tree) != 2:
        raise ValueError("its arguments are no tree")
    _check_tree(tree[1])
    return json.dumps([_whole(tree[0]), tree[1]])


def _check_tree(node: Any) -> None:
    node = _mapping(node, "tree")
    plain = (node.get("type"), node.get("context")) in _PLAIN
    if not plain or node.keys() != {"type", "context", "children_spec"}:
        raise ValueError(f"its arguments are of type {node.get('type')!r:.60}")
    for child in node["children_spec"]:
        _check_tree(child)


_PLAIN = {(None, None), ("builtins.tuple", "null"), ("builtins.dict", "[]")}


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"its {what} is no mapping")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r:.60} is no whole number")
    return value


def _whole_or_none(value: Any) -> int | None:
    return None if value is None else _whole(value)
