"""What an op's `lower` writes to: the Lowering of one node of one graph, be it a model's or a body's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import streamrnn.ops  # noqa: F401  fills the op table
from streamrnn.errors import GraphError, OpenValueError, UnsupportedError
from streamrnn.ir.graph import Array, Graph, Node
from streamrnn.ir.lowering import Apply, Arg, Lowering, Moving, Place, Skip
from streamrnn.ir.op import get_op
from streamrnn.ir.storage import site_with, stored_weights
from streamrnn.ir.types import DType
from streamrnn.ir.verify import site_of
from streamrnn.kernels._jit import Kernel
from streamrnn.plan import MAX_TRIPS, Call, Copy, Loop, Repeat, When

if TYPE_CHECKING:
    from streamrnn.planner import Planner


class Scope:
    """Where the values of one graph lie.

    held: buffers whose memory belongs to somebody outside: inputs, states. A value takes such memory only where it is the
          next value of what lies there; `next` says which that is.
    """

    def __init__(self, graph: Graph, planner: Planner) -> None:
        self.graph = graph
        self.planner = planner
        self.weights = stored_weights(graph)
        self.places: dict[str, Place] = {}
        self.held: set[int] = set()
        self.next: dict[str, set[str]] = {}
        self.results = set(graph.results())
        self.last_use = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}

    def hold(self, name: str, place: Place, next_value: str = "") -> None:
        """`name` lies in memory that belongs to somebody outside, who takes `next_value` there afterwards."""
        self.places[name] = place
        self.held.add(place.buffer)
        if next_value:
            self.next.setdefault(name, set()).add(next_value)

    def value(self, name: str) -> Place:
        """Where a value lies."""
        place = self.places.get(name)
        if place is None:
            array = self.weights[name].array if name in self.weights else self.graph.const(name)
            if array is None:
                raise GraphError(f"value '{name}' is read before it has a place")
            place = self.places[name] = self.planner.constant(array)
            self.held.add(place.buffer)
        return place

    def may_overwrite(self, index: int, name: str, written: str) -> bool:
        """Whether node `index` may compute `written` in the memory of its input `name`."""
        buffer = self.places[name].buffer
        if buffer in self.held and written not in self.next.get(name, ()):
            return False
        sharing = [n for n, place in self.places.items() if place.buffer == buffer]
        read_twice = sum(i in sharing for i in self.graph.nodes[index].inputs) > 1
        read_later = any(n in self.results or self.last_use.get(n, -1) > index for n in sharing)
        return not read_twice and not read_later


def lower_nodes(scope: Scope) -> None:
    """Emit the calls of all nodes of a graph."""
    for index, node in enumerate(scope.graph.nodes):
        if node.outputs[0] in scope.weights:
            continue
        try:
            get_op(node).lower(site_with(scope.weights, scope.graph, node), _NodeLowering(scope, index))
        except OpenValueError as error:
            names: Sequence[str] = [node.inputs[error.index]]
            if error.inputs:  # of a body: what it captures has the same name outside
                names = [name for name in node.inputs if name in error.inputs] or node.inputs
            raise error.depending_on(scope.graph.sources(*names)) from None


class _NodeLowering(Lowering):
    """The Lowering of one node."""

    def __init__(self, scope: Scope, index: int) -> None:
        self.scope = scope
        self.planner = scope.planner
        self.index = index
        self.node: Node = scope.graph.nodes[index]

    def input(self, index: int) -> Place:
        return self.scope.value(self.node.inputs[index])

    def output(self, index: int) -> Place:
        if not self.wanted(index):
            type_ = get_op(self.node).infer(site_of(self.scope.graph, self.node))[index]
            return self.scratch(type_.dtype, type_.size)
        name = self.node.outputs[index]
        if name not in self.scope.places:
            type_ = self.scope.graph.types[name]
            self.scope.places[name] = self.scratch(type_.dtype, type_.size)
        return self.scope.places[name]

    def wanted(self, index: int) -> bool:
        return index < len(self.node.outputs) and bool(self.node.outputs[index])

    def weight(self, array: Array) -> Place:
        return self.planner.weight(array)

    def scratch(self, dtype: DType, elements: int) -> Place:
        return self.planner.scratch(dtype, elements, f"node '{self.node.name}' ({self.node.op})")

    def view(self, output: int, input: int, offset: int = 0) -> None:
        if self.wanted(output):
            self.scope.places[self.node.outputs[output]] = self.input(input).at(offset)

    def update(self, output: int, input: int) -> Place:
        name = self.node.inputs[input]
        old = new = self.input(input)
        type_ = self.scope.graph.types[name]
        written = self.node.outputs[output] if self.wanted(output) else ""
        if not self.scope.may_overwrite(self.index, name, written):
            new = self.scratch(type_.dtype, type_.size)
            self.copy(old, new, type_.size)
        if written:
            self.scope.places[written] = new
        return new

    def copy(self, source: Place, target: Place, elements: int) -> None:
        if elements and source != target:
            self.planner.emit(Copy(self.node.name, source, target, elements * target.dtype.size), source, target)

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
        self.planner.emit(Call(self.node.name, kernel, args, work), *(arg for arg in args if isinstance(arg, Place)))

    def loop(
        self,
        shape: Sequence[int],
        inputs: Sequence[tuple[Place, Sequence[int]]],
        body: Sequence[Apply],
        output: Place,
    ) -> None:
        if 0 in shape:
            return
        rows = tuple((place, tuple(strides)) for place, strides in inputs)
        item = Loop(self.node.name, tuple(shape), rows, tuple(body), output)
        self.planner.emit(item, output, *(place for place, _ in inputs))

    # -- control --------------------------------------------------------------------------------------------------

    def inline(self, body: int, inputs: Sequence[Place], outputs: Sequence[Place]) -> None:
        graph = self.node.bodies[body]
        scope = Scope(graph, self.planner)
        computed = graph.producers()
        for name, place in zip(graph.inputs, inputs, strict=True):
            scope.hold(name, place)
        for name, place in zip(graph.outputs, outputs, strict=True):
            taken = [n for n, held in zip(graph.inputs, inputs, strict=True) if held == place]
            for old in taken:
                scope.hold(old, place, name)
            if not taken and name in computed and name not in scope.places:
                scope.places[name] = place
        lower_nodes(scope)
        found = [
            (scope.value(name), place, graph.types[name].nbytes) for name, place in zip(graph.outputs, outputs, strict=True)
        ]
        for copy in self.planner.settled(self.node.name, found):
            if copy.size:
                self.planner.emit(copy, copy.source, copy.target)

    @contextmanager
    def when(self, condition: Place, value: bool) -> Iterator[None]:
        self.planner.touch(condition)
        with self.planner.inside() as items:
            yield
        if items:
            self.planner.emit(When(self.node.name, condition, value, tuple(items)), condition)

    @contextmanager
    def repeat(
        self, trips: int | None, first: Arg = 0, count: Place | None = None, condition: Place | None = None
    ) -> Iterator[Moving]:
        number = self.planner.loops
        self.planner.loops += 1

        def moving(place: Place, stride: int) -> Place:
            return Place(place.buffer, place.dtype, place.offset, (*place.moves, (number, stride)))

        once = trips == 1 and first == 0 and count is None and condition is None
        if once:
            yield lambda place, stride: place
            return
        self.planner.touch(*(place for place in (count, condition) if place is not None))
        with self.planner.repeated(trips or 1, f"node '{self.node.name}' ({self.node.op})") as items:
            yield moving
        if items:
            most = MAX_TRIPS if trips is None else trips
            self.planner.emit(Repeat(self.node.name, number, most, first, count, condition, tuple(items)))


def _check_argument(node: str, kernel: Kernel, param: str, ctype: str, arg: Arg) -> None:
    if isinstance(arg, Place):
        fits = ctype == arg.dtype.pointer
    elif isinstance(arg, float):
        fits = ctype in ("f32", "f64")
    else:
        fits = ctype in ("i64", "i32")
    if not fits:
        kind = arg.dtype.value if isinstance(arg, Place) else type(arg).__name__
        raise UnsupportedError(f"node '{node}': kernel {kernel.__name__} takes {param} as {ctype}, not {kind}")
