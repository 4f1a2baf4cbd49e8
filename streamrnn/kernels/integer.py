"""Sums of products of small integers in 32 bits.

Operands are 16 bits wide, so that 8-bit numbers fit with their zero point taken off; constant weights that still fit 8 bits are
stored as such (`Kernel.typed`). The loops are plain: integers may be added in any order, so LLVM makes vectors of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamrnn.kernels._jit import device, i8p, i16p, i32, i32p, i64, i64p, kernel


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
    w: i8p, offsets: i64p, x: i16p, y: i32p, seen: i16p,
) -> None:  # fmt: skip
    """y [batch][group][c_out][height][width]: each element the n products of a filter and what it sees.

    w: [group][c_out][n]. Product k meets x[at + offsets[k]], where position (row, col) of a group in a batch entry is at
    b * x_batch + g * x_group + row * x_row + col * x_col. seen: [n] scratch.
    """
    area = height * width
    for b in range(batch):
        for g in range(groups):
            first = (b * groups + g) * c_out * area
            for row in range(height):
                for col in range(width):
                    at = b * x_batch + g * x_group + row * x_row + col * x_col
                    for k in range(n):
                        seen[k] = x[at + offsets[k]]
                    for c in range(c_out):
                        y[first + c * area + row * width + col] = dot(n, w, (g * c_out + c) * n, seen, 0)
