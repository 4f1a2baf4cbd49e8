"""A model file just read: named nodes and arrays in the newest opset's form, not yet typed.

Nothing here depends on the onnx package: the reader fills it, lint and state_map look at it, `passes.fold` types it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from streamrnn.errors import ModelFileError
from streamrnn.ir.graph import Array, Attr
from streamrnn.ir.types import DType, TensorType

#: size of a dimension, its symbol, or None where the file says nothing
Dim = int | str | None


@dataclass(frozen=True, slots=True)
class RawInput:
    """An input or output as the file declares it.

    dtype:  NumPy name ("float32"), or the kind of a value that is no tensor ("sequence").
    dims:   one entry for each dimension.
    ranked: False where the file does not even declare the number of dimensions; `dims` is empty then.
    item:   what a sequence is made of, or what an optional value is where it is there, under the same name.
    """

    name: str
    dtype: str
    dims: tuple[Dim, ...]
    ranked: bool = True
    item: RawInput | None = None


@dataclass(frozen=True, slots=True)
class SequenceType:
    """A sequence; dtype: of its items, None where it has none."""

    dtype: DType | None


@dataclass(frozen=True, slots=True)
class RawNode:
    """One node.

    op:        the operator's name; with its domain in front ("com.microsoft.FusedConv") where that is not ONNX's own.
    name:      unique in the file; "<Op>_<n>" where the file gives none.
    attrs:     element types are DType names ("to": "float32"); a ConstantOfShape has "value" (a number) and "dtype".
    subgraphs: the bodies of If ("then_branch", "else_branch"), Loop and Scan ("body"), by attribute name.
    expand:    for an op that ONNX defines by other ops: their graph, given the types of the inputs. Its inputs and outputs are
               those of the op, in order.
    problem:   why this node cannot be used and what to do about it; "" where nothing speaks against it. It is an error
               only once an output needs the node.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Attr] = field(default_factory=lambda: MappingProxyType({}))
    subgraphs: Mapping[str, RawGraph] = field(default_factory=lambda: MappingProxyType({}))
    problem: str = ""
    expand: Callable[[Sequence[TensorType | SequenceType | None]], RawGraph] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class RawGraph:
    """Nodes in the file's order (not always topological). A body of If, Loop or Scan also reads values of the graphs around it.

    constants: initializers and the values of Constant nodes. An input with an initializer is a constant, not an input.
    """

    name: str
    inputs: tuple[RawInput, ...]
    outputs: tuple[RawInput, ...]
    nodes: tuple[RawNode, ...]
    constants: Mapping[str, Array]
    _orders: dict[tuple[str, ...], Order] = field(init=False, repr=False, compare=False, default_factory=dict)

    @cached_property
    def free_names(self) -> tuple[str, ...]:
        """Names that the graph and its bodies read from the graphs around it, sorted."""
        own = set(self.constants) | {i.name for i in self.inputs} | {o for node in self.nodes for o in node.outputs}
        read = {o.name for o in self.outputs}.union(*map(reads, self.nodes))
        return tuple(sorted(name for name in read - own if name))

    def order(self, wanted: Iterable[str]) -> Order:
        """What `wanted` values depend on. A body that is written out often is put in order once.

        Raises ModelFileError where a value is computed twice or depends on itself.
        """
        names = tuple(wanted)
        if names not in self._orders:
            self._orders[names] = _ordered(self, names)
        return self._orders[names]


@dataclass(frozen=True)
class Order:
    """Nodes of a graph in topological order, else in the file's, and the constants that they and their bodies read."""

    nodes: tuple[RawNode, ...]
    constants: tuple[str, ...]


@dataclass(frozen=True)
class RawModel(RawGraph):
    """The main graph of a file, and what the file says about itself.

    opset:    of the file; the nodes are in the newest form whatever it is.
    producer: name and version of the exporter, "" where the file does not say.
    external: files beside the model that hold weights of it.
    """

    opset: int
    producer: str
    metadata: Mapping[str, str]
    path: Path
    external: tuple[str, ...] = ()


def reads(node: RawNode) -> Iterator[str]:
    """Everything a node depends on: its inputs, then what its bodies read from around them, sorted."""
    yield from (name for name in node.inputs if name)
    for key in sorted(node.subgraphs):
        yield from node.subgraphs[key].free_names


def all_names(graph: RawGraph) -> Iterator[str]:
    """Every name of a value or node in `graph` and its bodies, repetitions included."""
    yield from graph.constants
    yield from (i.name for i in (*graph.inputs, *graph.outputs))
    for node in graph.nodes:
        yield node.name
        yield from node.inputs
        yield from node.outputs
        for body in node.subgraphs.values():
            yield from all_names(body)


def _ordered(graph: RawGraph, wanted: Sequence[str]) -> Order:
    producer: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        for name in node.outputs:
            if name in producer or name in graph.constants:
                raise ModelFileError(f"graph '{graph.name}': value '{name}' is computed twice; export the model again")
            if name:
                producer[name] = index
    depends = _dependencies(graph, producer, {producer[name] for name in wanted if name in producer})
    users: dict[int, list[int]] = {index: [] for index in depends}
    for index, sources in depends.items():
        for source in sources:
            users[source].append(index)
    missing = {index: len(sources) for index, sources in depends.items()}
    ready = [index for index, count in missing.items() if count == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(graph.nodes[index])
        for user in users[index]:
            missing[user] -= 1
            if missing[user] == 0:
                heapq.heappush(ready, user)
    if len(order) < len(depends):
        stuck = graph.nodes[min(index for index, count in missing.items() if count)]
        raise ModelFileError(f"node '{stuck.name}' ({stuck.op}): the graph has a cycle here; export the model again")
    read = {*wanted, *(name for node in order for name in reads(node))}
    return Order(tuple(order), tuple(name for name in graph.constants if name in read))


def _dependencies(graph: RawGraph, producer: Mapping[str, int], start: set[int]) -> dict[int, set[int]]:
    """For each node in `start` and behind it the nodes it reads from, by index."""
    depends: dict[int, set[int]] = {}
    waiting = list(start)
    while waiting:
        index = waiting.pop()
        if index not in depends:
            depends[index] = {producer[name] for name in reads(graph.nodes[index]) if name in producer}
            waiting.extend(depends[index])
    return depends
