"""Library versions and git commit of a run."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LIBRARIES = ("kd", "torch", "torchvision", "lightning", "hydra-core", "torchmetrics", "numpy")


def library_versions() -> dict[str, str]:
    """Python and the libraries a number depends on."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a checkout that was not installed
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """The commit of the checkout this package lies in; None outside one."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
