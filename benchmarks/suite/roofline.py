"""What this machine could do at best: read bandwidth of each level of memory, and float32 multiply-adds.

Measured with kernels of the project's own vector type, on one thread. The bound of a step is the larger of two times (Williams
et al. 2009): that of its arithmetic, and that of reading as many bytes as its weights have, again and again. The latter is
measured for each number of bytes: weights a little larger than a cache are partly still in it, so that the bandwidth of one
level would be no bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from streamrnn.export.roofline import FAR, caches, multiply_rate, read_time
from streamrnn.plan import Call, StepPlan, each


@dataclass(frozen=True)
class Level:
    """A level of memory: bytes that it holds (0: any number) and GB/s that one core reads from it."""

    name: str
    size: int
    bandwidth: float


@dataclass(frozen=True)
class Roofline:
    """levels: for the reader. gflops: float32 operations per nanosecond, two for each multiply-add. reading: nanoseconds of
    reading so many bytes that were read before."""

    levels: tuple[Level, ...]
    gflops: float
    reading: Callable[[int], float]

    def bound(self, size: int, flops: int) -> float:
        """Nanoseconds that reading `size` bytes and making `flops` operations take at least."""
        return max(self.reading(size), flops / self.gflops)


def measure(budget: float) -> Roofline:
    """Bandwidth of each level, from half of what it holds, and the rate of multiply-adds; each takes `budget` seconds."""

    @cache
    def reading(size: int) -> float:
        return read_time(size, budget)

    sizes = [(name, size, size // 2) for name, size in caches()] + [("memory", 0, FAR)]
    levels = tuple(Level(name, size, half / reading(half)) for name, size, half in sizes)
    return Roofline(levels, multiply_rate(budget), reading)


def flops(plan: StepPlan) -> int:
    """About how many multiplications and additions the kernels of a step make."""
    return sum(2 * item.work * times for item, times in each(plan.calls) if isinstance(item, Call))


def step_bound(roof: Roofline, plan: StepPlan) -> float:
    """Nanoseconds of a step at best: its weights read once, or its multiply-adds."""
    return roof.bound(plan.weights.nbytes, flops(plan))
