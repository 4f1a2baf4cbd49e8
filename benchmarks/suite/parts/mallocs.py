"""Allocations of one step, counted by glibc's own tracer in a process of its own; the control is one `bytearray` per step.

`python -m suite.parts.mallocs ENGINE FOLDER STEPS` is that process.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from streamrnn import Stream
from streamrnn.ir.graph import Array
from suite.cells import CellCase, noise
from suite.own import engine
from suite.parts import Setup
from suite.rows import CONTROL, OWN, Row

#: glibc's tracer: every allocation between mtrace() and muntrace() becomes a line of the file MALLOC_TRACE
TRACER = "libc_malloc_debug.so.0"
STEPS = 2000
HIDDEN = 64
WAYS = (OWN, "onnxruntime", "onnxruntime run", CONTROL)


def rows(setup: Setup) -> Iterator[Row]:
    figures: dict[str, dict[str, float]] = {}
    skipped: dict[str, str] = {}
    for name in WAYS:
        if name.startswith("onnxruntime") and "onnxruntime" not in setup.peers:
            continue
        try:
            none, some = (traced(name, setup.work, steps) for steps in (0, STEPS))
            figures[name] = {"mallocs": (some - none) / STEPS}
        except RuntimeError as reason:
            skipped[name] = str(reason)
    yield Row("mallocs", {"cell": "LSTM", "H": HIDDEN, "way": "step"}, figures, skipped)


def traced(name: str, folder: Path, steps: int) -> int:
    """Allocations that glibc saw. Raises RuntimeError where it cannot be asked."""
    trace = folder / "mallocs.trace"
    trace.unlink(missing_ok=True)
    path = os.pathsep.join(p for p in sys.path if p)
    env = {**os.environ, "LD_PRELOAD": TRACER, "MALLOC_TRACE": str(trace), "PYTHONPATH": path}
    command = [sys.executable, "-m", "suite.parts.mallocs", name, str(folder), str(steps)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if TRACER in done.stderr:
        raise RuntimeError(f"this system has no {TRACER} (glibc 2.34 or newer brings it)")
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    with trace.open() as lines:
        return sum(" + 0x" in line or " > 0x" in line for line in lines)


def switch(name: bytes) -> Callable[[], None]:
    """mtrace or muntrace: the tracer's functions have no default version, and each architecture began with another one."""
    libc, tracer = ctypes.CDLL(None), ctypes.CDLL(TRACER)
    libc.dlvsym.restype = ctypes.c_void_p
    libc.dlvsym.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
    for version in (b"GLIBC_2.2.5", b"GLIBC_2.17", b"GLIBC_2.4", b"GLIBC_2.27", b"GLIBC_2.0"):
        address = libc.dlvsym(tracer._handle, name, version)
        if address:
            return ctypes.CFUNCTYPE(None)(address)
    raise OSError(name)


def stepper(name: str, case: CellCase) -> tuple[Callable[[Array], object], Array]:
    """A way to make one step, and its argument."""
    x = noise(case.x_shape)
    if name == CONTROL:
        return lambda _: bytearray(4000), x
    if name == OWN:
        built = engine(case, "f32")
        return Stream(built).step, x.reshape(built.inputs["x"].shape)
    from suite.peers import onnxruntime_peer

    found = onnxruntime_peer.ways(case, "f32")[name]
    return found.call, x.reshape(found.shape)


def main(name: str, folder: str, steps: str) -> None:
    step, x = stepper(name, CellCase("LSTM", HIDDEN, Path(folder)))
    start, stop = switch(b"mtrace"), switch(b"muntrace")
    for _ in range(1000):
        step(np.copy(x))
    start()
    for _ in range(int(steps)):
        step(x)
    stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
