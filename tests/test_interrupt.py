"""Ctrl-C ends a command quietly with exit code 130, whatever it is at."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: waits for readings on stdin
RUN = ["run", str(ROOT / "examples" / "models" / "sensor.onnx"), "-"]


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """What is started hears Ctrl-C, though the tests may run in the background of a shell, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_a_command_waits_leaves_with_130_and_one_line() -> None:
    command = [sys.executable, "-c", "from streamrnn_command import main; main()", *RUN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read().splitlines()[-1].endswith("interrupted")


#: the console script's entry in a process that does something as soon as a module is about to be imported
HOOKED = """
import os, signal, sys
module, act = sys.argv.pop(1), sys.argv.pop(1)
class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            exec(act)
sys.meta_path.insert(0, Hook())
from streamrnn_command import main
main()
"""


def hooked(module: str, act: str) -> list[str]:
    return [sys.executable, "-c", HOOKED, module, act, *RUN]


@pytest.mark.parametrize("module", ["streamrnn", "numpy", "typer", "streamrnn.cli.run", "rich.console", "llvmlite"])
def test_ctrl_c_during_an_import_leaves_with_130_and_one_line(module: str) -> None:
    command = hooked(module, "os.kill(os.getpid(), signal.SIGINT)")
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines()[-1:] == ["streamrnn: error: interrupted"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8])
def test_ctrl_c_at_any_moment_leaves_with_130(delay: float) -> None:
    """From the first import on, until it waits for input; whatever it is at after `delay` seconds."""
    command = hooked("streamrnn", "os.write(2, b'begun\\n')")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        said = process.stderr.read()
    assert said.splitlines()[-1] == "streamrnn: error: interrupted"
    assert "Traceback" not in said


def test_ctrl_c_that_is_ignored_stays_ignored() -> None:
    command = hooked("streamrnn.cli", "os.kill(os.getpid(), signal.SIGINT)")
    command[2] = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + command[2]
    assert subprocess.run(command, input="", capture_output=True, timeout=60).returncode == 0
