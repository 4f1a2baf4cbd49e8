"""StreamPool: N streams over one engine, stepped together in compiled code."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from streamrnn.calls import pointers
from streamrnn.codegen.abi import HEADER_POLICY, HEADER_STEPS
from streamrnn.codegen.build import function
from streamrnn.engine import Engine
from streamrnn.errors import InputError, NonFiniteError, UnsupportedError
from streamrnn.ir.types import Array
from streamrnn.pool_memory import Groups, PoolMemory, Rows
from streamrnn.ports import Frames, Ports, Result
from streamrnn.snapshot import Snapshot, check_snapshot, make_snapshot
from streamrnn.stream import OnNonFinite, policy_of

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

#: with fewer slots than this, 16 lanes take longer than one slot after the other: for models of any size, and for those whose
#: weights are so few bytes that every slot finds them in a near cache
FEW, FEW_FOR_SMALL, SMALL = 8, 12, 1 << 18


class StreamPool:
    """`slots` streams of one engine, stepped together.

    Each slot computes exactly what a Stream of its own would, bit for bit, whatever the other slots do. Where every kernel of
    the model has a counterpart across streams, 16 slots share one pass over the weights, each in a lane of the vectors; a
    model without, and a pool of few slots, run slot by slot. `way` says which it is, and why.

    on_nonfinite     as for a Stream, slot by slot
    threads          how many share the slots in a step; they wait for it without spinning. 1: the caller's own
    lanes            True: 16 slots together, however few there are; False: slot by slot. None: what is quicker
    inputs, outputs  arrays [slots, *frame shape] by name: fill, call `step()` without arguments, read

    A pool belongs to one thread at a time. Raises InputError, and UnsupportedError where `lanes` is True and the model has no
    form across streams.
    """

    def __init__(
        self,
        engine: Engine,
        slots: int,
        on_nonfinite: OnNonFinite = "pass",
        threads: int = 1,
        lanes: bool | None = None,
    ) -> None:
        if slots < 1:
            raise InputError(f"a pool needs at least one slot, not {slots}")
        if threads < 1:
            raise InputError(f"a pool needs at least one thread, not {threads}")
        self.engine = engine
        self.slots = slots
        self.way, self._memory = _placed(engine, slots, lanes)
        self._policy = policy_of(on_nonfinite)
        units, unit = len(self._memory.memory), self._memory.unit
        self._active = np.zeros(units * unit, np.uint8)
        self._ports = ports = Ports(engine)
        self._blocks = [np.zeros((units * unit, *lay.port.type.shape), lay.dtype) for lay in (*ports.inputs, *ports.outputs)]
        views = [lay.from_memory(b[:slots]) for lay, b in zip((*ports.inputs, *ports.outputs), self._blocks, strict=True)]
        n = len(ports.inputs)
        self._in_views, self._out_views = views[:n], views[n:]
        self.inputs: Mapping[str, Array] = MappingProxyType({p.name: v for p, v in zip(ports.inputs, views, strict=False)})
        self.outputs: Mapping[str, Array] = MappingProxyType({p.name: v for p, v in zip(ports.outputs, views[n:], strict=True)})
        self._frames = (views[0].dtype, views[0].shape) if n == 1 else None
        self._single = views[n] if len(views) == n + 1 else None
        self._answer = (views[n].dtype, views[n].shape) if len(views) == n + 1 else None
        self._tables: list[object] = []
        step = function(self._memory.address, release_gil=True, args=6)
        cuts = [units * part // threads for part in range(threads + 1)]
        parts = [self._part(step, first, end) for first, end in pairwise(cuts) if first < end]
        self._own, self._others = parts[0], parts[1:]
        self._threads = _threads(len(parts) - 1)

    def _part(self, step: Callable[..., int], first: int, end: int) -> Callable[[], int]:
        """A step of the units from `first` to `end`, with its table of pointers."""
        row = first * self._memory.unit
        at = [block[row:].ctypes.data for block in self._blocks]
        n = len(self._in_views)
        tables = [pointers(side) for side in (at[:n], at[n:])]
        self._tables += tables
        where = self._memory.weights.ctypes.data, self._memory.memory[first:].ctypes.data, self._active[row:].ctypes.data
        return partial(step, *where, *map(ctypes.addressof, tables), end - first)

    def __repr__(self) -> str:
        return f"<StreamPool {self.engine.name}: {int(self._active.sum())} of {self.slots} slots joined, {self.way}>"

    @property
    def active(self) -> npt.NDArray[np.bool_]:
        """Which slots are joined."""
        return self._active[: self.slots].astype(np.bool_)

    def join(self) -> int:
        """Take a free slot at the initial state; its number. Raises InputError where the pool is full."""
        free = np.flatnonzero(self._active[: self.slots] == 0)
        if not len(free):
            raise InputError(f"all {self.slots} slots are taken; leave one, or make a larger pool")
        slot = int(free[0])
        self._active[slot] = 1
        self.reset(slot)
        return slot

    def leave(self, slot: int) -> None:
        """Give a slot back. The others go on undisturbed."""
        self._active[self._known(slot)] = 0
        for view in self._out_views:
            view[slot] = 0

    def reset(self, slot: int) -> None:
        """One slot back to the initial state."""
        self._memory.header(self._known(slot))[HEADER_POLICY] = self._policy
        self._memory.reset(slot)

    def step(self, X: Frames | None = None, out: Array | None = None) -> Result:
        """One step of every joined slot.

        X:   [slots, *frame shape], or a dict of such arrays by name; rows of free slots are ignored. Left out, the step reads
             `self.inputs`.
        out: where to put the single output; left out, the result is a new array (or a dict of arrays). With neither X nor out
             the result is the view `self.outputs`, which the next step overwrites.

        The result has one row per slot, zeros where a slot is free. Raises InputError; NonFiniteError where the policy is
        "raise": the slots named in the message kept their state, the others made their step.
        """
        if out is not None and (self._answer is None or (out.dtype, out.shape) != self._answer):
            raise InputError(f"out is {out.dtype}{list(out.shape)}, which is not the model's single output, one row per slot")
        if X is not None:
            if type(X) is np.ndarray and (X.dtype, X.shape) == self._frames:
                self._in_views[0][...] = X
            else:
                self._take(X)
        if self._run():
            self._refuse()
        if out is not None:
            out[...] = self._single
            return out
        if self._single is not None:
            return self._single if X is None else self._single.copy()
        return self._ports.result(self._out_views if X is None else [view.copy() for view in self._out_views])

    def _take(self, X: Frames) -> None:
        given = self._ports.arrays(X, steps=True)
        if any(len(a) != self.slots for a in given):
            raise InputError(f"the pool has {self.slots} slots, {[len(a) for a in given]} rows were given; one row per slot")
        for view, array in zip(self._in_views, given, strict=True):
            view[...] = array

    def _run(self) -> int:
        """A step of all units; how many slots refused their frame."""
        if self._threads is None:
            return self._own()
        running = [self._threads.submit(part) for part in self._others]
        return self._own() + sum(part.result() for part in running)

    def _refuse(self) -> None:
        finite = [np.isfinite(view).reshape(self.slots, -1).all(1) for view in self._in_views if view.dtype.kind == "f"]
        refused = np.flatnonzero(self.active & ~np.logical_and.reduce(finite))
        raise NonFiniteError(f"the input of slots {refused.tolist()} holds NaN or Inf; their states were not touched")

    def steps(self, slot: int) -> int:
        """Steps that a slot has made since it was joined or reset."""
        return int(self._memory.header(self._known(slot))[HEADER_STEPS])

    def snapshot(self, slot: int) -> Snapshot:
        """The state of one slot; a Stream of the same model can restore it, and the reverse."""
        return make_snapshot(self.engine.fingerprint, self.steps(slot), self._memory.persistent(slot))

    def restore(self, slot: int, snapshot: Snapshot) -> None:
        """Continue a snapshot in a slot. Raises SnapshotError; the slot is unchanged then."""
        views = self._memory.persistent(self._known(slot))
        for view, value in zip(views, check_snapshot(snapshot, self.engine.fingerprint, views), strict=True):
            view[...] = value
        self._memory.header(slot)[HEADER_STEPS] = snapshot.steps

    def _known(self, slot: int) -> int:
        if not 0 <= slot < self.slots:
            raise InputError(f"slot {slot} is not one of 0 .. {self.slots - 1}")
        return slot


def _threads(count: int) -> ThreadPoolExecutor | None:
    """Threads that sleep until they are given a part. They end with what holds them, and with the interpreter."""
    if count == 0:
        return None
    from concurrent.futures import ThreadPoolExecutor  # loads `logging`, which a pool without threads does not need

    return ThreadPoolExecutor(count, "streamrnn-pool")


def _placed(engine: Engine, slots: int, lanes: bool | None) -> tuple[str, PoolMemory]:
    """How a pool runs, in words, and its memory."""
    few = FEW_FOR_SMALL if engine.weights_bytes < SMALL else FEW
    if lanes is False or (lanes is None and slots < few):
        reason = "as asked for" if lanes is False else f"a pool of {slots} leaves too many lanes empty"
        return f"slot by slot: {reason}", Rows(engine, slots)
    try:
        return "16 slots to a vector", Groups(engine, slots)
    except UnsupportedError as error:
        if lanes:
            raise
        return f"slot by slot: {error}", Rows(engine, slots)
