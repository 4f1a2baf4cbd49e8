"""Where elements lie."""

from __future__ import annotations

from dataclasses import dataclass

from streamrnn.ir.types import DType


@dataclass(frozen=True, slots=True)
class Place:
    """Where elements lie: a buffer (a number that the plan gives out) and an offset in elements of `dtype`.

    moves: (number of a loop, elements by which the place moves on with each of its iterations).
    """

    buffer: int
    dtype: DType
    offset: int = 0
    moves: tuple[tuple[int, int], ...] = ()

    def at(self, elements: int) -> Place:
        """The place `elements` further on in the same buffer."""
        return Place(self.buffer, self.dtype, self.offset + elements, self.moves)

    def as_bytes(self) -> Place:
        """The same place in bytes."""
        size = self.dtype.size
        moves = tuple((number, stride * size) for number, stride in self.moves)
        return Place(self.buffer, DType.U8, self.offset * size, moves)
