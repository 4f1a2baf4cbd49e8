"""The StepPlan: which calls, in which order, on which places of one arena. Pure data, printable; `planner` makes it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from streamrnn.errors import UnsupportedError
from streamrnn.ir.lowering import Apply, Arg, Place, Skip
from streamrnn.kernels._jit import Kernel
from streamrnn.layout import HEADER as HEADER
from streamrnn.layout import Layout
from streamrnn.layout import Port as Port
from streamrnn.layout import Slot as Slot
from streamrnn.layout import StateSlot as StateSlot
from streamrnn.memory import ALIGN as ALIGN

#: a model may not ask for more memory than this (bytes), whatever its file says
MAX_BLOCK = 1 << 32
#: iterations of a loop in one step, those of the loops around it included: a step has to end
MAX_TRIPS = 1 << 24


def bounded(size: int, what: str) -> None:
    """UnsupportedError where `size` bytes are more than a model may ask for."""
    if size > MAX_BLOCK:
        raise UnsupportedError(f"{what} would take {size} bytes; at most {MAX_BLOCK} are allowed")


@dataclass(frozen=True)
class Call:
    """One kernel call; `clone` says whether it gets code of its own sizes."""

    node: str
    kernel: Kernel
    args: tuple[Arg, ...]
    work: int


@dataclass(frozen=True)
class Loop:
    """One loop over all elements of `shape`, with scalar functions inside."""

    node: str
    shape: tuple[int, ...]
    inputs: tuple[tuple[Place, tuple[int, ...]], ...]
    body: tuple[Apply, ...]
    output: Place


@dataclass(frozen=True)
class Copy:
    """`size` bytes from one place to another."""

    node: str
    source: Place
    target: Place
    size: int


@dataclass(frozen=True)
class When:
    """Calls that run where the truth value at `condition` is `value`."""

    node: str
    condition: Place
    value: bool
    calls: tuple[Item, ...]


@dataclass(frozen=True)
class Repeat:
    """Calls that run for iterations `first` .. `trips` - 1, those before the int64 at `count`, as long as the truth value at
    `condition` holds. `number` is what places that move with the iteration refer to."""

    node: str
    number: int
    trips: int
    first: Arg
    count: Place | None
    condition: Place | None
    calls: tuple[Item, ...]


Item: TypeAlias = Call | Loop | Copy | When | Repeat


def each(items: Iterable[Item], trips: int = 1) -> Iterator[tuple[Call | Loop | Copy, int]]:
    """Every call, also inside of branches and loops, and how often it runs at most."""
    for item in items:
        if isinstance(item, When | Repeat):
            yield from each(item.calls, trips * (item.trips if isinstance(item, Repeat) else 1))
        else:
            yield item, trips


def work_of(items: Iterable[Item]) -> int:
    """`Layout.work` of these calls."""
    total = 0
    for item, times in each(items):
        if isinstance(item, Call):
            total += item.work * times
        elif isinstance(item, Loop):
            total += math.prod(item.shape) * len(item.body) * times
    return total


@dataclass(frozen=True)
class StepPlan(Layout):
    """All that code generation needs. `calls` compute the step, `commit` then stores states that were not updated in place."""

    calls: tuple[Item, ...]
    commit: tuple[Copy, ...]
    block: Block | None = None

    def kernels(self) -> list[Kernel]:
        """All kernels and scalar functions, each once, in order of first use."""
        found: dict[str, Kernel] = {}
        for call, _ in each(self.calls):
            if isinstance(call, Call):
                found.setdefault(call.kernel.address, call.kernel)
            elif isinstance(call, Loop):
                for apply in call.body:
                    found.setdefault(apply.function.address, apply.function)
        return list(found.values())

    def lines(self) -> list[str]:
        """One line per call: the node's name, the function, sizes and places; what branches and loops hold is indented."""
        return [f"{i:4d}  {text}" for i, text in enumerate(self._lines((*self.calls, *self.commit), ""))]

    def _lines(self, items: Iterable[Item], indent: str) -> Iterator[str]:
        for item in items:
            yield indent + self._describe(item)
            if isinstance(item, When | Repeat):
                yield from self._lines(item.calls, indent + "  ")

    def _where(self, arg: object) -> str:
        if isinstance(arg, Place):
            space, offset = self.place(arg)
            moves = "".join(f"+i{number}*{stride * arg.dtype.size}" for number, stride in arg.moves)
            return f"{space[0]}+{offset}{moves}"
        if isinstance(arg, Skip):
            return f"skip({arg.delay})"
        return f"{arg:g}" if isinstance(arg, float) else str(arg)

    def _describe(self, call: Item) -> str:
        if isinstance(call, When):
            return f"{call.node}: when {self._where(call.condition)} is {call.value}"
        if isinstance(call, Repeat):
            until = f" and {self._where(call.count)}" if call.count is not None else ""
            held = f" while {self._where(call.condition)}" if call.condition is not None else ""
            return f"{call.node}: for i{call.number} in {self._where(call.first)} .. {call.trips}{until}{held}"
        if isinstance(call, Call):
            named = (f"{name}={self._where(arg)}" for (name, _), arg in zip(call.kernel.params, call.args, strict=True))
            return f"{call.node}: {call.kernel.__name__}({', '.join(named)})"
        if isinstance(call, Copy):
            return f"{call.node}: copy({call.size} B, {self._where(call.source)} -> {self._where(call.target)})"
        body = " ; ".join(apply.function.__name__ for apply in call.body) or "move"
        sources = ", ".join(self._where(place) for place, _ in call.inputs)
        return f"{call.node}: for {list(call.shape)} {{ {body} }} ({sources} -> {self._where(call.output)})"


@dataclass(frozen=True)
class Block:
    """The block form of a plan: a plan that makes `steps` steps at once, with the same bits.

    Its ports hold a row for each step, its states lie where those of the plan lie. It holds once `after` steps are done, when
    no delay has filler left.
    """

    plan: StepPlan
    steps: int
    after: int
