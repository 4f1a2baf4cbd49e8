"""Entry point of the `streamrnn` command, beside the package: importing that takes most of the time before the command line can
answer Ctrl-C itself."""

from __future__ import annotations

import os
import signal
from types import FrameType

#: what a shell gives a command that Ctrl-C ended
INTERRUPTED = 130


def main() -> None:
    """Run the command line. Ctrl-C while it is still being imported ends the process at once: nothing is open to be closed."""
    mine = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else whoever started this wants none
    if mine:
        signal.signal(signal.SIGINT, _leave)
    from streamrnn.cli import main as run

    if mine:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    except KeyboardInterrupt:  # outside a command: while its arguments are read, or behind its end
        _leave(signal.SIGINT, None)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"streamrnn: error: interrupted\n")
    os._exit(INTERRUPTED)
