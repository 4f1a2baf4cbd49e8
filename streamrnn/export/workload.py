"""The costs of a plan's calls, as they are and with wider recurrent layers.

Wider means: the hidden units of every recurrent cell times one factor. What only carries them grows with them: the inputs of
a cell or matrix product that reads a cell's output, the outputs of a product that a cell starts from, and whatever else
touches such memory. All other sizes stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod

from streamrnn.errors import UnsupportedError
from streamrnn.export.cost import SUMS, WEIGHTED, Cost, call_cost, cell_elements, copy_cost, loop_cost, sizes_of, weights_of
from streamrnn.ir.lowering import Place
from streamrnn.plan import MAX_TRIPS, Call, Copy, Item, Loop, Repeat, StepPlan, When

#: states and sums of a cell: what grows with it, by the names of its parameters
_CELL_MEMORY = {"start", "h", "c", "y", "old", "z", "zn", "rh", "sums", "seen"}
#: weights of a cell, by the names of its parameters
_CELL_WEIGHTS = {"w", "r", "rn", "wn"}
#: sizes of products and convolutions, and the tensor with which each grows
_GROWS = {"n_in": "x", "n": "x", "n_out": "y", "c_out": "y", "s_row": "z"}


@dataclass(frozen=True)
class Turn:
    """A cost, how often a step pays it, the bytes that a loop around it reads again and again (0 outside of loops), and the
    symbol of its kernel ("" for loops over elements and copies)."""

    cost: Cost
    times: int
    around: float
    kernel: str


class Workload:
    """What a plan does in one step; a block of steps is a plan of its own.

    hidden   hidden units of the widest recurrent layer, 0 without any
    """

    def __init__(self, plan: StepPlan, arena_bytes: int) -> None:
        self.plan = plan
        self.arena = arena_bytes
        self.wide = _wide_memory(plan)
        found = [int(sizes_of(call)["n_hidden"]) for call in _calls(plan.calls) if call.kernel.__name__ in SUMS]
        self.hidden = max(found, default=0)
        self._weights = self._growing_weights(1.0)

    def turns(self, factor: float = 1.0) -> list[Turn]:
        """All costs of a step. Raises UnsupportedError where a loop has no end that is known."""
        return list(self._turns((*self.plan.calls, *self.plan.commit), factor, 1, 0.0))

    def weight_bytes(self, factor: float = 1.0) -> int:
        """The weight block."""
        return int(self.plan.weights.nbytes + self._growing_weights(factor) - self._weights)

    def arena_bytes(self, factor: float = 1.0) -> int:
        """The memory of one stream, at most: what grows is counted as if nothing shared its place."""
        return ceil(self.arena + sum(map(self._size, self.wide)) * (factor - 1))

    def _size(self, buffer: int) -> int:
        return self.plan.buffers[buffer][1].size

    def _turns(self, items: Sequence[Item], factor: float, times: int, around: float) -> Iterator[Turn]:
        for item in items:
            if isinstance(item, When):
                yield from self._turns(item.calls, factor, times, around)
            elif isinstance(item, Repeat):
                if item.trips >= MAX_TRIPS:
                    raise UnsupportedError(
                        f"{item.node}: its loop ends by what it computes, so no time of a step can be stated"
                    )
                inner = sum(turn.cost.size for turn in self._turns(item.calls, factor, 1, 0.0))
                yield from self._turns(item.calls, factor, times * item.trips, around or inner)
            else:
                yield Turn(self._cost(item, factor), times, around, item.kernel.symbol if isinstance(item, Call) else "")

    def _cost(self, item: Call | Loop | Copy, factor: float) -> Cost:
        touched = _places(item)
        grows = any(place.buffer in self.wide for place in touched)
        if isinstance(item, Call):
            if item.kernel.__name__ in (*SUMS, *WEIGHTED):
                return call_cost(self.plan, item, self._sizes(item, factor))
            cost = call_cost(self.plan, item, sizes_of(item))
        else:
            cost = loop_cost(item) if isinstance(item, Loop) else copy_cost(item)
        return cost.grown(factor) if grows else cost

    def _sizes(self, call: Call, factor: float) -> dict[str, float]:
        """The sizes of a cell, a matrix product or a convolution with wider layers."""
        sizes = sizes_of(call)
        wide = {name for name, buffer in _buffers(call).items() if buffer in self.wide}
        grows = [name for name, tensor in _GROWS.items() if tensor in wide]
        for name in (*grows, "n_hidden"):
            if name in sizes:
                sizes[name] = max(min(1.0, sizes[name]), round(sizes[name] * factor))
        return sizes

    def _growing_weights(self, factor: float) -> float:
        """Bytes of the weights of cells, products and convolutions; a cell and the product ahead of it share theirs."""
        found: dict[int, float] = {}
        for call in _calls(self.plan.calls):
            name, now, then = call.kernel.__name__, sizes_of(call), self._sizes(call, factor)
            if name in SUMS:
                grown = cell_elements(name, then) / cell_elements(name, now)
                found.update({b: self._size(b) * grown for param, b in _buffers(call).items() if param in _CELL_WEIGHTS})
            elif name in WEIGHTED and (place := weights_of(self.plan, call)):
                grown = prod(then[key] / now[key] for key in _GROWS if now.get(key))
                found.setdefault(place.buffer, self._size(place.buffer) * grown)
        return sum(found.values())


def _wide_memory(plan: StepPlan) -> set[int]:
    """Buffers whose elements are as many as some cell has hidden units, or a multiple: cells, and what passes them on."""
    wide: set[int] = set()
    for call in _calls(plan.calls):
        if call.kernel.__name__ in SUMS:
            wide |= {buffer for name, buffer in _buffers(call).items() if name in _CELL_MEMORY}
    kept = {b for b, (space, _) in enumerate(plan.buffers) if space == "weights"}
    wide -= kept
    for item in _flat((*plan.calls, *plan.commit)):
        absorbs = isinstance(item, Call) and item.kernel.__name__ in (*SUMS, *WEIGHTED)
        touched = {place.buffer for place in _places(item)} - kept
        if touched & wide and not absorbs:
            wide |= touched
    return wide


def _buffers(call: Call) -> dict[str, int]:
    """The buffers of a call by the names of the kernel's parameters."""
    named = zip((name for name, _ in call.kernel.params), call.args, strict=True)
    return {name: arg.buffer for name, arg in named if isinstance(arg, Place)}


def _flat(items: Sequence[Item]) -> Iterator[Call | Loop | Copy]:
    for item in items:
        if isinstance(item, When | Repeat):
            yield from _flat(item.calls)
        else:
            yield item


def _calls(items: Sequence[Item]) -> Iterator[Call]:
    return (item for item in _flat(items) if isinstance(item, Call))


def _places(item: Call | Loop | Copy) -> list[Place]:
    if isinstance(item, Copy):
        return [item.source, item.target]
    if isinstance(item, Loop):
        return [item.output, *(place for place, _ in item.inputs)]
    return [arg for arg in item.args if isinstance(arg, Place)]
