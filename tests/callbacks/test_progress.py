"""The progress bar: shown on a terminal only, with the net's name, below all other output."""

import logging
import re
import sys
from typing import ClassVar

import pytest
from lightning import Callback
from support import configured

from kd.training.run import run


class LogStream(Callback):
    """Record the streams of the root logger's handlers while the bar is shown."""

    streams: ClassVar[list] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        handlers = logging.getLogger().handlers
        self.streams.extend(h.stream for h in handlers if type(h) is logging.StreamHandler)


@pytest.fixture
def shown(output, tmp_path, monkeypatch, capsys):
    """Output of a run of two epochs, on a terminal, and the messages of its log."""

    def call(*options: str) -> str:
        monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any stream for a terminal
        monkeypatch.setenv("COLUMNS", "160")
        bar = ("trainer.enable_progress_bar=true", "trainer.max_epochs=2", *options)
        run(configured(tmp_path, output, *bar), tmp_path)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)

    return call


def test_a_bar_names_the_net_and_the_epoch(shown, caplog):
    with caplog.at_level(logging.INFO):
        text = shown()
    assert re.search(r"student resnet8 ━+ epoch 2/2 .*train loss [\d.]+, validation accuracy", text)
    assert "teacher outputs" in text
    assert "test of student resnet8" in text
    assert ": epoch 2/2" not in caplog.text  # the bar replaces the lines of the epochs


def test_log_lines_are_printed_above_the_bar(shown):
    """A handler that keeps writing to the terminal itself would break the bar's line."""
    handler = logging.StreamHandler(stream := sys.stdout)
    logger = logging.getLogger()
    logger.addHandler(handler)
    try:
        with_log = "+callbacks.say={_target_: test_progress.LogStream}"
        shown("method=ce", with_log)
        assert handler.stream is stream
    finally:
        logger.removeHandler(handler)
    assert LogStream.streams
    assert stream not in LogStream.streams


def test_without_a_terminal_there_is_no_bar(output, tmp_path, capsys):
    options = ("trainer.enable_progress_bar=true", "trainer.max_epochs=1", "method=ce")
    run(configured(tmp_path, output, *options), tmp_path)
    assert "━ epoch" not in capsys.readouterr().out
