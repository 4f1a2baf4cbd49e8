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
from pathlib import Path

import numpy as np

from streamrnn.kernels._jit import f32p, i64, kernel
from streamrnn.kernels.simd import fma, splat, vload, vstore
from streamrnn.memory import aligned_bytes
from streamrnn.plan import Call, StepPlan, each
from suite.timing import abba

ZERO, HALF = 0.0, 0.5

#: vectors in flight: latency times throughput of the CPUs at hand
UNROLL = 8
#: bytes that a round of `read` takes
CHUNK = 16 * 4 * UNROLL
#: bytes read from beyond the last cache
FAR = 256 << 20
#: bytes that one call of `read` reads at least
CALL = 8 << 20
#: multiply-adds of all vectors in one call of `multiply`
MULTIPLIES = 100_000


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


@kernel
def read(times: i64, n: i64, x: f32p, y: f32p) -> None:
    """Adds up n floats, a multiple of 128, so many times; lane sums go to y, or nothing would have to be read."""
    a = b = c = d = e = f = g = h = splat(ZERO)
    for _ in range(times):
        for i in range(0, n, 128):
            a = a + vload(x, i)
            b = b + vload(x, i + 16)
            c = c + vload(x, i + 32)
            d = d + vload(x, i + 48)
            e = e + vload(x, i + 64)
            f = f + vload(x, i + 80)
            g = g + vload(x, i + 96)
            h = h + vload(x, i + 112)
    vstore(y, 0, a + b + c + d + e + f + g + h)


@kernel
def multiply(n: i64, x: f32p, y: f32p) -> None:
    """n rounds of eight multiply-adds of 16 lanes that do not wait for one another."""
    w = splat(HALF)
    a, b, c, d = vload(x, 0), vload(x, 16), vload(x, 32), vload(x, 48)
    e, f, g, h = vload(x, 64), vload(x, 80), vload(x, 96), vload(x, 112)
    for _ in range(n):
        a = fma(a, w, w)
        b = fma(b, w, w)
        c = fma(c, w, w)
        d = fma(d, w, w)
        e = fma(e, w, w)
        f = fma(f, w, w)
        g = fma(g, w, w)
        h = fma(h, w, w)
    vstore(y, 0, a + b + c + d + e + f + g + h)


def caches(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> list[tuple[str, int]]:
    """Name and bytes of the data caches of a core, small to large. Raises SystemExit where the system does not tell."""
    found = []
    for entry in sorted(folder.glob("index*")):
        level, kind, size = ((entry / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found.append((f"L{level}", int(size.removesuffix("K")) << 10))
    if not found:
        raise SystemExit(f"{folder} does not say how large the caches are: no roofline (Linux only)")
    return sorted(found, key=lambda cache: cache[1])


def measure(budget: float) -> Roofline:
    """Bandwidth of each level, from half of what it holds, and the rate of multiply-adds; each takes `budget` seconds."""

    @cache
    def reading(size: int) -> float:
        return read_time(size, budget)

    sizes = [(name, size, size // 2) for name, size in caches()] + [("memory", 0, FAR)]
    levels = tuple(Level(name, size, half / reading(half)) for name, size, half in sizes)
    return Roofline(levels, multiply_rate(budget), reading)


def read_time(size: int, budget: float) -> float:
    """Nanoseconds of reading `size` bytes once more."""
    x = aligned_bytes(-(-size // CHUNK) * CHUNK).view(np.float32)
    x[...] = 1.0
    run, y, times = read.njit, np.zeros(16, np.float32), max(1, CALL // x.nbytes)
    return best(lambda n: run(times, n, x, y), len(x), budget) / times * size / x.nbytes


def multiply_rate(budget: float) -> float:
    """float32 operations per nanosecond."""
    x, y, run = np.arange(16.0 * UNROLL, dtype=np.float32), np.zeros(16, np.float32), multiply.njit
    return MULTIPLIES * UNROLL * 16 * 2 / best(lambda n: run(n, x, y), MULTIPLIES, budget)


def best(call: Callable[[int], None], x: int, budget: float) -> float:
    """Nanoseconds of one call, the least of the rounds: a limit is what nothing disturbed."""
    return float(abba([(call, x)], budget).min())


def flops(plan: StepPlan) -> int:
    """About how many multiplications and additions the kernels of a step make."""
    return sum(2 * item.work * times for item, times in each(plan.calls) if isinstance(item, Call))


def step_bound(roof: Roofline, plan: StepPlan) -> float:
    """Nanoseconds of a step at best: its weights read once, or its multiply-adds."""
    return roof.bound(plan.weights.nbytes, flops(plan))
