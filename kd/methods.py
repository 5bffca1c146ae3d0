"""`python -m kd.methods`: a table of the methods with paper, family, taps and settings.

The table is read from `conf/method/*.yaml` and the classes that these name, for ResNet-20 as the
teacher of ResNet-8, or of the default nets of the task that a method is for.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kd.config.closed_pipe import closed_pipe_ends_quietly
from kd.config.compose import CONF_DIR, plain, register_models
from kd.config.messages import user_message
from kd.config.targets import resolve_target
from kd.io.regular_files import real_path

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from kd.objectives.base import Objective

# Keys of a method's YAML that are not settings of the method.
_STRUCTURE = ("name", "objectives", "weights", "stages", "schedules", "distiller")
_METHOD_ALONE = "method_alone"  # name of a primary config with nothing but a method
_FAMILIES = ("labels", "response", "feature", "relation")
# Overrides for methods of a task; a method for several tasks is shown for the first.
_DATA: dict[str, list[str]] = {"image_classification": [], "text_classification": ["data=text"]}
_DATA["text_classification"] += ["student=transformer_mini_2"]
_COLUMNS = ("method", "paper", "family", "taps of the student", "settings and defaults")


class Row(NamedTuple):
    """A method's line in the table, as text."""

    name: str
    paper: str
    link: str
    family: str
    taps: str
    settings: str


def rows(config_dirs: Iterable[Path] = ()) -> list[Row]:
    """All methods by family and name.

    Args:
        config_dirs: folders beside `conf` with a folder `method`, as given with `--config-dir`.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore

    folders = [CONF_DIR, *(real_path(folder) for folder in config_dirs)]
    register_models(*folders)
    node = {"defaults": [{"method": "kd"}]}
    ConfigStore.instance().store(name=_METHOD_ALONE, node=node, provider="kd")
    # Of two methods with one name Hydra takes that of the first folder.
    files: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((folder / "method").glob("*.yaml")):
            files.setdefault(path.stem, path)
    search = ",".join(f"'file://{folder}'" for folder in folders[1:])
    overrides = [f"hydra.searchpath=[{search}]"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        settings = ["paths.run=run", *overrides]
        bases = {
            task: compose("train", overrides=[*settings, *data]) for task, data in _DATA.items()
        }
        found = [_row(path, bases, overrides) for path in files.values()]
    return sorted(found, key=lambda row: (_FAMILIES.index(row.family), row.name))


def _row(path: Path, bases: "dict[str, DictConfig]", overrides: list[str]) -> Row:
    from hydra import compose
    from omegaconf import open_dict

    from kd.build.method import build_method

    # Composing all of `train` for each method takes three times as long.
    method = compose(_METHOD_ALONE, overrides=[f"method={path.stem}", *overrides]).method
    base = bases[_task(method)]
    with open_dict(base):
        base.method = method
    objectives, _ = build_method(base)
    own = [o for name, o in objectives.items() if name not in ("hard", "soft")]
    main = (own or list(objectives.values()))[-1]
    settings = {k: v for k, v in plain(base.method).items() if k not in _STRUCTURE}
    return Row(
        path.stem,
        *_paper(path),
        _family(main),
        " ".join(dict.fromkeys(tap for o in objectives.values() for tap in o.student_taps)) or "–",
        ", ".join(f"{key}={_short(value)}" for key, value in settings.items()) or "–",
    )


def _task(method: "DictConfig") -> str:
    """The first task that all classes of a method's objectives are for."""
    classes = [resolve_target(str(o["_target_"])) for o in method.get("objectives", {}).values()]
    tasks = [getattr(each, "tasks", [*_DATA]) for each in classes]
    return next((task for task in _DATA if all(task in each for each in tasks)), next(iter(_DATA)))


def _family(objective: "Objective") -> str:
    """The family that the objective's class declares, else a guess from what it reads."""
    if objective.family is not None:
        return objective.family
    if objective.student_taps:
        return "feature"
    return "response" if objective.needs_teacher else "labels"


def _paper(path: Path) -> tuple[str, str]:
    """Paper and link: the first two comment lines of a method's YAML, if they are there."""
    first, second, *_ = [*path.read_text(encoding="utf-8").split("\n"), "", ""]
    paper = first.removeprefix("# ") if first.startswith("# ") else "–"
    link = second.removeprefix("# ")
    return paper, link if link.startswith("https://") else ""


def _short(value: object) -> str:
    if isinstance(value, list):
        return "[" + " ".join(map(str, value)) + "]"
    return "null" if value is None else str(value)


def markdown(found: Iterable[Row]) -> str:
    """The table as Markdown."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|---" * len(_COLUMNS) + "|"]
    for row in found:
        paper = f"[{row.paper}]({row.link})" if row.link else row.paper
        cells = (f"`{row.name}`", paper, row.family, row.taps, f"`{row.settings}`")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    with closed_pipe_ends_quietly():
        _main()


def _main() -> None:
    parser = argparse.ArgumentParser("kd.methods", description="A table of the methods.")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument(
        "--config-dir", "-cd", type=Path, action="append", default=[], metavar="DIR",
        help="list the methods of DIR/method/*.yaml as well",
    )  # fmt: skip
    arguments = parser.parse_args()
    try:
        found = rows(arguments.config_dir)
    except Exception as error:
        if (message := user_message(error)) is None:
            raise
        sys.exit(f"error: {message}")
    if arguments.markdown:
        print(markdown(found))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*_COLUMNS, show_lines=True)
    for row in found:
        table.add_row(row.name, row.paper, row.family, row.taps, row.settings)
    Console().print(table)


if __name__ == "__main__":
    main()
