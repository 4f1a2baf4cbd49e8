"""Steps of the joined slots: the calls behind a StreamPool."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from streamrnn.calls import LONG, pointers
from streamrnn.codegen import builtin, pool_step
from streamrnn.codegen.build import function
from streamrnn.engine import Engine
from streamrnn.errors import InputError, NonFiniteError
from streamrnn.ir.types import Array
from streamrnn.pool_memory import PoolMemory
from streamrnn.ports import Frames, Ports, Result

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


class PoolCalls:
    """`step` of a StreamPool, by way of Python.

    A builtin does the same for arrays that need no conversion (`builtin`) and comes here with everything else. It may outlive
    its pool, which this object therefore does not know.

    active           [slots, and what fills up the last group]  1 where a slot is joined
    inputs, outputs  views [slots, *frame shape] of the pool's memory by name
    """

    def __init__(self, engine: Engine, slots: int, memory: PoolMemory, threads: int) -> None:
        self.slots = slots
        self._memory, self._work = memory, engine.layout.work
        units, self._unit = len(memory.memory), memory.unit
        self.active = np.zeros(units * self._unit, np.uint8)
        self.ports = ports = Ports(engine)
        layouts = [*ports.inputs, *ports.outputs]
        self._blocks = [np.zeros((len(self.active), *lay.port.type.shape), lay.dtype) for lay in layouts]
        views = [lay.from_memory(block[:slots]) for lay, block in zip(layouts, self._blocks, strict=True)]
        n = len(ports.inputs)
        self._ins, self._outs = views[:n], views[n:]
        self.inputs = {layout.name: view for layout, view in zip(ports.inputs, self._ins, strict=True)}
        self.outputs = {layout.name: view for layout, view in zip(ports.outputs, self._outs, strict=True)}
        self._frames = (views[0].dtype, views[0].shape) if n == 1 else None
        self._single = views[n] if len(views) == n + 1 else None
        self._answer = (views[n].dtype, views[n].shape) if len(views) == n + 1 else None
        self._tables: list[ctypes.Array[ctypes.c_void_p]] = []
        step = function(memory.address, release_gil=True, args=6)
        cuts = [units * part // threads for part in range(threads + 1)]
        parts = [self._part(step, first, end) for first, end in pairwise(cuts) if first < end]
        self._own, self._others = parts[0], parts[1:]
        self._threads = _threads(len(parts) - 1)

    def _part(self, step: Callable[..., int], first: int, end: int) -> Callable[[], int]:
        """A step of the units from `first` to `end`, with its table of pointers."""
        row = first * self._unit
        at = [block[row:].ctypes.data for block in self._blocks]
        n = len(self._ins)
        tables = [pointers(side) for side in (at[:n], at[n:])]
        self._tables += tables
        where = self._memory.weights.ctypes.data, self._memory.memory[first:].ctypes.data, self.active[row:].ctypes.data
        return partial(step, *where, *map(ctypes.addressof, tables), end - first)

    def builtin(self, doc: str) -> Callable[..., Any] | None:
        """A builtin that steps; None where threads share the slots, or where a Stream has none either."""
        layouts = [*self.ports.inputs, *self.ports.outputs]
        moved = any(layout.moved is not None for layout in layouts)
        if self._others or not builtin.capable() or not self.ports.inputs or moved:
            return None
        own_inputs, own_outputs = map(ctypes.addressof, self._tables)
        memory, active = self._memory.memory, self.active
        sizes = [view.nbytes for view in (*self._ins, *self._outs)]
        fields = {
            "function": self._memory.address,
            "memory": memory.ctypes.data,
            "active": active.ctypes.data,
            "units": len(memory),
            "own_inputs": own_inputs,
            "own_outputs": own_outputs,
            "inputs": len(self._ins),
            "outputs": len(self._outs),
        }
        table = np.array([*(fields[name] for name in pool_step.TABLE), *sizes], np.int64)
        views = zip(layouts, (*self._ins, *self._outs), strict=True)
        ports = [builtin.Port(layout.name, view.dtype, view.shape) for layout, view in views]
        call = builtin.Call(
            run=pool_step.address(),
            weights=self._memory.weights.ctypes.data,
            arena=table.ctypes.data,
            view_inputs=own_inputs,
            view_outputs=own_outputs,
            answer=self.ports.result(self._outs),
            inputs=ports[: len(self._ins)],
            outputs=ports[len(self._ins) :],
            python=self.step,
            refuse=self._refuse,
            keep=(self, table),
        )
        return builtin.builtin("step", doc, call, leading=0, long=1 if self._work * self.slots >= LONG else 2)

    def step(self, X: Frames | None = None, out: Array | None = None) -> Result:
        """`StreamPool.step`."""
        if out is not None and (self._answer is None or (out.dtype, out.shape) != self._answer):
            raise InputError(f"out is {out.dtype}{list(out.shape)}, which is not the model's single output, one row per slot")
        if X is not None:
            if type(X) is np.ndarray and (X.dtype, X.shape) == self._frames:
                self._ins[0][...] = X
            else:
                self._take(X)
        if self._run():
            self._refuse(0)
        if out is not None:
            out[...] = self._single
            return out
        if self._single is not None:
            return self._single if X is None else self._single.copy()
        return self.ports.result(self._outs if X is None else [view.copy() for view in self._outs])

    def _take(self, X: Frames) -> None:
        given = self.ports.arrays(X, steps=True)
        if any(len(a) != self.slots for a in given):
            raise InputError(f"the pool has {self.slots} slots, {[len(a) for a in given]} rows were given; one row per slot")
        for view, array in zip(self._ins, given, strict=True):
            view[...] = array

    def _run(self) -> int:
        """A step of all units; how many slots refused their frame."""
        if self._threads is None:
            return self._own()
        running = [self._threads.submit(part) for part in self._others]
        return self._own() + sum(part.result() for part in running)

    def _refuse(self, made: int) -> None:
        """Raises NonFiniteError for the slots that refused their frame."""
        finite = [np.isfinite(view).reshape(self.slots, -1).all(1) for view in self._ins if view.dtype.kind == "f"]
        joined = self.active[: self.slots].astype(np.bool_)
        refused = np.flatnonzero(joined & ~np.logical_and.reduce(finite))
        raise NonFiniteError(f"the input of slots {refused.tolist()} holds NaN or Inf; their states were not touched")


def _threads(count: int) -> ThreadPoolExecutor | None:
    """Threads that sleep until they are given a part. They end with what holds them, and with the interpreter."""
    if count == 0:
        return None
    from concurrent.futures import ThreadPoolExecutor  # loads `logging`, which a pool without threads does not need

    return ThreadPoolExecutor(count, "streamrnn-pool")
