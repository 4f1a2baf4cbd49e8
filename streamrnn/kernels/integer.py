"""Sums of products of small integers in 32 bits.

Weights are 16 bits wide, so that 8-bit numbers fit with their zero point taken off; constant ones that still fit 8 bits are
stored as such (`Kernel.typed`). The loops are plain: integers may be added in any order, so LLVM makes vectors of them. It is
for what `byte_products` does not pack: weights that are computed at run time, and groups of few channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamrnn.kernels._jit import device, i8p, i16p, i32, i32p, i64, i64p, kernel
from streamrnn.kernels.frames import Frames, over_frames


@device
def dot(n: i64, w: Any, o: i64, x: i16p, at: i64) -> i32:
    """The sum of w[o + k] * x[at + k] over n elements; it wraps around."""
    total = np.int32(0)
    for k in range(n):
        total = np.int32(total + np.int32(w[o + k]) * np.int32(x[at + k]))
    return total


@kernel
def product(rows: i64, n_in: i64, n_out: i64, w: i8p, x: i16p, y: i32p) -> None:
    """y [rows][n_out] = x [rows][n_in] times w [n_out][n_in]."""
    for r in range(rows):
        for j in range(n_out):
            y[r * n_out + j] = dot(n_in, w, j * n_in, x, r * n_in)


@kernel
def conv(
    batch: i64, groups: i64, c_out: i64, n: i64, height: i64, width: i64, x_batch: i64, x_group: i64, x_row: i64, x_col: i64,
    w: i8p, offsets: i64p, zero: i32p, x: i8p, y: i32p,
) -> None:  # fmt: skip
    """y [batch][group][c_out][height][width]: each element the n products of a filter and what it sees, less zero[0].

    w: [group][c_out][n]. Product k meets x[at + offsets[k]], where position (row, col) of a group in a batch entry is at
    b * x_batch + g * x_group + row * x_row + col * x_col. The innermost loop runs over neighbouring positions.
    """
    origin = zero[0]
    for b in range(batch):
        for g in range(groups):
            for c in range(g * c_out, (g + 1) * c_out):
                for row in range(height):
                    to = ((b * groups * c_out + c) * height + row) * width
                    for col in range(width):
                        y[to + col] = np.int32(0)
                    for k in range(n):
                        at, factor = b * x_batch + g * x_group + row * x_row + offsets[k], np.int32(w[c * n + k])
                        for col in range(width):
                            seen = np.int32(np.int32(x[at + col * x_col]) - origin)
                            y[to + col] = np.int32(y[to + col] + np.int32(seen * factor))


@over_frames(Frames("rows", {"x": ("rows", "groups", "n"), "y": ("rows", "groups", "c_out")}))
@kernel
def whole_filters(rows: i64, groups: i64, c_out: i64, n: i64, w: i8p, zero: i32p, x: i8p, y: i32p) -> None:
    """y [rows][group][c_out]: each element the products of a filter [n] and of all that its group has, x [rows][group][n] less
    zero[0]. w: [c_out][n][group], so that the innermost loop runs over groups."""
    origin = zero[0]
    for row in range(rows):
        for c in range(c_out):
            for g in range(groups):
                total = np.int32(0)
                for k in range(n):
                    seen = np.int32(np.int32(x[(row * groups + g) * n + k]) - origin)
                    total = np.int32(total + np.int32(seen * np.int32(w[(c * n + k) * groups + g])))
                y[(row * groups + g) * c_out + c] = total
