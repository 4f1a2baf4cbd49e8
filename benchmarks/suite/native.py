"""Steps made by native code through the C function that an engine has for foreign threads: no Python in between."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache

import llvmlite.binding as llvm

from streamrnn.codegen.build import Step, host, machine
from streamrnn.ir.graph import Array
from streamrnn.layout import Layout
from streamrnn.memory import aligned_bytes

#: run(weights, arena, inputs, outputs, 1), n times
_LOOP = """
define i64 @repeat(ptr %run, ptr %weights, ptr %arena, ptr %inputs, ptr %outputs, i64 %n) {
entry:
  br label %again
again:
  %i = phi i64 [0, %entry], [%next, %again]
  %made = call i64 %run(ptr %weights, ptr %arena, ptr %inputs, ptr %outputs, i64 1)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %again, label %done
done:
  ret i64 %made
}
"""


@cache
def _loop() -> llvm.ExecutionEngine:
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(_LOOP), machine(*host()))
    engine.finalize_object()
    return engine


def in_kernel(layout: Layout, step: Step, frame: Sequence[Array]) -> Callable[[int], int]:
    """`repeat(n)` makes n steps, at least 1, of a stream of its own; `frame`, an array for each input, is every frame."""
    weights, arena = layout.weights, aligned_bytes(layout.arena_bytes)
    init = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(step.init)
    init(weights.ctypes.data, arena.ctypes.data)
    outputs = [aligned_bytes(port.type.nbytes) for port in layout.outputs]
    ins = (ctypes.c_void_p * len(frame))(*(x.ctypes.data for x in frame))
    outs = (ctypes.c_void_p * len(outputs))(*(block.ctypes.data for block in outputs))
    kinds = [*[ctypes.c_void_p] * 5, ctypes.c_int64]
    repeat = ctypes.CFUNCTYPE(ctypes.c_int64, *kinds)(_loop().get_function_address("repeat"))
    where = (step.run, weights.ctypes.data, arena.ctypes.data, ctypes.addressof(ins), ctypes.addressof(outs))

    def steps(n: int) -> int:
        return int(repeat(*where, n))

    steps.owners = (step, weights, arena, outputs, frame, ins, outs)  # the addresses do not keep them
    return steps
