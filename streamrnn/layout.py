"""The Layout: where the ports, states and weights of a step lie. All of a plan that a running stream needs.

arena    [ header | held inputs | states | scratch ]      the first three are STATE: a snapshot is one copy of them
weights  one read-only block, each piece packed for its kernel
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from streamrnn.ir.place import Place
from streamrnn.ir.types import DType, StreamType, TensorType

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Records are named tuples where they can be: a dataclass takes half a millisecond of every start to define.

#: bytes at the start of the arena: steps done (i64), policy for non-finite input (i64)
HEADER = 64


class Slot(NamedTuple):
    """A place in the arena or in the weight block, in bytes."""

    offset: int
    size: int


class Port(NamedTuple):
    """An input or output of a step: its type, where it lies, and how time runs through it."""

    name: str
    type: TensorType
    place: Place
    stream: StreamType | None


class StateSlot(NamedTuple):
    """A state: its type, its place in the arena and the place of its initial value in the weight block."""

    name: str
    type: TensorType
    place: Place
    init: Place
    kind: str


@dataclass(frozen=True)
class Layout:
    """Where things lie: a place is an offset in a buffer, and each buffer is a slot of the arena or of the weight block.

    work: operations of one step, about: multiply-adds, and elements of pointwise loops times their functions.
    block_bytes: the end of the arena that only a block of steps needs
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[StateSlot, ...]
    buffers: tuple[tuple[str, Slot], ...]
    weights: npt.NDArray[np.uint8] = field(repr=False)
    state_bytes: int
    arena_bytes: int
    frames: int
    work: int
    block_bytes: int = field(default=0, kw_only=True)

    @property
    def step_bytes(self) -> int:
        """The arena of a stream that makes one step at a time."""
        return self.arena_bytes - self.block_bytes

    @property
    def delay(self) -> int:
        """Input frames by which the outputs lag behind."""
        return max((p.stream.delay * p.stream.stride for p in self.outputs if p.stream), default=0)

    def place(self, place: Place) -> tuple[str, int]:
        """(weights | arena, byte offset) of a place."""
        space, slot = self.buffers[place.buffer]
        return ("weights" if space == "weights" else "arena"), slot.offset + place.offset * place.dtype.size

    def to_json(self) -> dict[str, Any]:
        """Everything but the weights."""

        def spot(place: Place) -> list[Any]:
            return [*self.place(place), place.dtype.value]

        def port(p: Port) -> list[Any]:
            stream = p.stream and [p.stream.axis, p.stream.delay, p.stream.stride]
            return [p.name, p.type.dtype.value, p.type.shape, spot(p.place), stream]

        return {
            "inputs": [port(p) for p in self.inputs],
            "outputs": [port(p) for p in self.outputs],
            "states": [[s.name, s.type.dtype.value, s.type.shape, spot(s.place), spot(s.init), s.kind] for s in self.states],
            "sizes": [self.state_bytes, self.arena_bytes, self.frames, self.work],
            "block_bytes": self.block_bytes,
        }

    @staticmethod
    def from_json(found: Mapping[str, Any], weights: npt.NDArray[np.uint8]) -> Layout:
        """The reverse of `to_json`. Its buffers are those of ports and states alone."""
        buffers: list[tuple[str, Slot]] = []

        def place(spot: list[Any], type_: TensorType) -> Place:
            space, offset, dtype = spot
            buffers.append((space, Slot(offset, type_.nbytes)))
            return Place(len(buffers) - 1, DType(dtype))

        def port(name: str, dtype: str, shape: list[int], spot: list[Any], stream: list[Any] | None) -> Port:
            type_ = TensorType(DType(dtype), tuple(shape))
            return Port(name, type_, place(spot, type_), StreamType(*stream) if stream else None)

        def state(name: str, dtype: str, shape: list[int], spot: list[Any], init: list[Any], kind: str) -> StateSlot:
            type_ = TensorType(DType(dtype), tuple(shape))
            return StateSlot(name, type_, place(spot, type_), place(init, type_), kind)

        inputs, outputs = (tuple(port(*row) for row in found[key]) for key in ("inputs", "outputs"))
        states = tuple(state(*row) for row in found["states"])
        return Layout(inputs, outputs, states, tuple(buffers), weights, *found["sizes"], block_bytes=found["block_bytes"])
