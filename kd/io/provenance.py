"""Provenance of a run's numbers: library versions and git commit."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Libraries whose versions can change a number.
_LIBRARIES = ("kd", "torch", "torchvision", "lightning", "hydra-core", "torchmetrics", "numpy")


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # `kd` in a checkout that is not installed
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """Return the commit of the checkout that this package is in; None outside a repository."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        # git may wait for a lock, or for a network mount; a run does not.
        output = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return output.stdout.strip()
