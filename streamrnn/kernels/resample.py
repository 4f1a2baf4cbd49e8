"""Weighted means, and single elements, at known places along one axis."""

from __future__ import annotations

from streamrnn.kernels._jit import f32p, i32p, i64, i64p, kernel
from streamrnn.kernels.simd import LANES, fma, load_lanes, splat, store_lanes


@kernel
def resample(
    outer: i64, n: i64, count: i64, inner: i64, taps: i64, index: i64p, weight: f32p, start: f32p, x: f32p, y: f32p
) -> None:
    """y [outer][count][inner]: element i is start[i] plus, for each of its `taps`, weight [count][taps] times the element of x
    [outer][n][inner] at index [count][taps]."""
    for o in range(outer):
        for i in range(count):
            to = (o * count + i) * inner
            for j in range(0, inner, LANES):
                total = splat(start[i])
                for t in range(i * taps, (i + 1) * taps):
                    total = fma(load_lanes(x, (o * n + index[t]) * inner + j, inner - j), splat(weight[t]), total)
                store_lanes(y, to + j, inner - j, total)


@kernel
def resample_rows(outer: i64, n: i64, count: i64, taps: i64, index: i64p, weight: f32p, start: f32p, x: f32p, y: f32p) -> None:
    """`resample` where elements along the axis are neighbours (inner is 1)."""
    for o in range(outer):
        for i in range(count):
            total = start[i]
            for t in range(i * taps, (i + 1) * taps):
                total = fma(x[o * n + index[t]], weight[t], total)
            y[o * count + i] = total


@kernel
def pick(outer: i64, n: i64, count: i64, inner: i64, index: i64p, x: i32p, y: i32p) -> None:
    """y [outer][count][inner] = the elements of x [outer][n][inner] at index [count], which are known to be inside."""
    for o in range(outer):
        for i in range(count):
            to, at = (o * count + i) * inner, (o * n + index[i]) * inner
            for j in range(inner):
                y[to + j] = x[at + j]
