"""StreamPool: N streams over one engine, stepped together in compiled code."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from streamrnn.codegen.abi import HEADER_MENDED, HEADER_POLICY, HEADER_STEPS
from streamrnn.codegen.build import function
from streamrnn.engine import Engine
from streamrnn.errors import InputError, NonFiniteError
from streamrnn.ir.types import Array
from streamrnn.memory import aligned_bytes
from streamrnn.ports import Frames, Ports, Result
from streamrnn.snapshot import Snapshot, check_snapshot, make_snapshot
from streamrnn.stream import OnNonFinite, persistent, policy_of


class StreamPool:
    """`slots` streams, each with an arena of its own; a slot that nobody has joined costs nothing in a step.

    Each slot computes exactly what a Stream of its own would, bit for bit, whatever the other slots do.
    """

    def __init__(self, engine: Engine, slots: int, on_nonfinite: OnNonFinite = "pass") -> None:
        if slots < 1:
            raise InputError(f"a pool needs at least one slot, not {slots}")
        self.engine = engine
        self.slots = slots
        layout = engine.layout
        self._ports = Ports(engine)
        self._arenas = aligned_bytes(layout.step_bytes * slots).reshape(slots, layout.step_bytes)
        self._active = np.zeros(slots, np.uint8)
        self._weights = engine.weights
        self._policy = policy_of(on_nonfinite)
        self._init = function(engine.step.init, release_gil=False, args=2)
        self._pool = function(engine.step.pool, release_gil=True, args=6)
        self._outputs = [np.zeros((slots, *lay.port.type.shape), lay.dtype) for lay in self._ports.outputs]

    @property
    def active(self) -> npt.NDArray[np.bool_]:
        """Which slots are joined."""
        return self._active.astype(np.bool_)

    def join(self) -> int:
        """Take a free slot at the initial state; its number. Raises InputError where the pool is full."""
        free = np.flatnonzero(self._active == 0)
        if not len(free):
            raise InputError(f"all {self.slots} slots are taken; leave one, or make a larger pool")
        slot = int(free[0])
        self._active[slot] = 1
        self.reset(slot)
        return slot

    def leave(self, slot: int) -> None:
        """Give a slot back. The others go on undisturbed."""
        self._arena(slot)
        self._active[slot] = 0
        for out in self._outputs:
            out[slot] = 0

    def reset(self, slot: int) -> None:
        """One slot back to the initial state."""
        header = self._arena(slot)[:64].view(np.int64)
        header[HEADER_POLICY] = self._policy
        self._init(self._weights.ctypes.data, self._arena(slot).ctypes.data)

    def step(self, X: Frames) -> Result:
        """One step of every joined slot.

        X: [slots, *frame shape], or a dict of such arrays by name; rows of free slots are ignored.
        The result has one row per slot, zeros where a slot is free. Raises InputError; NonFiniteError where the policy is
        "raise": the slots named in the message kept their state, the others made their step.
        """
        given = self._ports.arrays(X, steps=True)
        if any(len(a) != self.slots for a in given):
            raise InputError(f"the pool has {self.slots} slots, {[len(a) for a in given]} rows were given; one row per slot")
        blocks = [lay.to_memory(a) for lay, a in zip(self._ports.inputs, given, strict=True)]
        before = self._headers()[:, HEADER_MENDED].copy()
        ins = (ctypes.c_void_p * max(1, len(blocks)))(*(b.ctypes.data for b in blocks))
        outs = (ctypes.c_void_p * max(1, len(self._outputs)))(*(o.ctypes.data for o in self._outputs))
        where = self._weights.ctypes.data, self._arenas.ctypes.data, self._active.ctypes.data
        if self._pool(*where, ctypes.addressof(ins), ctypes.addressof(outs), self.slots):
            refused = np.flatnonzero((self._headers()[:, HEADER_MENDED] != before) & (self._active != 0))
            raise NonFiniteError(f"the input of slots {refused.tolist()} holds NaN or Inf; their states were not touched")
        return self._ports.result(
            [lay.from_memory(o).copy() for lay, o in zip(self._ports.outputs, self._outputs, strict=True)]
        )

    def steps(self, slot: int) -> int:
        """Steps that a slot has made since it was joined or reset."""
        return int(self._arena(slot)[:64].view(np.int64)[HEADER_STEPS])

    def snapshot(self, slot: int) -> Snapshot:
        """The state of one slot; a Stream of the same model can restore it, and the reverse."""
        return make_snapshot(self.engine.fingerprint, self.steps(slot), persistent(self.engine.layout, self._arena(slot)))

    def restore(self, slot: int, snapshot: Snapshot) -> None:
        """Continue a snapshot in a slot. Raises SnapshotError; the slot is unchanged then."""
        views = persistent(self.engine.layout, self._arena(slot))
        values: list[Array] = check_snapshot(snapshot, self.engine.fingerprint, views)
        for view, value in zip(views, values, strict=True):
            view[...] = value
        self._arena(slot)[:64].view(np.int64)[HEADER_STEPS] = snapshot.steps

    def _headers(self) -> npt.NDArray[np.int64]:
        return self._arenas[:, :64].view(np.int64)

    def _arena(self, slot: int) -> npt.NDArray[np.uint8]:
        if not 0 <= slot < self.slots:
            raise InputError(f"slot {slot} is not one of 0 .. {self.slots - 1}")
        row: npt.NDArray[np.uint8] = self._arenas[slot]
        return row
