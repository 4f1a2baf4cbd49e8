"""From a step graph to a StepPlan: every node is lowered to calls, then the memory is laid out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from streamrnn.blocks import block_form
from streamrnn.emit import Scope, lower_nodes
from streamrnn.errors import GraphError, UnsupportedError
from streamrnn.ir.graph import Array, Graph, Stage
from streamrnn.ir.lowering import Place
from streamrnn.ir.types import DType, TensorType
from streamrnn.memory import ALIGN, aligned_bytes
from streamrnn.plan import HEADER, MAX_TRIPS, Copy, Item, Port, Slot, StateSlot, StepPlan, bounded, work_of
from streamrnn.scratch import Buffer, aligned, lay_out


def make_plan(graph: Graph) -> StepPlan:
    """Lower every node, then lay out the memory. Raises GraphError, UnsupportedError."""
    if graph.stage is not Stage.STEP:
        raise GraphError(f"graph '{graph.name}' is at stage {graph.stage.value}; streamify it first")
    plan = Planner(graph).run()
    block = block_form(plan)
    if block is None:
        return plan
    end = block.plan.arena_bytes
    return replace(plan, block=block, arena_bytes=end, block_bytes=end - plan.arena_bytes)


class Planner:
    """The calls and the memory of one plan, as they come to be."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.buffers: list[Buffer] = []
        self.calls: list[Item] = []
        self.clock = 0
        self.loops = 0
        self.trips = 1
        self.weights: list[Array] = []
        self.weight_bytes = 0
        self.state_bytes = HEADER
        self.constants: dict[int, Place] = {}

    # -- memory ---------------------------------------------------------------------------------------------------

    def buffer(self, size: int, space: str) -> int:
        self.buffers.append(Buffer(size, space))
        return len(self.buffers) - 1

    def scratch(self, dtype: DType, elements: int, what: str) -> Place:
        """Memory that lives from the first call that touches it to the last."""
        size = elements * dtype.size
        bounded(size, what)
        return Place(self.buffer(size, "scratch"), dtype)

    def weight(self, array: Array) -> Place:
        data = np.ascontiguousarray(array)
        buffer = self.buffer(data.nbytes, "weights")
        self.buffers[buffer].slot = Slot(self.weight_bytes, data.nbytes)
        self.weights.append(data)
        self.weight_bytes = aligned(self.weight_bytes + data.nbytes)
        bounded(self.weight_bytes, "weights")
        return Place(buffer, DType.of(data))

    def constant(self, array: Array) -> Place:
        """The place of a constant of the graph or of a body, put into the weight block at its first use."""
        place = self.constants.get(id(array))
        if place is None:
            place = self.constants[id(array)] = self.weight(array)
        return place

    def persistent(self, type_: TensorType) -> Place:
        """Memory in the STATE part of the arena."""
        buffer = self.buffer(type_.nbytes, "state")
        self.buffers[buffer].slot = Slot(self.state_bytes, type_.nbytes)
        self.state_bytes = aligned(self.state_bytes + type_.nbytes)
        bounded(self.state_bytes, "state")
        return Place(buffer, type_.dtype)

    # -- calls ----------------------------------------------------------------------------------------------------

    def touch(self, *places: Place) -> None:
        """The next call uses these places."""
        for place in places:
            self.buffers[place.buffer].touch(self.clock)

    def emit(self, item: Item, *places: Place) -> None:
        self.touch(*places)
        self.calls.append(item)
        self.clock += 1

    @contextmanager
    def inside(self) -> Iterator[list[Item]]:
        """What is emitted meanwhile goes to the list that this gives."""
        outer, self.calls = self.calls, []
        self.clock += 1
        try:
            yield self.calls
        finally:
            self.calls = outer
            self.clock += 1

    @contextmanager
    def repeated(self, trips: int, what: str) -> Iterator[list[Item]]:
        """`inside` of a loop: memory that was there before lives through all of it."""
        older, start, outer = len(self.buffers), self.clock, self.trips
        self.trips = outer * max(1, trips)
        if self.trips > MAX_TRIPS:
            raise UnsupportedError(f"{what}: {self.trips} iterations in a step, and a step has to end; at most {MAX_TRIPS} run")
        with self.inside() as items:
            yield items
        self.trips = outer
        for buffer in self.buffers[:older]:
            if buffer.last >= start:
                buffer.first, buffer.last = min(buffer.first, start), self.clock

    def settled(self, name: str, moves: Sequence[tuple[Place, Place, int]]) -> list[Copy]:
        """The copies (source, target, bytes) that are left of a simultaneous assignment. What lies in memory that is about to
        be overwritten is saved first."""
        moves = [move for move in moves if move[0] != move[1]]
        targets = {target.buffer for _, target, _ in moves}
        left = []
        for source, target, size in moves:
            if source.buffer in targets and size:
                saved = self.scratch(source.dtype, size // source.dtype.size, name)
                self.emit(Copy(name, source, saved, size), source, saved)
                source = saved
            left.append(Copy(name, source, target, size))
        return left

    # -- the walk -------------------------------------------------------------------------------------------------

    def run(self) -> StepPlan:
        graph = self.graph
        held = [self.persistent(graph.types[name]) for name in graph.inputs]
        states = []
        for state in graph.states:
            type_ = graph.types[state.read]
            states.append(StateSlot(state.name, type_, self.persistent(type_), self.weight(state.init), state.kind))
        scope = Scope(graph, self, {state.write: slot.place for state, slot in zip(graph.states, states, strict=True)})
        inputs = [self._port(scope, name, place) for name, place in zip(graph.inputs, held, strict=True)]
        for state, slot in zip(graph.states, states, strict=True):
            scope.places[state.read] = slot.place
        lower_nodes(scope)
        outputs = [self._port(scope, name, scope.value(name)) for name in graph.outputs]
        written = [(scope.value(s.write), slot.place, slot.type.nbytes) for s, slot in zip(graph.states, states, strict=True)]
        commit = self.settled("state", written)
        for place in (*(copy.source for copy in commit), *(port.place for port in outputs)):
            self.touch(place)
        arena_bytes = lay_out(self.buffers, self.state_bytes)
        return StepPlan(
            calls=tuple(self.calls),
            commit=tuple(commit),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            states=tuple(states),
            buffers=tuple((b.space, b.slot or Slot(0, 0)) for b in self.buffers),
            weights=self._weight_block(),
            state_bytes=self.state_bytes,
            arena_bytes=arena_bytes,
            frames=int(str(graph.meta.get("frames", 1))),
            work=work_of(self.calls),
        )

    def _port(self, scope: Scope, name: str, place: Place) -> Port:
        if name in self.graph.inputs:
            scope.hold(name, place)
        return Port(name, self.graph.types[name], place, self.graph.streams.get(name))

    def _weight_block(self) -> npt.NDArray[np.uint8]:
        block = aligned_bytes(self.weight_bytes + ALIGN)
        offset = 0
        for array in self.weights:
            block[offset : offset + array.nbytes] = array.reshape(-1).view(np.uint8)
            offset = aligned(offset + array.nbytes)
        block.flags.writeable = False
        return block
