"""Whether a model fits a machine: its memory, and the time of a callback against the deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

from streamrnn.errors import InputError
from streamrnn.export.boards import Board
from streamrnn.export.estimate import Load, load_of, uncertainty
from streamrnn.export.workload import Workload
from streamrnn.plan import StepPlan

FITS, UNCERTAIN, NOT = "fits", "uncertain", "does not fit"
#: hidden units beyond which nobody asks
WIDEST = 1 << 14


@dataclass(frozen=True)
class Demand:
    """What is asked of a machine.

    rate   samples (frames of the input) per second
    block  samples of one callback
    hop    samples that one step takes
    """

    rate: float
    block: int
    hop: int

    @property
    def steps(self) -> int:
        """Steps of the callback that has most of them: a step of many samples is made in one callback."""
        return ceil(self.block / self.hop)

    @property
    def deadline(self) -> float:
        """Nanoseconds of a callback."""
        return 1e9 * self.block / self.rate


def demand(rate: float, block: int, hop: int) -> Demand:
    """Raises InputError where a figure is not above zero."""
    for what, value in (("rate", rate), ("hop", hop), ("block", block)):
        if not 0 < value < float("inf"):
            raise InputError(f"--{what} {value:g}: it must be above zero")
    return Demand(rate, block, hop)


@dataclass(frozen=True)
class Need:
    """What a model takes of a machine, with recurrent layers of some width: bytes, and nanoseconds of a callback."""

    flash: int
    ram: int
    nanoseconds: float


@dataclass(frozen=True)
class Fit:
    """The answer.

    load         what one step takes
    uncertainty  the time is at most so many times the estimate, and at least the estimate divided by it
    code         bytes of machine code
    hidden       hidden units of the widest recurrent layer, 0 without any
    largest      the same of the largest model that fits, all recurrent layers wider by one factor; 0 where not even one unit
                 does, None without recurrent layers
    """

    board: Board
    demand: Demand
    load: Load
    need: Need
    uncertainty: float
    code: int
    hidden: int
    largest: int | None

    @property
    def time(self) -> str:
        """FITS where the callback ends before its deadline whatever the truth is within the uncertainty, NOT where it ends
        behind it, UNCERTAIN in between."""
        return timing(self.need.nanoseconds, self.demand.deadline, self.uncertainty)

    @property
    def memory(self) -> str:
        return FITS if room(self.need, self.board) else NOT

    @property
    def verdict(self) -> str:
        """The worse of time and memory."""
        return NOT if NOT in (self.time, self.memory) else self.time


def timing(nanoseconds: float, deadline: float, factor: float) -> str:
    """See `Fit.time`."""
    if nanoseconds * factor <= deadline:
        return FITS
    return NOT if nanoseconds > deadline * factor else UNCERTAIN


def room(need: Need, board: Board) -> bool:
    """Whether the memory of a board is enough. Without flash, program and weights lie in RAM."""
    if board.flash:
        return need.flash <= board.flash and need.ram <= board.ram
    return need.flash + need.ram <= board.ram


class Model:
    """The plan of a model as it is compiled for a target, the bytes of its code there, and how long its loops take
    (`pipeline.loop_cycles`)."""

    def __init__(self, plan: StepPlan, code: int, loops: Mapping[str, float] | None = None) -> None:
        self.code = code
        self.loops = loops or {}
        self.plan = plan
        self.step = Workload(plan, plan.step_bytes)
        self.block = Workload(plan.block.plan, plan.arena_bytes) if plan.block else None

    def need(self, board: Board, wanted: Demand, factor: float = 1.0) -> Need:
        """What it takes with recurrent layers `factor` times as wide."""
        whole = self.block or self.step
        return Need(
            flash=self.code + self.step.weight_bytes(factor),
            ram=whole.arena_bytes(factor),
            nanoseconds=self._callback(board, wanted.steps, factor),
        )

    def _callback(self, board: Board, steps: int, factor: float) -> float:
        """A block of steps is made at once as often as it fits in, the rest step by step."""
        total, size = 0.0, self.plan.block.steps if self.plan.block else 0
        if self.block and steps >= size:
            total = steps // size * load_of(self.block, board, factor, self.loops).nanoseconds
            steps %= size
        return total + (steps * load_of(self.step, board, factor, self.loops).nanoseconds if steps else 0.0)

    def fit(self, board: Board, wanted: Demand) -> Fit:
        """The answer for one board. Raises UnsupportedError where no time can be stated."""
        factor, load = uncertainty(board), load_of(self.step, board, 1.0, self.loops)
        largest = self._largest(board, wanted, factor)
        return Fit(board, wanted, load, self.need(board, wanted), factor, self.code, self.step.hidden, largest)

    def _largest(self, board: Board, wanted: Demand, factor: float) -> int | None:
        def fits(hidden: int) -> bool:
            need = self.need(board, wanted, hidden / self.step.hidden)
            return room(need, board) and timing(need.nanoseconds, wanted.deadline, factor) == FITS

        return last(fits, WIDEST) if self.step.hidden else None


def last(holds: Callable[[int], bool], end: int) -> int:
    """The largest number up to `end` for which something holds that holds for all smaller ones; 0 where it never does."""
    low, high = 0, end + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
