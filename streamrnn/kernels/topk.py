"""The k best elements of rows, by a heap of indices: no memory but the outputs, n log k comparisons."""

from __future__ import annotations

from typing import Any

from streamrnn.kernels._jit import b1, device, f32, f32p, i64, i64p, kernel
from streamrnn.kernels.reduce import greater

#: whether the first operand is the better one; for `Kernel.bind`
better = greater


@device
def ahead(function: Any, a: f32, i: i64, b: f32, j: i64) -> b1:
    """Whether element a at index i comes before b at j: the better one, then the earlier one; NaN comes behind all numbers."""
    if function(a, b):
        return True
    if function(b, a):
        return False
    if (a != a) != (b != b):
        return b != b
    return i < j


@device
def sift(function: Any, x: f32p, at: i64, indices: i64p, to: i64, inner: i64, size: i64, root: i64) -> None:
    """Let the entry at `root` sink until no entry of the heap is ahead of the one above it: the last of all comes on top."""
    while 2 * root + 1 < size:
        child = 2 * root + 1
        if child + 1 < size:
            i, j = indices[to + child * inner], indices[to + (child + 1) * inner]
            if ahead(function, x[at + i * inner], i, x[at + j * inner], j):
                child += 1
        i, j = indices[to + root * inner], indices[to + child * inner]
        if not ahead(function, x[at + i * inner], i, x[at + j * inner], j):
            return
        indices[to + root * inner], indices[to + child * inner] = j, i
        root = child


@kernel
def top_k(outer: i64, n: i64, inner: i64, k: i64, x: f32p, values: f32p, indices: i64p) -> None:
    """values, indices [outer][k][inner]: the k best of x [outer][n][inner] along n, the best one first; k is at least 1."""
    for o in range(outer):
        for c in range(inner):
            at = o * n * inner + c
            to = o * k * inner + c
            for i in range(k):
                indices[to + i * inner] = i
            for i in range(k):
                sift(better, x, at, indices, to, inner, k, k - 1 - i)
            for i in range(k, n):
                j = indices[to]
                if ahead(better, x[at + i * inner], i, x[at + j * inner], j):
                    indices[to] = i
                    sift(better, x, at, indices, to, inner, k, 0)
            for r in range(k - 1):
                size = k - 1 - r
                i, j = indices[to], indices[to + size * inner]
                indices[to], indices[to + size * inner] = j, i
                sift(better, x, at, indices, to, inner, size, 0)
            for i in range(k):
                values[to + i * inner] = x[at + indices[to + i * inner] * inner]
