"""Where scratch lies: buffers that do not live at the same time share memory."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass

from streamrnn.layout import Slot
from streamrnn.memory import ALIGN
from streamrnn.plan import bounded


@dataclass
class Buffer:
    """Memory that one or more values share, until it has a place. It lives from call `first` to call `last`; calls are counted
    in the order of the plan, those inside of branches and loops too."""

    size: int
    space: str  # weights, state, scratch
    first: int = 1 << 60
    last: int = -1
    slot: Slot | None = None

    def touch(self, time: int) -> None:
        """The call at `time` uses this buffer."""
        self.first = min(self.first, time)
        self.last = max(self.last, time)


def aligned(n: int) -> int:
    """n bytes, up to the next place where a buffer may start."""
    return -(-n // ALIGN) * ALIGN


def lay_out(buffers: Iterable[Buffer], start: int) -> int:
    """Give every scratch buffer the lowest offset from `start` on at which nothing that lives at the same time lies. Large ones
    first.

    Returns where the last one ends. Raises UnsupportedError where that is too much.
    """
    placed: list[tuple[int, int, int, int]] = []  # (offset, end, first, last), by offset
    end = start
    scratch = [b for b in buffers if b.space == "scratch"]
    for buffer in sorted(scratch, key=lambda b: (-b.size, b.first)):
        size = aligned(buffer.size)
        offset = start
        for low, stop, first, last in placed:
            if low >= offset + size:
                break
            if first <= buffer.last and buffer.first <= last and offset < stop:
                offset = stop
        buffer.slot = Slot(offset, buffer.size)
        insort(placed, (offset, offset + size, buffer.first, buffer.last))
        end = max(end, offset + size)
    bounded(end, "arena")
    return end
