"""Archives of torch.export that run code where torch loads them; each creates a marker file."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Members = dict[str, bytes]
MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def call(marker: Path) -> str:
    """An expression that creates the marker."""
    return f"__import__('pathlib').Path({str(marker)!r}).touch()"


def read(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(members: Members, path: Path, root: str = "model/") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{root}{name}", content)
    return path


def edit(members: Members, name: str, change: Callable[[Any], None]) -> None:
    content = json.loads(members[name])
    change(content)
    members[name] = json.dumps(content).encode()


def pickled_inputs(members: Members, marker: Path) -> None:
    members["data/sample_inputs/model.pt"] = torch_pickle(marker)


def pickled_weight(members: Members, marker: Path) -> None:
    members["data/weights/weight_0"] = torch_pickle(marker)
    edit(members, WEIGHTS, lambda c: first(c["config"]).update(use_pickle=True))


def legacy_weights(members: Members, marker: Path) -> None:
    members["data/weights/model.pt"] = torch_pickle(marker)


def legacy_constants(members: Members, marker: Path) -> None:
    members["data/constants/model.pt"] = torch_pickle(marker)


def opaque_constant(members: Members, marker: Path) -> None:
    members["data/constants/opaque_obj_0"] = pickle.dumps(Payload(marker))
    edit(
        members,
        CONSTANTS,
        lambda c: first(c["config"]).update(path_name="opaque_obj_0", use_pickle=True),
    )


def size_expression(members: Members, marker: Path) -> None:
    def change(program: Any) -> None:
        values = graph(program)["tensor_values"].values()
        sizes = [size for value in values for size in value["sizes"] if "as_expr" in size]
        sizes[0]["as_expr"]["expr_str"] = call(marker)

    edit(members, MODEL, change)


def guard(members: Members, marker: Path) -> None:
    edit(members, MODEL, lambda program: program.update(guards_code=[call(marker)]))


def value_name(members: Members, marker: Path) -> None:
    members[MODEL] = members[MODEL].replace(
        b'"images"', json.dumps(f"images={call(marker)}").encode()
    )


def target(name: str, *texts: str) -> Callable[[Members, Path], None]:
    def attack(members: Members, marker: Path) -> None:
        def change(program: Any) -> None:
            arguments = [
                {"name": "x", "arg": {"as_string": text or str(marker)}, "kind": 1}
                for text in texts
            ]
            node = graph(program)["nodes"][0]
            node.update(target=name, inputs=arguments, outputs=[])

        edit(members, MODEL, change)

    return attack


def tree(members: Members, marker: Path) -> None:
    def change(program: Any) -> None:
        (root,) = [c for c in program["graph_module"]["module_call_graph"] if not c["fqn"]]
        spec = json.loads(root["signature"]["out_spec"])
        context = {"default_factory_module": "this", "default_factory_name": "s"}
        spec[1].update(type="collections.defaultdict", context=json.dumps(context))
        root["signature"]["out_spec"] = json.dumps(spec)

    edit(members, MODEL, change)


def metadata(members: Members, marker: Path) -> None:
    def change(program: Any) -> None:
        stack = f"a,torch.{call(marker)}"
        graph(program)["nodes"][0]["metadata"] = {"source_fn_stack": stack}

    edit(members, MODEL, change)


def power(members: Members, marker: Path) -> None:
    def change(program: Any) -> None:
        sizes = graph(program)["tensor_values"]["images"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = "9**9**9**9"

    edit(members, MODEL, change)


def graph(program: Any) -> Any:
    return program["graph_module"]["graph"]


def first(entries: Any) -> Any:
    return next(iter(entries.values()))


def torch_pickle(marker: Path) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(((Payload(marker),), {}), buffer)
    return buffer.getvalue()


# What is refused, and what is left out, so that the rest of the file works
REFUSED = {
    "pickled weight": pickled_weight,
    "legacy weights": legacy_weights,
    "legacy constants": legacy_constants,
    "opaque constant": opaque_constant,
    "expression of a size": size_expression,
    "name of a value": value_name,
    "target in torch": target("torch.os.system", ""),
    "target in math": target("math.factorial", ""),
    "private target": target("torch.ops.aten.__class__.x", ""),
    "operator that maps a file": target("torch.ops.aten.from_file.default", "", ""),
    "operator that loads a library": target("torch.ops.load_library", ""),
    "text of an operator": target("torch.ops.aten.gelu.default", ""),
    "tree of results": tree,
    "endless power": power,
}
LEFT_OUT = {"pickled inputs": pickled_inputs, "guard": guard, "metadata": metadata}
# Those that run where torch itself loads the file and makes its module
REAL = ["pickled weight", "opaque constant", "expression of a size", "pickled inputs"]
