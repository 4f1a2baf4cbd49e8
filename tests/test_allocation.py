"""A warmed-up step allocates nothing, and its code has nothing to allocate, lock or raise with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small import recurrent_engine

from streamrnn.codegen.build import object_code
from streamrnn.codegen.elf import undefined_symbols

#: glibc's own tracer: every malloc, realloc and free between mtrace() and muntrace() becomes a line of MALLOC_TRACE
TRACER = "libc_malloc_debug.so.0"

PROGRAM = """
import ctypes, sys
import numpy as np
sys.path.insert(0, {tests!r})
from small import recurrent_engine
from streamrnn import Stream

libc, tracer = ctypes.CDLL(None), ctypes.CDLL({tracer!r})
libc.dlvsym.restype = ctypes.c_void_p
libc.dlvsym.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
def versioned(name):  # the tracer's functions have no default version; each architecture began with another one
    for version in (b"GLIBC_2.2.5", b"GLIBC_2.17", b"GLIBC_2.4", b"GLIBC_2.27", b"GLIBC_2.0"):
        address = libc.dlvsym(tracer._handle, name, version)
        if address:
            return ctypes.CFUNCTYPE(None)(address)
    raise OSError(name)

stream = Stream(recurrent_engine(hidden=32))
x, out = np.ones(3, np.float32), np.empty(2, np.float32)
def views(n):
    for _ in range(n): stream.step()
def arrays(n):
    for _ in range(n): stream.step(x, out=out)
def results(n):
    for _ in range(n): stream.step(x)
run, start, stop = globals()[sys.argv[1]], versioned(b"mtrace"), versioned(b"muntrace")
run(1000)
start()
run(int(sys.argv[2]))
stop()
"""


def mallocs(program: str, how: str, steps: int, folder: Path) -> int:
    """Allocations that glibc saw during `steps` steps."""
    trace = folder / f"{how}{steps}.trace"
    env = {**os.environ, "LD_PRELOAD": TRACER, "MALLOC_TRACE": str(trace)}
    command = [sys.executable, "-c", program, how, str(steps)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if TRACER in done.stderr:
        pytest.skip(f"this system has no {TRACER} (glibc 2.34 or newer brings it)")
    assert done.returncode == 0, done.stderr
    return sum(" + 0x" in line or " > 0x" in line for line in trace.read_text().splitlines())


@pytest.fixture(scope="module")
def program() -> str:
    return PROGRAM.format(tests=str(Path(__file__).parent), tracer=TRACER)


@pytest.mark.parametrize("how", ["views", "arrays", "results"])
def test_one_hundred_thousand_steps_make_no_malloc(how: str, program: str, tmp_path: Path) -> None:
    assert mallocs(program, how, 100_000, tmp_path) == mallocs(program, how, 0, tmp_path)


def test_the_tracer_sees_an_allocation_in_the_loop(program: str, tmp_path: Path) -> None:
    """The control: with one buffer made per step, the same count is large."""
    leaky = program.replace("stream.step()", "stream.step(); bytearray(4000)")
    assert mallocs(leaky, "views", 1000, tmp_path) >= 1000


def test_the_object_of_a_model_calls_nothing_but_memory_moves() -> None:
    assert undefined_symbols(object_code(recurrent_engine().plan)) <= {"memcpy", "memset"}
