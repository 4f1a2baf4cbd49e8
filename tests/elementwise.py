"""Run a scalar kernel over whole arrays through plan, driver and linker: the loop that a pointwise node becomes."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from streamrnn.codegen.build import Step, build, function
from streamrnn.ir.lowering import Apply, Place, Register
from streamrnn.ir.types import DType, TensorType
from streamrnn.kernels._jit import Kernel
from streamrnn.plan import ALIGN, HEADER, Loop, Port, Slot, StepPlan

_BACK = {"f32": DType.F32, "f64": DType.F64, "i64": DType.I64, "i32": DType.I32, "u8": DType.U8, "b1": DType.BOOL}


def loop_plan(kernel: Kernel, n: int) -> StepPlan:
    """A plan of one loop over n elements."""
    kinds = [_BACK[ctype] for _, ctype in kernel.params]
    buffers, ports, at = [], [], HEADER
    for i, kind in enumerate([*kinds, _BACK[str(kernel.returns)]]):
        buffers.append(("scratch", Slot(at, n * kind.size)))
        ports.append(Port(f"v{i}", TensorType(kind, (n,)), Place(i, kind), None))
        at += -(-n * kind.size // ALIGN) * ALIGN
    *inputs, output = ports
    body = (Apply(kernel, tuple(map(Register, range(len(inputs))))),)
    loop = Loop("loop", (n,), tuple((p.place, (1,)) for p in inputs), body, output.place)
    return StepPlan(
        calls=(loop,), commit=(), inputs=tuple(inputs), outputs=(output,), states=(), buffers=tuple(buffers),
        weights=np.zeros(ALIGN, np.uint8), state_bytes=HEADER, arena_bytes=at, frames=1,
    )  # fmt: skip


class Elementwise:
    """`kernel` as machine code over arrays of n elements."""

    def __init__(self, kernel: Kernel, n: int) -> None:
        self.plan = loop_plan(kernel, n)
        self.step: Step = build(self.plan)

    def __call__(self, *arrays: npt.NDArray[Any]) -> npt.NDArray[Any]:
        given = [np.ascontiguousarray(a, p.type.dtype.numpy) for a, p in zip(arrays, self.plan.inputs, strict=True)]
        port = self.plan.outputs[0]
        result = np.empty(port.type.shape, port.type.dtype.numpy)
        memory = np.zeros(self.plan.arena_bytes + ALIGN, np.uint8)
        base = memory.ctypes.data + -memory.ctypes.data % ALIGN
        ins = (ctypes.c_void_p * max(1, len(given)))(*(a.ctypes.data for a in given))
        outs = (ctypes.c_void_p * 1)(result.ctypes.data)
        run = function(self.step.run, release_gil=False, args=5)
        weights = self.plan.weights.ctypes.data
        assert run(weights, base, ctypes.addressof(ins), ctypes.addressof(outs), 1) == 1
        return result
