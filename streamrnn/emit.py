"""What an op's `lower` writes to: the Lowering of one node of one graph, be it a model's or a body's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

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

    held:  buffers whose memory belongs to somebody outside: inputs, constants. A value takes such memory only where it is the
           next value of what lies there; `next` says which that is.
    slots: memory that a value may be computed in as soon as nobody reads what lies there: that of the state it is written to.
    homes: values that are computed where they lie in another: (the other, elements in front of it).
    """

    def __init__(self, graph: Graph, planner: Planner, slots: Mapping[str, Place] | None = None) -> None:
        self.graph = graph
        self.planner = planner
        self.weights = stored_weights(graph)
        self.places: dict[str, Place] = {}
        self.held: set[int] = set()
        self.next: dict[str, set[str]] = {}
        self.slots = slots or {}
        self.results = set(graph.results())
        self.uses: dict[str, list[tuple[int, int]]] = {}  # (node, input) of each reader
        for index, node in enumerate(graph.nodes):
            for k, name in enumerate(node.inputs):
                self.uses.setdefault(name, []).append((index, k))
        self.homes = self._homes()

    def _homes(self) -> dict[str, tuple[str, int]]:
        homes: dict[str, tuple[str, int]] = {}
        computed = {name for node in self.graph.nodes for name in node.outputs}
        for node in reversed(self.graph.nodes):
            parts = get_op(node).parts(site_of(self.graph, node))
            whole = node.outputs[0]
            # a single part is the whole under another shape: nothing is gained unless that has a home
            if len(parts) > 1 or whole in homes or whole in self.slots:
                homes.update((node.inputs[k], (whole, at)) for k, at in parts.items() if node.inputs[k] in computed)
        return homes

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

    def room(self, index: int, name: str) -> Place:
        """Memory for `name`, which node `index` is the first to write to: part of a larger value, the slot of the state that it
        becomes, or memory of its own."""
        if name not in self.places:
            type_, slot = self.graph.types[name], self.slots.get(name)
            if name in self.homes:
                whole, at = self.homes[name]
                self.places[name] = self.room(index, whole).at(at)
            elif slot is not None and not self._read(index, _span(slot, type_.size)):
                self.places[name] = slot
            else:
                node = self.graph.nodes[index]
                self.places[name] = self.planner.scratch(type_.dtype, type_.size, f"node '{node.name}' ({node.op})")
        return self.places[name]

    def may_overwrite(self, index: int, input: int, written: str) -> bool:
        """Whether node `index` may compute `written` in the memory of its input `input`."""
        node = self.graph.nodes[index]
        name = node.inputs[input]
        place = self.places[name]
        if place.buffer in self.held and written not in self.next.get(name, ()):
            return False
        first, size = self.replaced(index)
        if size and self.places.get(node.inputs[2]) == place.at(first):
            return True  # what is written is there already
        changed = _span(place.at(first), size or self.graph.types[name].size)
        return not self._read(index, changed, (index, input))

    def replaced(self, index: int) -> tuple[int, int]:
        """`Op.replaced` of node `index`; no elements where it has no such run."""
        node = self.graph.nodes[index]
        return get_op(node).replaced(site_of(self.graph, node)) or (0, 0)

    def _read(self, index: int, span: Span, but: tuple[int, int] = (-1, -1)) -> bool:
        """Whether any of these bytes is a result, or read by node `index` or later, `but` one (node, input) of them."""
        for name, place in self.places.items():
            if place.buffer != span[0]:
                continue
            size = self.graph.types[name].size
            if name in self.results and _overlap(_span(place, size), span):
                return True
            for node, k in self.uses.get(name, ()):
                if node >= index and (node, k) != but and self._reads(node, k, place, size, span):
                    return True
        return False

    def _reads(self, index: int, input: int, place: Place, size: int, span: Span) -> bool:
        """Whether node `index` reads any of the bytes of `span` in its input, which lies at `place`."""
        first, count = self.replaced(index) if input == 0 else (0, 0)
        behind = first + count
        return any(_overlap(_span(place.at(at), n), span) for at, n in ((0, first), (behind, size - behind)))


#: a buffer, and the bytes from one to another in it
Span: TypeAlias = tuple[int, int, int]


def _span(place: Place, elements: int) -> Span:
    """The bytes of a value; where its place moves, all of the buffer."""
    first = place.offset * place.dtype.size
    return (place.buffer, 0, 1 << 60) if place.moves else (place.buffer, first, first + elements * place.dtype.size)


def _overlap(a: Span, b: Span) -> bool:
    return a[0] == b[0] and a[1] < b[2] and b[1] < a[2] and a[1] < a[2]


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
        return self.scope.room(self.index, self.node.outputs[index])

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
        if not self.scope.may_overwrite(self.index, input, written):
            new = self.scope.room(self.index, written) if written else self.scratch(type_.dtype, type_.size)
            first, size = self.scope.replaced(self.index)
            self.copy(old, new, first)
            self.copy(old.at(first + size), new.at(first + size), type_.size - first - size)
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
