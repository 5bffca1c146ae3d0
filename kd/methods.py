"""`python -m kd.methods`: all methods with paper, family, taps and knobs, from code and YAML."""

import argparse
from pathlib import Path
from typing import NamedTuple

from kd.config.compose import CONF_DIR, plain, register_models

_NO_KNOBS = ("name", "objectives", "weights", "stages")
_COLUMNS = ("method", "paper", "family", "taps of the student", "knobs and defaults")


class Row(NamedTuple):
    """A method's line in the table; taps and defaults for ResNet-20 and ResNet-8."""

    name: str
    paper: str
    family: str
    taps: str
    knobs: str


def rows() -> list[Row]:
    """All methods below `conf/method`, by family and name."""
    order = {"labels": 0, "response": 1, "feature": 2, "relation": 3}
    found = [_row(path) for path in sorted((CONF_DIR / "method").glob("*.yaml"))]
    return sorted(found, key=lambda row: (order[row.family], row.name))


def _row(path: Path) -> Row:
    from hydra import compose, initialize_config_dir

    from kd.build.method import build_method

    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("train", overrides=[f"method={path.stem}", "paths.run=run"])
    objectives, _ = build_method(cfg)
    own = [o for name, o in objectives.items() if name not in ("hard", "soft")]
    main = (own or list(objectives.values()))[-1]
    knobs = {k: v for k, v in plain(cfg.method).items() if k not in _NO_KNOBS}
    return Row(
        path.stem,
        path.read_text().split("\n")[0].removeprefix("# "),
        main.family,
        " ".join(dict.fromkeys(tap for o in own for tap in o.student_taps)) or "–",
        ", ".join(f"{key}={_short(value)}" for key, value in knobs.items()) or "–",
    )


def _short(value: object) -> str:
    if isinstance(value, list):
        return "[" + " ".join(map(str, value)) + "]"
    return "null" if value is None else str(value)


def markdown() -> str:
    """The table as Markdown."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|---" * len(_COLUMNS) + "|"]
    for row in rows():
        cells = (f"`{row.name}`", row.paper, row.family, row.taps, f"`{row.knobs}`")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser("kd.methods", description=__doc__.split(": ")[1])
    parser.add_argument("--markdown", action="store_true", help="as in the README")
    if parser.parse_args().markdown:
        print(markdown())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*_COLUMNS, show_lines=True)
    for row in rows():
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
