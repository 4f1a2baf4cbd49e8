"""A compiled step called again and again without Python in between."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import llvmlite.binding as llvm

from streamrnn import Stream
from streamrnn.codegen.build import host, machine

_LOOP = """
define i64 @repeat(ptr %step, ptr %where, i64 %n) {
entry:
  br label %again
again:
  %i = phi i64 [0, %entry], [%next, %again]
  %made = call i64 %step(ptr %where)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %again, label %done
done:
  ret i64 %made
}
"""


@cache
def _engine() -> llvm.ExecutionEngine:
    module = llvm.parse_assembly(_LOOP)
    engine = llvm.create_mcjit_compiler(module, machine(*host()))
    engine.finalize_object()
    return engine


def in_kernel(stream: Stream) -> Callable[[int], int]:
    """`repeat(n)` makes n steps of `stream` on its own views, n at least 1."""
    repeat = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(
        _engine().get_function_address("repeat")
    )
    step, where = stream.engine.step.step, stream._once
    return lambda n: int(repeat(step, where, n))
