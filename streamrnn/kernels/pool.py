"""Sliding windows over the last three axes of x [planes][depth][height][width].

Sizes come in threes, for depth, height and width. Tap (a, b, c) of the window of output (d, r, q) lies at d * stride_d + a *
dilation_d - front, and so on; taps outside x take no part.
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import f32p, i64, i64p, kernel
from streamrnn.kernels.reduce import add, result

#: how two elements are combined, the neutral element, what is done to the result; for `Kernel.bind`
combine = add
start = np.float32(0)
finish = result


@kernel
def pool(
    planes: i64, depth: i64, height: i64, width: i64, slices: i64, rows: i64, columns: i64, kernel_d: i64, kernel_h: i64,
    kernel_w: i64, stride_d: i64, stride_h: i64, stride_w: i64, dilation_d: i64, dilation_h: i64, dilation_w: i64, front: i64,
    top: i64, left: i64, back: i64, bottom: i64, right: i64, padding: i64, x: f32p, y: f32p,
) -> None:  # fmt: skip
    """y [planes][slices][rows][columns]: the elements of each window combined in order.

    Where `padding` is 1 the padded elements, up to back, bottom and right, are counted by a mean.
    """
    for p in range(planes):
        for d in range(slices):
            for r in range(rows):
                for q in range(columns):
                    total = start
                    count = 0
                    for a in range(kernel_d):
                        z = d * stride_d + a * dilation_d - front
                        for b in range(kernel_h):
                            row = r * stride_h + b * dilation_h - top
                            for c in range(kernel_w):
                                column = q * stride_w + c * dilation_w - left
                                inside = z >= 0 and z < depth and row >= 0 and row < height
                                if inside and column >= 0 and column < width:
                                    total = combine(total, x[((p * depth + z) * height + row) * width + column])
                                    count += 1
                                elif padding != 0 and z < depth + back and row < height + bottom and column < width + right:
                                    count += 1
                    y[((p * slices + d) * rows + r) * columns + q] = finish(total, np.float32(count))


@kernel
def largest(
    planes: i64, depth: i64, height: i64, width: i64, slices: i64, rows: i64, columns: i64, kernel_d: i64, kernel_h: i64,
    kernel_w: i64, stride_d: i64, stride_h: i64, stride_w: i64, dilation_d: i64, dilation_h: i64, dilation_w: i64, front: i64,
    top: i64, left: i64, turned: i64, lowest: f32p, x: f32p, y: f32p, index: i64p,
) -> None:  # fmt: skip
    """y [planes][slices][rows][columns]: the largest element of each window, the first of equal ones, and where it lies in x.

    turned: 1 counts depth fastest and width slowest. lowest: [1] what a window without elements has, its index is 0.
    """
    for p in range(planes):
        for d in range(slices):
            for r in range(rows):
                for q in range(columns):
                    best = lowest[0]
                    found = -1
                    for a in range(kernel_d):
                        z = d * stride_d + a * dilation_d - front
                        for b in range(kernel_h):
                            row = r * stride_h + b * dilation_h - top
                            for c in range(kernel_w):
                                column = q * stride_w + c * dilation_w - left
                                inside = z >= 0 and z < depth and row >= 0 and row < height
                                if inside and column >= 0 and column < width:
                                    v = x[((p * depth + z) * height + row) * width + column]
                                    if v > best or (found < 0 and v == best):
                                        best = v
                                        if turned != 0:
                                            found = (column * height + row) * depth + z
                                        else:
                                            found = (z * height + row) * width + column
                    to = ((p * slices + d) * rows + r) * columns + q
                    y[to] = best
                    index[to] = p * depth * height * width + max(found, 0)
