"""Where the slots of a pool lie: each in an arena of its own, or 16 of them interleaved in the arena of a group."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamrnn.codegen import ready
from streamrnn.codegen.abi import GROUP, HEADER_MENDED, HEADER_STEPS
from streamrnn.codegen.build import PoolStep, build_pool, function, load_pool
from streamrnn.engine import Engine
from streamrnn.errors import UnsupportedError
from streamrnn.ir.place import Place
from streamrnn.ir.types import Array
from streamrnn.layout import Layout
from streamrnn.memory import aligned_bytes
from streamrnn.stream import persistent

Header = npt.NDArray[np.int64]


class PoolMemory(ABC):
    """The memory of all slots of a pool.

    unit     slots that lie together: 1, or 16 in a group
    memory   [units, bytes]
    weights  the weight block that goes with it
    address  of the compiled function that makes one step of units; its arguments are those of `pool` in `codegen.abi`
    """

    unit: int
    memory: npt.NDArray[np.uint8]
    weights: npt.NDArray[np.uint8]
    address: int

    @abstractmethod
    def header(self, slot: int) -> Header:
        """The header of a slot, as in `codegen.abi`."""

    @abstractmethod
    def persistent(self, slot: int) -> list[Array]:
        """The held inputs and the states of a slot, all that a later step can depend on, as arrays of words or of elements."""

    @abstractmethod
    def reset(self, slot: int) -> None:
        """A slot back to the initial state; its policy stays."""


class Rows(PoolMemory):
    """Each slot in an arena of its own, stepped one after the other."""

    unit = 1

    def __init__(self, engine: Engine, slots: int) -> None:
        self._layout = engine.layout
        self.weights = engine.weights
        self._init = function(engine.step.init, release_gil=False, args=2)
        self.memory = aligned_bytes(slots * self._layout.step_bytes).reshape(slots, -1)
        self.address = engine.step.pool

    def header(self, slot: int) -> Header:
        return self.memory[slot, :64].view(np.int64)

    def persistent(self, slot: int) -> list[Array]:
        return persistent(self._layout, self.memory[slot])

    def reset(self, slot: int) -> None:
        self._init(self.weights.ctypes.data, self.memory[slot].ctypes.data)


class Groups(PoolMemory):
    """Sixteen slots to a group, interleaved, stepped together: each weight is read once for all of them.

    Raises UnsupportedError where the plan has no form across streams; see `lanes`.
    """

    unit = GROUP

    def __init__(self, engine: Engine, slots: int) -> None:
        self._layout = engine.layout
        self._step, group = _group(engine, eight=slots <= GROUP // 2)
        self.weights = group.weights if group.weights.size else engine.weights
        self.address = self._step.lanes
        groups = -(-slots // GROUP)
        self.memory = aligned_bytes(groups * (group.arena_bytes + group.state_bytes)).reshape(groups, -1)
        self._words = self.memory.view(np.uint32).reshape(groups, -1, GROUP)

    def header(self, slot: int) -> Header:
        at = slot % GROUP * 64
        return self.memory[slot // GROUP, at : at + 64].view(np.int64)

    def persistent(self, slot: int) -> list[Array]:
        inputs = [self._lane(slot, port.place, port.type.nbytes) for port in self._layout.inputs]
        return inputs + [self._lane(slot, state.place, state.type.nbytes) for state in self._layout.states]

    def reset(self, slot: int) -> None:
        for port in self._layout.inputs:
            self._lane(slot, port.place, port.type.nbytes)[...] = 0
        for state in self._layout.states:
            _, at = self._layout.place(state.init)
            init = self.weights[at : at + state.type.nbytes].view(np.uint32)
            self._lane(slot, state.place, state.type.nbytes)[...] = init
        self.header(slot)[[HEADER_STEPS, HEADER_MENDED]] = 0

    def _lane(self, slot: int, place: Place, nbytes: int) -> Array:
        """A slot's words at a place of the plan of one stream."""
        first = self._layout.place(place)[1] // 4
        lane: Array = self._words[slot // GROUP, first : first + nbytes // 4, slot % GROUP]
        return lane


def _group(engine: Engine, eight: bool) -> tuple[PoolStep, Layout]:
    """The code and the layout of a group, whose weights are empty where they are those of the engine; from the cache where they
    are there. Raises UnsupportedError."""
    file = engine.cached and ready.group_file(engine.cached, eight)
    found = ready.load(file) if file else None
    if file is None or found is None:
        return _new_group(engine, eight, file)
    if not found.code:
        raise UnsupportedError(found.about["reason"])
    return load_pool(found.code, file.stem), found.layout


def _new_group(engine: Engine, eight: bool, file: Path | None) -> tuple[PoolStep, Layout]:
    """The same, made of the plan and put into the cache."""
    # all ops and kernels, none of which a ready engine needs
    from streamrnn.lanes import across_streams

    try:
        plan = across_streams(engine.plan, eight)
    except UnsupportedError as error:
        if file:
            ready.store(file, {"reason": str(error)}, engine.layout, "", weights=False)
        raise
    step = build_pool(plan)
    if file:
        ready.store(file, {}, plan, step.key, weights=plan.weights is not engine.plan.weights)
    return step, plan
