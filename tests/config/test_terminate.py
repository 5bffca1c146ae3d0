"""SIGTERM outside of training, where no state is saved."""

import signal
import subprocess
import sys


def test_a_command_ends_with_the_code_of_shells():
    """Before any heavy library is loaded, and whatever the command is doing."""
    code = (
        "import os, signal, sys; import kd.config.command as c;"
        "c._prepare = lambda *_: os.kill(os.getpid(), signal.SIGTERM);"
        "sys.argv = ['kd']; c.command('train')(print)()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in ended.stderr
