"""The same plan with the kernels as plain Python functions: for the debugger, for coverage, and as a check on the compiler.

Thousands of times slower than the compiled step, and it gives the value of every node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Apply, Place, Register, Skip
from streamrnn.ir.types import DType
from streamrnn.kernels.ports import give_frames
from streamrnn.plan import Call, Copy, Item, Loop, Port, Repeat, StepPlan, When


class Interpreter:
    """One stream of a plan, run in plain Python. `step` takes and gives arrays in the shapes of the plan's ports."""

    def __init__(self, plan: StepPlan) -> None:
        self.plan = plan
        self.arena = np.zeros(plan.arena_bytes, np.uint8)
        self.weights = plan.weights
        self.at: dict[int, int] = {}  # loop number -> present iteration
        self.reset()

    def reset(self) -> None:
        """Back to the initial state."""
        self.arena[:] = 0
        self.steps = 0
        for state in self.plan.states:
            self.read(state.place, state.type.size)[:] = self.read(state.init, state.type.size)

    def read(self, place: Place, count: int | None = None) -> Array:
        """The elements at `place`, as a 1-D view."""
        space, offset = self.plan.place(place)
        offset += sum(self.at[number] * stride * place.dtype.size for number, stride in place.moves)
        memory = self.weights if space == "weights" else self.arena
        size = place.dtype.size
        end = len(memory) - (len(memory) - offset) % size if count is None else offset + count * size
        return memory[offset:end].view(place.dtype.stored)

    def step(self, inputs: Sequence[Array]) -> list[Array]:
        """One step: arrays of the plan's inputs to arrays of its outputs, in order."""
        for port, value in zip(self.plan.inputs, inputs, strict=True):
            dtype = port.type.dtype
            self.read(port.place, port.type.size)[:] = np.asarray(value, dtype.numpy).reshape(-1).view(dtype.stored)
        with np.errstate(all="ignore"):
            self.run_all(self.plan.calls)
        outputs = [self._give(port) for port in self.plan.outputs]
        self.run_all(self.plan.commit)
        self.steps += 1
        return outputs

    def run_all(self, items: Iterable[Item]) -> None:
        """Run items of the plan on the memory as it is."""
        for item in items:
            if isinstance(item, When):
                if self.read(item.condition, 1)[0] == item.value:
                    self.run_all(item.calls)
            elif isinstance(item, Repeat):
                self._repeat(item)
            else:
                self._run(item)

    def _repeat(self, loop: Repeat) -> None:
        first = self.skip(loop.first) if isinstance(loop.first, Skip) else int(str(loop.first))
        stop = loop.trips if loop.count is None else min(loop.trips, int(self.read(loop.count, 1)[0]))
        for i in range(first, stop):
            if loop.condition is not None and not self.read(loop.condition, 1)[0]:
                break
            self.at[loop.number] = i
            self.run_all(loop.calls)

    def _run(self, call: Call | Loop | Copy) -> None:
        if isinstance(call, Call):
            args = [self._argument(arg, ctype) for arg, (_, ctype) in zip(call.args, call.kernel.params, strict=True)]
            call.kernel.plain(*args)
        elif isinstance(call, Copy):
            count = call.size // call.target.dtype.size
            self.read(call.target, count)[:] = self.read(call.source, count)
        else:
            self._loop(call)

    def skip(self, skip: Skip) -> int:
        return min(max(skip.delay - self.steps * skip.frames, 0), skip.frames)

    def _argument(self, arg: int | float | Place | Skip, ctype: str) -> Any:
        if isinstance(arg, Place):
            return self.read(arg)
        if isinstance(arg, Skip):
            return self.skip(arg)
        return DType.of_ctype(ctype).numpy.type(arg) if ctype.startswith("f") else int(arg)

    def _loop(self, loop: Loop) -> None:
        total = int(np.prod(loop.shape))
        grids = np.indices(loop.shape).reshape(len(loop.shape), -1)
        registers: list[Array] = []
        for place, strides in loop.inputs:
            at = (np.array(strides) @ grids).astype(np.int64)
            first = int(at.min())  # negative strides lead to elements in front of the place
            registers.append(self.read(place.at(first))[at - first])
        for apply in loop.body:
            registers.append(_applied(apply, registers, total))
        self.read(loop.output, total)[:] = registers[-1]

    def _give(self, port: Port) -> Array:
        value = self.read(port.place, port.type.size).copy()
        stream = port.stream
        if stream is not None and stream.delay:
            frames = self.plan.frames // stream.stride if stream.axis is None else port.type.shape[stream.axis]
            skip = self.skip(Skip(stream.delay, frames))
            outer, inner = 1, port.type.nbytes
            if stream.axis is not None:
                outer = port.type.with_shape(port.type.shape[: stream.axis]).size
                inner = port.type.nbytes // max(1, outer * frames)
            x, y = value.view(np.uint8).copy(), value.view(np.uint8)
            latest = stream.axis is None
            give_frames.plain(outer, 1 if latest else frames, inner, skip, frames if latest else 0, x, y)
        return value.view(port.type.dtype.numpy).reshape(port.type.shape)


def _applied(apply: Apply, registers: Sequence[Array], total: int) -> Array:
    """A scalar function on every element."""
    function = apply.function
    found = []
    for i in range(total):
        args = []
        for arg, (_, ctype) in zip(apply.args, function.params, strict=True):
            value = registers[arg.index][i] if isinstance(arg, Register) else arg
            args.append(DType.of_ctype(ctype).stored.type(value))
        found.append(function.plain(*args))
    # the result is cut to its own width, as in the compiled loop
    return np.array(found, DType.of_ctype(str(function.returns)).stored).astype(apply.dtype.stored)
