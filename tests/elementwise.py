"""Run a kernel over whole arrays through plan, driver and linker, without a graph."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streamrnn.codegen.build import Step, build, function
from streamrnn.ir.lowering import Apply, Place, Register
from streamrnn.ir.types import DType, TensorType
from streamrnn.kernels._jit import Kernel
from streamrnn.plan import ALIGN, HEADER, Call, Loop, Port, Slot, StepPlan


def plan_of(kinds: Sequence[DType], n: int, emit: Callable[[Sequence[Place]], Call | Loop]) -> StepPlan:
    """A plan of one call on arrays of n elements: inputs, then the output."""
    buffers, ports, at = [], [], HEADER
    for i, kind in enumerate(kinds):
        buffers.append(("scratch", Slot(at, n * kind.size)))
        ports.append(Port(f"v{i}", TensorType(kind, (n,)), Place(i, kind), None))
        at += -(-n * kind.size // ALIGN) * ALIGN
    return StepPlan(
        calls=(emit([port.place for port in ports]),), commit=(), inputs=tuple(ports[:-1]), outputs=(ports[-1],), states=(),
        buffers=tuple(buffers), weights=np.zeros(ALIGN, np.uint8), state_bytes=HEADER, arena_bytes=at, frames=1, work=1,
    )  # fmt: skip


def loop_plan(kernel: Kernel, n: int) -> StepPlan:
    """A scalar kernel in a loop over n elements."""
    kinds = [DType.of_ctype(ctype) for ctype in (*(ctype for _, ctype in kernel.params), str(kernel.returns))]
    body = (Apply(kernel, tuple(map(Register, range(len(kernel.params))))),)
    return plan_of(kinds, n, lambda places: Loop("loop", (n,), tuple((p, (1,)) for p in places[:-1]), body, places[-1]))


def call_plan(kernel: Kernel, n: int) -> StepPlan:
    """A kernel `(n, float32 input, float32 output)`, called once."""
    return plan_of([DType.F32] * 2, n, lambda places: Call("call", kernel, (n, *places), n))


class Elementwise:
    """A plan of one input or more and one output as machine code."""

    def __init__(self, plan: StepPlan) -> None:
        self.plan = plan
        self.step: Step = build(plan)

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
