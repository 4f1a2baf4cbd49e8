"""What this machine can do at best: read bandwidth of each level of memory, float32 multiply-adds and their latency.

Measured with kernels of the project's own vector type, on one thread. Each figure is the least of several rounds: a limit is
what nothing disturbed.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from streamrnn.codegen.build import host
from streamrnn.errors import MissingExtraError, UnsupportedError
from streamrnn.export.boards import Board
from streamrnn.kernels._jit import f32p, i64, kernel
from streamrnn.kernels.simd import fma, splat, vload, vstore
from streamrnn.memory import aligned_bytes
from streamrnn.versions import compilers

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
#: cycles until a multiply-add of float32 may use the result of another: x86 since Skylake and Zen 2, Arm since the A76
LATENCY = 4
#: fewest rounds of a measurement
ROUNDS = 5


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


@kernel
def follow(n: i64, x: f32p, y: f32p) -> None:
    """n rounds of eight multiply-adds of 16 lanes each of which waits for the one before."""
    w, a = splat(HALF), vload(x, 0)
    for _ in range(n):
        a = fma(a, w, w)
        a = fma(a, w, w)
        a = fma(a, w, w)
        a = fma(a, w, w)
        a = fma(a, w, w)
        a = fma(a, w, w)
        a = fma(a, w, w)
        a = fma(a, w, w)
    vstore(y, 0, a)


def caches(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> list[tuple[str, int]]:
    """Name and bytes of the data caches of a core, small to large. Raises UnsupportedError where the system does not tell."""
    found = []
    for entry in sorted(folder.glob("index*")):
        level, kind, size = ((entry / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found.append((f"L{level}", int(size.removesuffix("K")) << 10))
    if not found:
        raise UnsupportedError(
            f"{folder} does not say how large the caches are, so this machine cannot be measured (Linux only)"
        )
    return sorted(found, key=lambda cache: cache[1])


def read_time(size: int, budget: float) -> float:
    """Nanoseconds of reading `size` bytes once more."""
    x = aligned_bytes(-(-size // CHUNK) * CHUNK).view(np.float32)
    x[...] = 1.0
    run, y, times = read.njit, np.zeros(16, np.float32), max(1, CALL // x.nbytes)
    return best(lambda: run(times, len(x), x, y), budget) / times * size / x.nbytes


def multiply_rate(budget: float) -> float:
    """float32 operations per nanosecond, two for each multiply-add."""
    x, y, run = np.arange(16.0 * UNROLL, dtype=np.float32), np.zeros(16, np.float32), multiply.njit
    return MULTIPLIES * UNROLL * 16 * 2 / best(lambda: run(MULTIPLIES, x, y), budget)


def multiply_latency(budget: float) -> float:
    """Nanoseconds until a multiply-add may use the result of another."""
    x, y, run = np.ones(16, np.float32), np.zeros(16, np.float32), follow.njit
    return best(lambda: run(MULTIPLIES // 8, x, y), budget) / MULTIPLIES


def best(call: Callable[[], object], budget: float) -> float:
    """Nanoseconds of one call by the thread's own clock, the least within `budget` seconds."""
    call()
    found: list[int] = []
    while len(found) < ROUNDS or sum(found) < budget * 1e9:
        start = time.thread_time_ns()
        call()
        found.append(time.thread_time_ns() - start)
    return float(min(found))


@cache
def host_board(budget: float = 0.02) -> Board:
    """This machine, measured; each figure takes `budget` seconds at least, and Numba some seconds before.

    Raises UnsupportedError where the system does not say how large its caches are, MissingExtraError without Numba.
    """
    if "numba" not in compilers():
        raise MissingExtraError("measuring this machine takes kernels that Numba compiles: pip install numba")
    clock = LATENCY / multiply_latency(budget)
    vector = 32 / multiply_rate(budget) * clock
    sizes = [part for _, size in caches() for part in (size // 2, size, 2 * size)] + [FAR]
    reads = tuple((size, size / read_time(size, budget) / clock) for size in sorted(set(sizes)))
    name, features = host()
    lanes = 16 if "+avx512f" in features else 8 if "+avx2" in features else 4
    return Board(
        "host", f"this machine: {name}, {clock:.1f} GHz, {platform.system()}", clock, lanes, 16 / (lanes * vector), LATENCY,
        2 * vector, byte_products(features) * vector, 0.5, True, reads, 0, _memory(), "measured",
    )  # fmt: skip


def byte_products(features: str) -> float:
    """How long 16 multiply-adds of 8 bits take beside those of float32, by the instructions that the kernels use for them."""
    if "+avx512vnni" in features or "+avxvnni" in features or "+dotprod" in features:
        return 0.25
    return 1.0


def _memory() -> int:
    """Bytes of RAM."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
