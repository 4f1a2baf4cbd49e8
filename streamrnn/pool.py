"""StreamPool: N streams over one engine, stepped together in compiled code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from streamrnn.codegen.abi import HEADER_POLICY, HEADER_STEPS
from streamrnn.engine import Engine
from streamrnn.errors import InputError, UnsupportedError
from streamrnn.ir.types import Array
from streamrnn.pool_calls import PoolCalls
from streamrnn.pool_memory import Groups, PoolMemory, Rows
from streamrnn.ports import Frames, Result
from streamrnn.snapshot import Snapshot, put_snapshot, take_snapshot
from streamrnn.stream import OnNonFinite, policy_of

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
        self._calls = calls = PoolCalls(engine, slots, self._memory, threads)
        self._active = calls.active
        self.inputs: Mapping[str, Array] = MappingProxyType(calls.inputs)
        self.outputs: Mapping[str, Array] = MappingProxyType(calls.outputs)
        step = calls.builtin(StreamPool.step.__doc__ or "")
        if step and type(self).step is StreamPool.step:  # a subclass may have its own
            self.__dict__["step"] = step

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
        for view in self.outputs.values():
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
        return self._calls.step(X, out)

    def steps(self, slot: int) -> int:
        """Steps that a slot has made since it was joined or reset."""
        return int(self._memory.header(self._known(slot))[HEADER_STEPS])

    def snapshot(self, slot: int) -> Snapshot:
        """The state of one slot; a Stream of the same model can restore it, and the reverse."""
        memory = self._memory
        return take_snapshot(self.engine.fingerprint, memory.header(self._known(slot)), memory.persistent(slot))

    def restore(self, slot: int, snapshot: Snapshot) -> None:
        """Continue a snapshot in a slot. Raises SnapshotError; the slot is unchanged then."""
        memory = self._memory
        put_snapshot(snapshot, self.engine.fingerprint, memory.header(self._known(slot)), memory.persistent(slot))

    def _known(self, slot: int) -> int:
        if not 0 <= slot < self.slots:
            raise InputError(f"slot {slot} is not one of 0 .. {self.slots - 1}")
        return slot


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
