"""`engine.address`: a model runs in a thread that Python did not make and that knows nothing of Python."""

from __future__ import annotations

import ctypes
import sys

import llvmlite.binding as llvm
import numpy as np
import pytest
from contract import floats
from small import recurrent_engine

from streamrnn import Stream
from streamrnn.codegen.build import machine
from streamrnn.memory import aligned_bytes

X = floats(7, 60, 3)

#: what a host's audio thread does: an arena into its initial state, then `blocks` blocks of `steps` steps
HOST = """
%job = type { ptr, ptr, ptr, ptr, ptr, ptr, i64, i64 }
define ptr @host(ptr %p) {
entry:
  %job = load %job, ptr %p
  %init = extractvalue %job %job, 0
  %run = extractvalue %job %job, 1
  %weights = extractvalue %job %job, 2
  %arena = extractvalue %job %job, 3
  %x = extractvalue %job %job, 4
  %y = extractvalue %job %job, 5
  %steps = extractvalue %job %job, 6
  %blocks = extractvalue %job %job, 7
  %in = alloca ptr
  %out = alloca ptr
  call void %init(ptr %weights, ptr %arena)
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%j, %loop]
  %first = mul i64 %i, %steps
  %xi = mul i64 %first, 3
  %yi = mul i64 %first, 2
  %xp = getelementptr float, ptr %x, i64 %xi
  %yp = getelementptr float, ptr %y, i64 %yi
  store ptr %xp, ptr %in
  store ptr %yp, ptr %out
  %made = call i64 %run(ptr %weights, ptr %arena, ptr %in, ptr %out, i64 %steps)
  %j = add i64 %i, 1
  %good = icmp eq i64 %made, %steps
  %left = icmp slt i64 %j, %blocks
  %more = and i1 %good, %left
  br i1 %more, label %loop, label %end
end:
  %number = inttoptr i64 %made to ptr
  ret ptr %number
}
"""


class Job(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("init", "run", "weights", "arena", "x", "y")),
        *((name, ctypes.c_int64) for name in ("steps", "blocks")),
    )


def in_a_foreign_thread(job: Job) -> int:
    """What `host` returns in a thread that pthread_create makes."""
    module = llvm.parse_assembly(HOST)
    target = machine("generic", "")
    module.triple, module.data_layout = target.triple, str(target.target_data)
    jit = llvm.create_lljit_compiler(target, use_jit_link=False)
    library = llvm.JITLibraryBuilder().add_ir(module).export_symbol("host").link(jit, "host")
    libc = ctypes.CDLL(None)
    thread, result = ctypes.c_void_p(), ctypes.c_void_p()
    libc.pthread_join.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    host = ctypes.c_void_p(library["host"])
    assert libc.pthread_create(ctypes.byref(thread), None, host, ctypes.byref(job)) == 0
    assert libc.pthread_join(thread, ctypes.byref(result)) == 0
    return result.value or 0


@pytest.mark.skipif(sys.platform == "win32", reason="makes a POSIX thread")
@pytest.mark.parametrize("steps", [1, 20, 60])
def test_a_foreign_thread_computes_the_bits_of_a_stream(steps: int) -> None:
    engine = recurrent_engine()
    arena, y = aligned_bytes(engine.arena_bytes), np.zeros((60, 2), np.float32)
    addresses = (
        engine.init_address,
        engine.address,
        engine.weights.ctypes.data,
        arena.ctypes.data,
        X.ctypes.data,
        y.ctypes.data,
    )
    assert in_a_foreign_thread(Job(*addresses, steps, 60 // steps)) == steps
    np.testing.assert_array_equal(y, Stream(engine).process(X))
    assert arena[:8].view(np.int64)[0] == 60, "steps made"


@pytest.mark.skipif(sys.platform == "win32", reason="makes a POSIX thread")
def test_an_arena_may_refuse_frames_that_are_not_finite() -> None:
    engine = recurrent_engine()
    arena, y, bad = aligned_bytes(engine.arena_bytes), np.zeros((60, 2), np.float32), X.copy()
    arena[8:16].view(np.int64)[0] = 1
    bad[13, 0] = np.nan
    addresses = (
        engine.init_address,
        engine.address,
        engine.weights.ctypes.data,
        arena.ctypes.data,
        bad.ctypes.data,
        y.ctypes.data,
    )
    assert in_a_foreign_thread(Job(*addresses, 60, 1)) == 13
    np.testing.assert_array_equal(y[:13], Stream(engine).process(X[:13]))
    assert not y[13:].any()


def test_weights_are_aligned_shared_and_read_only() -> None:
    engine = recurrent_engine()
    assert engine.weights.ctypes.data % 64 == 0
    assert engine.weights is engine.weights
    assert not engine.weights.flags.writeable
    assert engine.weights.nbytes == engine.weights_bytes
