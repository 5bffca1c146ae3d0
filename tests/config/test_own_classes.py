"""The conf/README's own scheduler, augmentation, metric and logger, and resuming with them."""

import re
import shlex

import pytest
from commands import ROOT, Command
from support import configured, present

from kd.config.record import register_resumed
from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.training.run import run

SECTION = (ROOT / "conf" / "README.md").read_text().partition("## Own classes")[2]


@pytest.fixture
def words(tmp_path, monkeypatch) -> list[str]:
    """The overrides of the README's command; its module can be imported."""
    code, line = (
        present(re.search(rf"```{kind}\n(.*?)```", SECTION, re.S))[1] for kind in ("python", "bash")
    )
    (tmp_path / "mypackage.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    return shlex.split(line.replace("\\\n", ""))[3:]


def test_the_readmes_classes_run(words, tmp_path, capsys):
    folder = tmp_path / "run"
    tiny = ("method=ce", "debug=fast", "logger=csv")
    cfg = configured(folder, tmp_path, *tiny, *words)
    run(cfg, folder)
    assert "val/top3" in RunFolder(folder).metrics.read_text()
    assert "'val/top3'" in capsys.readouterr().out  # of the logger


@pytest.mark.slow
def test_the_line_of_an_interrupted_run_resumes_it(words, train, tmp_path):
    small = ("method=ce", "student=resnet8", "student.net.width=0.5", "trainer=cpu")
    where = (f"paths.output={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}")
    stop = "+callbacks.stop={_target_: support.InterruptAt, step: 25}"
    path = f"{tmp_path}:{ROOT / 'tests'}"
    started = Command(
        "kd.train", *small, *where, "trainer.max_epochs=2", *words, stop, PYTHONPATH=path
    )
    ended = started.ended()
    assert ended.returncode == 130
    line = present(re.search(r"interrupted; resume with: (.*)", ended.stdout + ended.stderr))[1]
    again = shlex.split(line)[3:]
    with pytest.raises(UserError, match="neither conf/ nor a --config-dir names it"):
        register_resumed(again[:1])
    (step,) = [word for word in again if "stop" in word]
    again.remove(step)
    ended = Command("kd.train", *again, "~callbacks.stop", PYTHONPATH=path).ended()
    assert ended.returncode == 0, ended.stderr
