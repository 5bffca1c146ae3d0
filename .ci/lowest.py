"""The lowest versions that pyproject.toml allows, one requirement a line, for pip."""

import re
import tomllib
from pathlib import Path

EXTRAS = ("search", "sweep", "plots", "timm", "text", "detection")
EXTRAS += ("postgres", "mysql", "onnx", "compress")

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
optional = project["optional-dependencies"]
for requirement in [*project["dependencies"], *(r for extra in EXTRAS for r in optional[extra])]:
    if requirement.startswith("kd["):  # another extra, which is listed itself
        continue
    name, lowest = re.match(r"([\w-]+(?:\[\w+\])?)>=([\w.]+)", requirement).groups()
    print(f"{name}=={lowest}")
