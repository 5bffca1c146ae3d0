"""Command lines of the comparison scripts: their common options, and names of methods."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works uninstalled

from kd.config.compose import CONF_DIR
from kd.config.targets import resolve_target
from kd.errors import nearest


def all_methods() -> list[str]:
    """Return the names of all methods."""
    return sorted(path.stem for path in (CONF_DIR / "method").glob("*.yaml"))


def image_methods() -> list[str]:
    """Return the names of the methods whose objectives compare any classifiers of images."""
    task = "image_classification"
    targets = {
        name: re.findall(
            r"_target_: (kd\.objectives\.[\w.]+)",
            (CONF_DIR / "method" / f"{name}.yaml").read_text(),
        )
        for name in all_methods()
    }
    return [
        name
        for name, found in targets.items()
        if all(
            task in resolve_target(t).tasks and not resolve_target(t).fitting_student for t in found
        )
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all comparisons have."""
    parser.add_argument("--seeds", nargs="+", type=seed, default=[0, 1, 2])
    parser.add_argument(
        "--share", type=share, default="0/1", help="k/n: every n-th run, starting at the k-th"
    )
    parser.add_argument("--table", action="store_true", help="print the table and run nothing")


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line; words key=value are overrides, also behind an option with a list."""
    words = sys.argv[1:]
    overrides = [word for word in words if re.match(r"[+~]{0,2}\w[\w.@/]*=", word)]
    options = parser.parse_args([word for word in words if word not in overrides])
    options.overrides += overrides
    return options


def check_names(
    parser: argparse.ArgumentParser, option: str, names: Sequence[str], valid: Sequence[str]
) -> None:
    """End the program with one line if a name does not exist, before anything is trained."""
    for name in names:
        if name not in valid:
            parser.error(f"{option} {name}: there is none; {nearest(name, valid)}")


def positive(text: str) -> int:
    """Parse a whole number ≥ 1.

    Raises:
        argparse.ArgumentTypeError: it is none.

    Example:
        >>> positive("10")
        10
    """
    if not re.fullmatch(r"0*[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number ≥ 1")
    return int(text)


def seed(text: str) -> int:
    """Parse a whole number ≥ 0.

    Raises:
        argparse.ArgumentTypeError: it is none.

    Example:
        >>> seed("0")
        0
    """
    if not re.fullmatch(r"\d+", text):
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number ≥ 0")
    return int(text)


def share(text: str) -> tuple[int, int]:
    """Parse `k/n` with 0 ≤ k < n.

    Raises:
        argparse.ArgumentTypeError: it is no such share.

    Example:
        >>> share("1/2")
        (1, 2)
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    k, n = map(int, found.groups()) if found else (0, 0)
    if k >= n:
        raise argparse.ArgumentTypeError(
            f"{text}: must be k/n with k from 0 to n - 1, as 0/2 and 1/2"
        )
    return k, n
