"""Versions and commit of a run."""

import platform
import re
import subprocess

from kd.io.provenance import git_commit, library_versions


def test_versions_are_those_that_run():
    found = library_versions()
    assert found["python"] == platform.python_version()
    assert {"lightning", "hydra-core", "numpy", "torchmetrics"} <= found.keys()


def test_a_library_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("kd.io.provenance._LIBRARIES", ("no-such-library",))
    assert library_versions()["no-such-library"] == "not installed"


def test_the_commit_is_a_hash_or_unknown(monkeypatch):
    commit = git_commit()
    assert commit is None or re.fullmatch("[0-9a-f]{40}", commit)

    def fail(*_, **__):
        raise subprocess.TimeoutExpired("git", 10)

    monkeypatch.setattr("subprocess.run", fail)
    assert git_commit() is None
