"""A model as data: frozen, in SSA form and topological order. A pass takes a Graph and returns a new one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import TypeAlias

from streamrnn.ir.types import Array as Array
from streamrnn.ir.types import StreamType, TensorType

Attr: TypeAlias = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | None


class Stage(Enum):
    """What one run of a graph means."""

    SEQUENCE = "sequence"  # one run sees a whole clip
    STEP = "step"  # one run is one step: state goes in and out
    BODY = "body"  # one run is one evaluation inside a node


@dataclass(frozen=True, slots=True)
class Node:
    """One op applied to named values; an input of "" is an omitted optional one, an output of "" is not wanted.

    bodies: what a control op runs, each at stage BODY. A body sees nothing of the graph around it: what it captures from
            there is an input of the node and of the body; constants are copied into it.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Attr] = field(default_factory=lambda: MappingProxyType({}))
    bodies: tuple[Graph, ...] = ()

    def __str__(self) -> str:
        attrs = ", ".join(f"{k}={v}" for k, v in sorted(self.attrs.items()))
        return f"{', '.join(self.outputs)} = {self.op}({', '.join(self.inputs)}{'; ' + attrs if attrs else ''})"


@dataclass(frozen=True, slots=True)
class State:
    """One named piece of recurrent memory.

    read:     the value that nodes see during a step.
    write:    the value that becomes `read` at the next step.
    init:     the array at reset (its shape and dtype are those of `read` and `write`).
    kind:     what it is for: hidden, cell, hidden+cell, conv ring, K/V ring, ring, head (of a ring), overlap, accumulator,
              generator (of random numbers), or explicit where none of these is known.
    evidence: how a file's own state was paired (traced, name, shape, given), or which pass added it (streamify, carry).
    """

    name: str
    read: str
    write: str
    init: Array
    kind: str = "explicit"
    evidence: str = "streamify"


@dataclass(frozen=True)
class Graph:
    """A model.

    types:     type of every value, constants included.
    constants: the arrays of constant values.
    streams:   at stage STEP of a model in frame mode: how time runs through the non-constant values.
    meta:      what has to survive into the file (mode, time axes, sample rate, bindings ...): JSON values.
    """

    name: str
    stage: Stage
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, Array] = field(default_factory=dict)
    states: tuple[State, ...] = ()
    streams: Mapping[str, StreamType] = field(default_factory=dict)
    meta: Mapping[str, object] = field(default_factory=dict)

    def replace(self, **changes: object) -> Graph:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def producers(self) -> dict[str, Node]:
        """The node behind each computed value."""
        return {out: node for node in self.nodes for out in node.outputs if out}

    def all_nodes(self) -> Iterator[Node]:
        """Every node, those in bodies right behind the node that they belong to."""
        for node in self.nodes:
            yield node
            for body in node.bodies:
                yield from body.all_nodes()

    def sources(self, *names: str) -> tuple[str, ...]:
        """The inputs that values are computed from, in order."""
        needed = set(names)
        for node in reversed(self.nodes):
            if any(out in needed for out in node.outputs if out):
                needed.update(node.inputs)
        return tuple(i for i in self.inputs if i in needed)

    def results(self) -> Iterator[str]:
        """Values that outlive the nodes: outputs, and what states are written from."""
        yield from self.outputs
        for state in self.states:
            yield state.write

    def const(self, name: str) -> Array | None:
        """The array of a constant value, else None (also for an omitted input)."""
        return self.constants.get(name) if name else None
