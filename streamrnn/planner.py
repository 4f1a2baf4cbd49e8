"""From a step graph to a StepPlan: every node is lowered to calls, then the memory is laid out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamrnn.errors import GraphError, UnsupportedError
from streamrnn.ir.graph import Array, Graph, Stage
from streamrnn.ir.lowering import Apply, Arg, Lowering, Place, Skip
from streamrnn.ir.op import Site, get_op
from streamrnn.ir.types import DType, TensorType
from streamrnn.ir.verify import site_of
from streamrnn.kernels._jit import Kernel
from streamrnn.plan import ALIGN, HEADER, MAX_BLOCK, Call, Copy, Loop, Port, Slot, StateSlot, StepPlan


@dataclass
class _Buffer:
    """Memory that one or more values share, until it has a place."""

    size: int
    space: str  # weights, state, scratch
    first: int = 1 << 60
    last: int = -1
    slot: Slot | None = None


def make_plan(graph: Graph) -> StepPlan:
    """Lower every node, then lay out the memory. Raises GraphError, UnsupportedError."""
    if graph.stage is not Stage.STEP:
        raise GraphError(f"graph '{graph.name}' is at stage {graph.stage.value}; streamify it first")
    return _Planner(graph).run()


class _Planner:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.buffers: list[_Buffer] = []
        self.places: dict[str, Place] = {}
        self.calls: list[Call | Loop | Copy] = []
        self.commit: list[Copy] = []
        self.weights: list[Array] = []
        self.weight_bytes = 0
        self.state_bytes = HEADER
        self.results = set(graph.results())
        self.last_use: dict[str, int] = {}
        for index, node in enumerate(graph.nodes):
            for name in node.inputs:
                self.last_use[name] = index

    # -- memory ---------------------------------------------------------------------------------------------------

    def buffer(self, size: int, space: str) -> int:
        self.buffers.append(_Buffer(size, space))
        return len(self.buffers) - 1

    def weight(self, array: Array) -> Place:
        data = np.ascontiguousarray(array)
        buffer = self.buffer(data.nbytes, "weights")
        self.buffers[buffer].slot = Slot(self.weight_bytes, data.nbytes)
        self.weights.append(data)
        self.weight_bytes = _aligned(self.weight_bytes + data.nbytes)
        _bounded(self.weight_bytes, "weights")
        return Place(buffer, DType.of(data))

    def persistent(self, type_: TensorType) -> Place:
        """Memory in the STATE part of the arena."""
        buffer = self.buffer(type_.nbytes, "state")
        self.buffers[buffer].slot = Slot(self.state_bytes, type_.nbytes)
        self.state_bytes = _aligned(self.state_bytes + type_.nbytes)
        _bounded(self.state_bytes, "state")
        return Place(buffer, type_.dtype)

    def touch(self, *places: Place) -> None:
        for place in places:
            buffer = self.buffers[place.buffer]
            buffer.first = min(buffer.first, len(self.calls))
            buffer.last = max(buffer.last, len(self.calls))

    def aliases(self, buffer: int) -> list[str]:
        return [name for name, place in self.places.items() if place.buffer == buffer]

    # -- the walk -------------------------------------------------------------------------------------------------

    def run(self) -> StepPlan:
        graph = self.graph
        inputs = [self._port(name, self.persistent(graph.types[name])) for name in graph.inputs]
        states = []
        for state in graph.states:
            type_ = graph.types[state.read]
            place = self.persistent(type_)
            states.append(StateSlot(state.name, type_, place, self.weight(state.init), state.kind))
            self.places[state.read] = place
        for index, node in enumerate(graph.nodes):
            get_op(node).lower(site_of(graph, node), _NodeLowering(self, index))
        outputs = [self._port(name, self.value(name)) for name in graph.outputs]
        self._commit(states)
        for port in outputs:
            self.buffers[port.place.buffer].last = len(self.calls)
        arena_bytes = self._lay_out_scratch()
        return StepPlan(
            calls=tuple(self.calls),
            commit=tuple(self.commit),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            states=tuple(states),
            buffers=tuple((b.space, b.slot or Slot(0, 0)) for b in self.buffers),
            weights=self._weight_block(),
            state_bytes=self.state_bytes,
            arena_bytes=arena_bytes,
            frames=int(str(graph.meta.get("frames", 1))),
        )

    def _port(self, name: str, place: Place) -> Port:
        self.places[name] = place
        return Port(name, self.graph.types[name], place, self.graph.streams.get(name))

    def value(self, name: str) -> Place:
        """Where a value lies; a constant is put into the weight block at its first use."""
        place = self.places.get(name)
        if place is None:
            array = self.graph.const(name)
            if array is None:
                raise GraphError(f"value '{name}' is read before it has a place")
            place = self.places[name] = self.weight(array)
        return place

    def _commit(self, states: Sequence[StateSlot]) -> None:
        """Store each state's new value. A value that lies in another state's memory is saved first, because that state is
        about to be overwritten."""
        pending: list[tuple[StateSlot, Place]] = []
        for state, slot in zip(self.graph.states, states, strict=True):
            source = self.value(state.write)
            if source == slot.place:
                continue
            if self.buffers[source.buffer].space == "state":
                saved = Place(self.buffer(slot.type.nbytes, "scratch"), slot.type.dtype)
                self.touch(saved)
                self.calls.append(Copy(state.name, source, saved, slot.type.nbytes))
                source = saved
            pending.append((slot, source))
        for slot, source in pending:
            self.touch(source)
            self.commit.append(Copy(slot.name, source, slot.place, slot.type.nbytes))

    def _lay_out_scratch(self) -> int:
        """Give every scratch buffer the lowest offset at which nothing that lives at the same time lies. Large ones first.

        Returns the size of the arena."""
        placed: list[_Buffer] = []
        end = self.state_bytes
        scratch = [b for b in self.buffers if b.space == "scratch"]
        for buffer in sorted(scratch, key=lambda b: (-b.size, b.first)):
            size = _aligned(buffer.size)
            offset = self.state_bytes
            for other in sorted(placed, key=lambda b: b.slot.offset if b.slot else 0):
                assert other.slot is not None
                together = other.first <= buffer.last and buffer.first <= other.last
                if together and offset < other.slot.offset + _aligned(other.size) and other.slot.offset < offset + size:
                    offset = other.slot.offset + _aligned(other.size)
            buffer.slot = Slot(offset, buffer.size)
            placed.append(buffer)
            end = max(end, offset + size)
        _bounded(end, "arena")
        return end

    def _weight_block(self) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        block = np.zeros(self.weight_bytes + ALIGN, np.uint8)
        offset = 0
        for array in self.weights:
            block[offset : offset + array.nbytes] = array.reshape(-1).view(np.uint8)
            offset = _aligned(offset + array.nbytes)
        block.flags.writeable = False
        return block


class _NodeLowering(Lowering):
    """The Lowering of one node."""

    def __init__(self, planner: _Planner, index: int) -> None:
        self.planner = planner
        self.index = index
        self.node = planner.graph.nodes[index]

    def input(self, index: int) -> Place:
        return self.planner.value(self.node.inputs[index])

    def output(self, index: int) -> Place:
        site: Site = site_of(self.planner.graph, self.node)
        if self.wanted(index):
            name = self.node.outputs[index]
            if name not in self.planner.places:
                type_ = site.out(index)
                self.planner.places[name] = self.scratch(type_.dtype, type_.size)
            return self.planner.places[name]
        type_ = get_op(self.node).infer(site)[index]
        return self.scratch(type_.dtype, type_.size)

    def wanted(self, index: int) -> bool:
        return index < len(self.node.outputs) and bool(self.node.outputs[index])

    def weight(self, array: Array) -> Place:
        return self.planner.weight(array)

    def scratch(self, dtype: DType, elements: int) -> Place:
        size = elements * dtype.size
        _bounded(size, f"node '{self.node.name}' ({self.node.op})")
        return Place(self.planner.buffer(size, "scratch"), dtype)

    def view(self, output: int, input: int, offset: int = 0) -> None:
        if self.wanted(output):
            self.planner.places[self.node.outputs[output]] = self.input(input).at(offset)

    def update(self, output: int, input: int) -> Place:
        planner, name = self.planner, self.node.inputs[input]
        old = self.input(input)
        type_ = planner.graph.types[name]
        new = old
        if not self._may_overwrite(name, old, output):
            new = self.scratch(type_.dtype, type_.size)
            self.copy(old, new, type_.size)
        if self.wanted(output):
            planner.places[self.node.outputs[output]] = new
        return new

    def _may_overwrite(self, name: str, place: Place, output: int) -> bool:
        planner = self.planner
        space = planner.buffers[place.buffer].space
        if space == "weights" or name in planner.graph.inputs:
            return False
        if space == "state":
            # only the state's own next value may take its memory
            written = self.node.outputs[output] if self.wanted(output) else ""
            if not any(s.read == name and s.write == written for s in planner.graph.states):
                return False
        sharing = planner.aliases(place.buffer)
        read_twice = sum(i in sharing for i in self.node.inputs) > 1
        read_later = any(n in planner.results or planner.last_use.get(n, -1) > self.index for n in sharing)
        return not read_twice and not read_later

    def copy(self, source: Place, target: Place, elements: int) -> None:
        self.planner.touch(source, target)
        self.planner.calls.append(Copy(self.node.name, source, target, elements * target.dtype.size))

    def skip(self, frames: int) -> Arg:
        warmup = self.node.attrs.get("warmup", 0)
        return Skip(warmup, frames) if isinstance(warmup, int) and warmup > 0 else 0

    def call(self, kernel: Kernel, *args: Arg, work: int) -> None:
        if len(args) != len(kernel.params):
            raise GraphError(
                f"node '{self.node.name}': {kernel.__name__} takes {len(kernel.params)} arguments, got {len(args)}"
            )
        for arg, (param, ctype) in zip(args, kernel.params, strict=True):
            _check_argument(self.node.name, kernel, param, ctype, arg)
        self.planner.touch(*(arg for arg in args if isinstance(arg, Place)))
        self.planner.calls.append(Call(self.node.name, kernel, args, work))

    def loop(
        self,
        shape: Sequence[int],
        inputs: Sequence[tuple[Place, Sequence[int]]],
        body: Sequence[Apply],
        output: Place,
    ) -> None:
        if 0 in shape:
            return
        planner = self.planner
        planner.touch(output, *(place for place, _ in inputs))
        rows = tuple((place, tuple(strides)) for place, strides in inputs)
        planner.calls.append(Loop(self.node.name, tuple(shape), rows, tuple(body), output))


_POINTEES = {
    DType.F32: "f32p", DType.F64: "f64p", DType.I64: "i64p", DType.I32: "i32p",
    DType.I8: "i8p", DType.U8: "u8p", DType.BOOL: "b1p",
}  # fmt: skip


def _check_argument(node: str, kernel: Kernel, param: str, ctype: str, arg: Arg) -> None:
    if isinstance(arg, Place):
        fits = ctype == _POINTEES[arg.dtype]
    elif isinstance(arg, float):
        fits = ctype in ("f32", "f64")
    else:
        fits = ctype in ("i64", "i32")
    if not fits:
        kind = arg.dtype.value if isinstance(arg, Place) else type(arg).__name__
        raise UnsupportedError(f"node '{node}': kernel {kernel.__name__} takes {param} as {ctype}, not {kind}")


def _aligned(n: int) -> int:
    return -(-n // ALIGN) * ALIGN


def _bounded(size: int, what: str) -> None:
    if size > MAX_BLOCK:
        raise UnsupportedError(f"{what} would take {size} bytes; at most {MAX_BLOCK} are allowed")
