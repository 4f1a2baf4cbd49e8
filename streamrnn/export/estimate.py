"""How long a step takes on a machine: the costs of its calls against the machine's rates.

A call takes the longest of three: its multiply-adds at their rate, those that wait for one another at their latency, and
reading its weights at the bandwidth of the memory where all that a step touches lies (Williams et al. 2009, call by call); the
sum of the first and the last where a core does not load beside arithmetic. To this comes the rest of its arithmetic and its
instructions. Where llvm-mca knows the core, the loops that the compiler made say how long the multiply-adds of float32 take
(`pipeline`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from streamrnn.export.boards import Board
from streamrnn.export.cost import Cost
from streamrnn.export.workload import Turn, Workload

#: A step takes at most so many times its estimate, and at least the estimate divided by it. On a measured machine that holds
#: for 42 of 42 real models and all cells whose weights fit its caches (docs/fit.md). Published figures add what is not known of
#: a board: nothing was measured on one
MEASURED, PUBLISHED = 1.5, 2.0


@dataclass(frozen=True)
class Load:
    """What one step takes.

    nanoseconds    the estimate
    multiply_adds  of all products
    operations     other arithmetic on numbers
    weight_bytes   of weights read, as often as they are read
    moved_bytes    copied from place to place
    """

    nanoseconds: float
    multiply_adds: float
    operations: float
    weight_bytes: float
    moved_bytes: float


def uncertainty(board: Board) -> float:
    """The factor between an estimate and the truth that `streamrnn fit` allows for."""
    return MEASURED if board.source == "measured" else PUBLISHED


def load_of(work: Workload, board: Board, factor: float = 1.0, loops: Mapping[str, float] | None = None) -> Load:
    """The load of one step with recurrent layers `factor` times as wide. `loops`: see `pipeline.loop_cycles`."""
    turns = work.turns(factor)
    touched = work.weight_bytes(factor) + work.arena_bytes(factor)
    return Load(
        nanoseconds=sum(turn.times * cycles(turn, board, touched, loops or {}) for turn in turns) / board.clock,
        multiply_adds=_total(turns, lambda cost: cost.products * 16),
        operations=_total(turns, lambda cost: cost.vectors * 16),
        weight_bytes=_total(turns, lambda cost: cost.size * cost.passes),
        moved_bytes=_total(turns, lambda cost: cost.moved),
    )


def cycles(turn: Turn, board: Board, touched: float, loops: Mapping[str, float]) -> float:
    """Cycles of one call in a step that touches so many bytes."""
    cost, loop = turn.cost, loops.get(turn.kernel)
    reading, chain = _reading(turn, board, touched), cost.chain * board.latency
    arithmetic = cost.products * cost.effort * {"float16": board.half, "int8": board.byte}.get(cost.weights, board.vector)
    if loop is not None and cost.weights != "int8":
        arithmetic = cost.products * loop
        if not board.overlaps:  # the loads of the loop are in it, as if from the nearest memory
            reading = max(0.0, reading - cost.size * cost.passes / board.near)
    products = max(arithmetic, chain, reading) if board.overlaps else max(arithmetic, chain) + reading
    moved = 2 * cost.moved / board.near  # each byte is read and written
    return products + cost.waits * board.latency + cost.vectors * board.vector + cost.singles * board.single + moved


def _reading(turn: Turn, board: Board, touched: float) -> float:
    """The first pass finds the weights where all that a step or a loop touches lies, the next ones where they themselves do."""
    cost = turn.cost
    first = cost.size / board.read_rate(int(turn.around or touched))
    return first + max(0.0, cost.passes - 1) * cost.size / board.read_rate(int(cost.size))


def _total(turns: Sequence[Turn], part: Callable[[Cost], float]) -> float:
    return sum(turn.times * part(turn.cost) for turn in turns)
