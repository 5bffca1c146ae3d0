"""Signals that ask a run to stop."""

import signal

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from kd.callbacks.stop_request import StopRequest


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SIGTERMException)]
)
def test_signal_is_recorded_and_raised_later(number, error):
    stop, before = StopRequest(), signal.getsignal(number)
    stop.raise_if_received()
    stop.install()
    signal.raise_signal(number)
    stop.restore()
    assert signal.getsignal(number) == before
    with pytest.raises(error):
        stop.raise_if_received()


def test_second_signal_exits_at_once(monkeypatch):
    codes: list[int] = []
    monkeypatch.setattr("os._exit", codes.append)
    stop = StopRequest()
    stop.receive(signal.SIGINT)
    assert codes == []
    stop.receive(signal.SIGINT)
    assert codes == [130]
