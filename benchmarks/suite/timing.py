"""How times are taken: in one process, every pair of sides in ABBA order, one clock for all.

The clock is the CPU time of the whole process. An engine that computes on a thread of its own is billed for it, and what
other processes do to the machine disturbs little and disturbs all sides alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

#: a function and its one argument
Side: TypeAlias = tuple[Callable[[Any], object], Any]

#: nanoseconds that one timing of one side takes at least
SLICE = 2_000_000
#: fewest and most rounds
ROUNDS = (3, 25)


def abba(
    sides: Sequence[Side], budget: float, least: int = SLICE, clock: Callable[[], int] = time.process_time_ns
) -> npt.NDArray[np.float64]:
    """Nanoseconds per call, [rounds, sides]: each round goes there and back over the sides and takes the mean of both visits.

    As many rounds as take `budget` seconds, within ROUNDS.
    """
    counts = [calls_for(side, least, clock) for side in sides]
    a_round = 2 * sum(once(side, count, clock) * count for side, count in zip(sides, counts, strict=True))
    fewest, most = ROUNDS
    times = np.zeros((min(most, max(fewest, int(budget * 1e9 / a_round))), len(sides)))
    order = (*range(len(sides)), *reversed(range(len(sides))))
    for row in times:
        for i in order:
            row[i] += once(sides[i], counts[i], clock) / 2
    return times


def once(side: Side, count: int, clock: Callable[[], int]) -> float:
    """Nanoseconds per call over `count` calls in a row."""
    call, x = side
    start = clock()
    for _ in repeat(None, count):
        call(x)
    return (clock() - start) / count


def calls_for(side: Side, least: int, clock: Callable[[], int]) -> int:
    """How many calls last `least` nanoseconds, after a few to warm up."""
    once(side, 1, clock)
    count = 1
    while True:
        spent = once(side, count, clock) * count
        if spent >= least / 4:
            return max(1, round(count * least / spent))
        count *= 4


def medians(times: npt.NDArray[np.float64]) -> list[float]:
    """Nanoseconds per call of each side."""
    return [float(t) for t in np.median(times, axis=0)]


def ratios(times: npt.NDArray[np.float64]) -> list[float]:
    """How many times as long as the first side each side takes: medians of the rounds' own ratios, which drift cannot tilt."""
    return [float(r) for r in np.median(times / times[:, :1], axis=0)]
