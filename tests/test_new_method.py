"""A new method is one Python file and one YAML file, inside the repository and outside of it.

The files are the example in kd/objectives/README.md.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, Command
from support import present

from kd.io.result_file import read_result

RUN = (
    *("method=logit_l1", "teacher=resnet8", "student=resnet8", "student.net.width=0.5"),
    *("trainer=cpu", "debug=fast", "trainer.enable_progress_bar=false"),
)
# Tests that list methods, files of conf or modules of kd, and those that these parametrise
TESTS = (
    *("test_methods.py", "test_layers.py", "test_sweeps.py", "config/test_options.py"),
    *("objectives/test_files.py", "objectives/test_losses.py", "objectives/test_doctests.py"),
    "objectives/test_logit_objectives.py",
)
CHOSEN = " or ".join(
    [
        *("logit_l1", "test_files", "test_layers", "test_every_method"),
        *("test_the_readme", "test_the_sweep"),
    ]
)


def example() -> tuple[str, str]:
    """The Python and the YAML file of the example."""
    text = (ROOT / "kd/objectives/README.md").read_text().partition("## Adding a method")[2]
    module, config = (
        present(re.search(rf"```{kind}\n(.*?)```", text, re.S))[1] for kind in ("python", "yaml")
    )
    return module, config


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A copy of the repository with the example's two files."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("kd", "conf", "tests", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    module, config = example()
    (folder / "kd/objectives/logit_l1.py").write_text(module)
    (folder / "conf/method/logit_l1.yaml").write_text(config)
    return folder


def python(folder: Path, *arguments: str) -> str:
    """Run `python -m arguments` in `folder` and return its standard output."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_inside_the_repository_it_runs(repository, tmp_path):
    folders = (f"paths.output={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}")
    python(repository, "kd.train", *RUN, *folders)
    assert present(read_result(tmp_path / "run"))["method"] == "logit_l1"


@pytest.mark.slow
def test_inside_the_repository_the_tests_pass_with_no_further_edit(repository):
    files = [f"tests/{name}" for name in TESTS]
    said = python(repository, "pytest", "-n", "0", "-k", CHOSEN, *files)
    assert "passed" in said


def test_outside_the_repository_it_runs_and_is_listed(tmp_path):
    module, config = example()
    (tmp_path / "mypackage.py").write_text(module)
    (tmp_path / "method").mkdir()
    elsewhere = config.replace("kd.objectives.logit_l1.", "mypackage.")
    (tmp_path / "method" / "logit_l1.yaml").write_text(elsewhere)
    path: dict[str, Any] = {"PYTHONPATH": str(tmp_path)}
    folders = ("--config-dir", str(tmp_path))
    output = (f"paths.output={tmp_path / 'outputs'}", f"hydra.run.dir={tmp_path / 'run'}")
    ended = Command("kd.train", *folders, *RUN, *output, **path).ended()
    assert ended.returncode == 0, ended.stderr
    assert present(read_result(tmp_path / "run"))["method"] == "logit_l1"
    listed = Command("kd.methods", "--markdown", *folders, **path).ended()
    assert "| `logit_l1` |" in listed.stdout, listed.stderr
