"""Steps and blocks on one arena: the calls behind a Stream."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from streamrnn.codegen import builtin
from streamrnn.codegen.build import function
from streamrnn.engine import Engine
from streamrnn.errors import InputError, NonFiniteError
from streamrnn.ir.types import Array
from streamrnn.memory import ALIGN, aligned_bytes
from streamrnn.ports import Frames, Ports, Result

#: multiply-adds from which on a call releases the GIL: a few microseconds
LONG = 200_000


class Boxes:
    """Memory for one frame of each input and output: views in the user's shapes, and the pointers that `run` takes."""

    def __init__(self, ports: Ports) -> None:
        layouts = [*ports.inputs, *ports.outputs]
        at = np.cumsum([0, *(-(-layout.nbytes // ALIGN) * ALIGN for layout in layouts)])
        self.memory = aligned_bytes(int(at[-1]))
        views = [layout.view(self.memory[int(i) : int(i) + layout.nbytes]) for layout, i in zip(layouts, at, strict=False)]
        n, base = len(ports.inputs), self.memory.ctypes.data
        self.inputs = {layout.name: view for layout, view in zip(ports.inputs, views[:n], strict=True)}
        self.outputs = {layout.name: view for layout, view in zip(ports.outputs, views[n:], strict=True)}
        self._tables = pointers([base + int(i) for i in at[:n]]), pointers([base + int(i) for i in at[n:-1]])
        #: of the table of inputs, and of that of outputs
        self.addresses = [ctypes.addressof(table) for table in self._tables]


def pointers(addresses: list[int]) -> ctypes.Array[ctypes.c_void_p]:
    """A table of addresses for compiled code, never empty."""
    return (ctypes.c_void_p * max(1, len(addresses)))(*addresses)


class Calls:
    """`step` and `process` of a Stream, by way of Python.

    A builtin does the same for arrays that need no conversion (`builtins`) and comes here with everything else. It may outlive
    its Stream, which this object therefore does not know.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.arena = aligned_bytes(engine.arena_bytes)
        self.ports = Ports(engine)
        self.views, self._own = Boxes(self.ports), Boxes(self.ports)
        self._frames, self._results = list(self._own.inputs.values()), list(self._own.outputs.values())
        self._answers = list(self.views.outputs.values())
        self._kinds = [(frame.dtype, frame.shape) for frame in self._frames]
        self._alone = self._kinds[0] if len(self._kinds) == 1 else None
        self._long = -(-LONG // max(1, engine.layout.work))
        code = engine.step
        self._where = (engine.weights.ctypes.data, self.arena.ctypes.data)
        self._tables = [pointers([*self._where, *boxes.addresses]) for boxes in (self.views, self._own)]
        self._on_views, self._on_own = (ctypes.addressof(table) for table in self._tables)
        self._step = function(code.step, release_gil=self._long <= 1, args=1)
        self._short_block = function(code.run, release_gil=False, args=5)
        self._long_block = function(code.run, release_gil=True, args=5)

    def builtins(self, step_doc: str, process_doc: str) -> Mapping[str, Callable[..., Any]]:
        """Builtins by the names step and process; none where this interpreter, or the model's order in memory, forbids it."""
        layouts = [*self.ports.inputs, *self.ports.outputs]
        if not builtin.capable() or not self.ports.inputs or any(layout.moved is not None for layout in layouts):
            return {}
        answer = self._answers[0] if len(self._answers) == 1 else self.views.outputs
        made = {}
        for name, doc, leading, python in (("step", step_doc, 0, self.step), ("process", process_doc, 1, self.process)):
            call = builtin.Call(
                run=self.engine.step.run,
                weights=self._where[0],
                arena=self._where[1],
                view_inputs=self.views.addresses[0],
                view_outputs=self.views.addresses[1],
                answer=answer,
                inputs=[builtin.Port(p.name, p.dtype, p.shape, flat=p.shape == (1,)) for p in self.ports.inputs],
                outputs=[builtin.Port(p.name, p.dtype, p.shape) for p in self.ports.outputs],
                python=python,
                refuse=refuse,
                keep=(self,),
            )
            made[name] = builtin.builtin(name, doc, call, leading=leading, long=self._long)
        return made

    def step(self, x: Frames | None = None, out: Array | None = None) -> Result:
        """`Stream.step`."""
        if out is not None:
            self._check_out(out, ())
        if x is None:
            where, found = self._on_views, self._answers
        else:
            where, found = self._on_own, self._results
            if type(x) is np.ndarray and (x.dtype, x.shape) == self._alone:
                self._frames[0][...] = x
            else:
                self._take(x)
        if self._step(where) != 1:
            refuse(0)
        if out is not None:
            out[...] = found[0]
            return out
        if len(found) == 1:
            return found[0] if x is None else found[0].copy()
        return self.ports.result(found if x is None else [array.copy() for array in found])

    def _take(self, x: Frames) -> None:
        """Fill the own inputs from a dict, or from what needs a conversion."""
        given: list[Any] = []
        if type(x) is dict and len(x) == len(self._frames):
            given = [x.get(name) for name in self._own.inputs]
        if [(v.dtype, v.shape) if type(v) is np.ndarray else None for v in given] != self._kinds:
            given = self.ports.arrays(x, steps=False)
        for frame, value in zip(self._frames, given, strict=True):
            frame[...] = value

    def process(self, X: Frames, out: Array | None = None) -> Result:
        """`Stream.process`."""
        given = self.ports.arrays(X, steps=True)
        n = len(given[0]) if given else 0
        blocks = [layout.to_memory(array) for layout, array in zip(self.ports.inputs, given, strict=True)]
        if out is None:
            results = [np.empty((n, *layout.port.type.shape), layout.dtype) for layout in self.ports.outputs]
        else:
            self._check_out(out, (n,))
            results = [out]
        ins, outs = (pointers([a.ctypes.data for a in arrays]) for arrays in (blocks, results))
        run = self._long_block if n >= self._long else self._short_block
        made = run(*self._where, ctypes.addressof(ins), ctypes.addressof(outs), n)
        if made != n:
            refuse(made)
        if out is not None:
            return out
        return self.ports.result([lay.from_memory(r) for lay, r in zip(self.ports.outputs, results, strict=True)])

    def _check_out(self, out: Array, steps: tuple[int, ...]) -> None:
        """Raises InputError where `out` cannot take the single output, with `steps` in front."""
        layout = self.ports.outputs[0]
        wanted = (*steps, *layout.shape)
        straight = not steps or (layout.moved is None and out.flags.c_contiguous)
        fits = len(self.ports.outputs) == 1 and (out.dtype, out.shape) == (layout.dtype, wanted)
        if not (fits and straight and out.flags.writeable):
            order = "C-contiguous, writeable" if steps else "writeable"
            needed = f"{order} {layout.dtype}{list(wanted)} of a model with one output"
            raise InputError(f"out is {out.dtype}{list(out.shape)}; it must be {needed}")


def refuse(made: int) -> None:
    """Raises NonFiniteError for the frame behind so many made steps."""
    raise NonFiniteError(
        f"frame {made} of the input holds NaN or Inf; the state is that of before it. Mend the input, or choose "
        f"on_nonfinite='hold' or 'reset'"
    )
