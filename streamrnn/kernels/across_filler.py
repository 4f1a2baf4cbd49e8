"""Filler across streams: streams begin at different times, so that in one step some lanes hold a frame and others filler.

A step takes one frame. It is filler for a stream that has made fewer than `delay` steps; headers [16][8] begin with that
number.
"""

from __future__ import annotations

from streamrnn.kernels._jit import f32, f32p, i64, i64p, kernel
from streamrnn.kernels.simd import LANES

#: numbers in a header
FIELDS = 8


@kernel
def keep(n: i64, delay: i64, headers: i64p, x: f32p, y: f32p) -> None:
    """y = x, n elements, in the lanes of streams whose frame is filler."""
    for lane in range(LANES):
        if headers[lane * FIELDS] < delay:
            for i in range(n):
                y[i * LANES + lane] = x[i * LANES + lane]


@kernel
def fill(n: i64, delay: i64, value: f32, headers: i64p, y: f32p) -> None:
    """y = value, n elements, in the same lanes."""
    for lane in range(LANES):
        if headers[lane * FIELDS] < delay:
            for i in range(n):
                y[i * LANES + lane] = value
