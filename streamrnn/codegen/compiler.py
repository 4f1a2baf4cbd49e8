"""The compiling process as its user sees it: one for each process that misses kernels, because importing Numba and compiling
the helpers that kernels share takes longer than most kernels do."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path

from streamrnn.errors import StreamRNNError
from streamrnn.kernels._jit import Kernel

_COMMAND = (sys.executable, "-P", "-m", "streamrnn.kernels._compile")


class _Process:
    """One run of `streamrnn.kernels._compile`, which finds modules along `path`."""

    def __init__(self, path: str) -> None:
        self.path = path
        # as long-lived as the process
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        env = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
        env["PYTHONPATH"] = path
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(_COMMAND, stdin=pipe, stdout=pipe, stderr=self._log, env=env, text=True)

    def ask(self, request: str) -> str:
        """The line that answers a request, "" where the process has ended."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            return ""
        return process.stdout.readline()

    def last_words(self) -> str:
        """Why the process ended: the last line that it wrote."""
        code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with code {code}"

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError), self._process:
            pass  # waits for it and closes its pipes
        self._log.close()


class Compiler:
    """Keeps the compiling process from one kernel to the next; after a while without any, that ends by itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: _Process | None = None
        atexit.register(self.stop)

    def compile(self, kernel: Kernel, file: Path) -> None:
        """Write the bitcode of `kernel` to `file`. Raises StreamRNNError, also where its source is not what it was when this
        process hashed it."""
        request = json.dumps([kernel.address, kernel.key, str(file.absolute())])
        with self._lock:
            try:
                answer = self._answer(request)
            except BaseException:
                self.stop()  # or its answer would be taken for that to the next request
                raise
        reason = json.loads(answer)
        if reason:
            by_hand = f"echo {shlex.quote(request)} | {shlex.join(_COMMAND)}"
            raise StreamRNNError(f"the kernel compiler failed ({reason}); run it by itself to see more: {by_hand}")

    def _answer(self, request: str) -> str:
        path = os.pathsep.join(p for p in sys.path if p)
        if self._process and self._process.path == path:
            answer = self._process.ask(request)
            if answer:
                return answer
        self.stop()
        self._process = _Process(path)
        return self._process.ask(request) or json.dumps(self._process.last_words())

    def stop(self) -> None:
        """End the process."""
        if self._process:
            self._process.stop()
        self._process = None


@cache
def _of_process(_pid: int) -> Compiler:
    return Compiler()


def compiler() -> Compiler:
    """The one of this process; a forked one gets its own."""
    return _of_process(os.getpid())
