"""Writing elements to places that are computed at run time. A write that falls outside of its array is left out.

Updates are applied in their order, one after the other, so that several to one place have one result. `combine` says what
becomes of an element and its update; `Kernel.typed` gives these kernels their element type.
"""

from __future__ import annotations

from streamrnn.kernels._jit import device, f32, f32p, i64, i64p, kernel, u8p


@device
def assigned(old: f32, new: f32) -> f32:
    return new


@device
def added(old: f32, new: f32) -> f32:
    return old + new


@device
def multiplied(old: f32, new: f32) -> f32:
    return old * new


@device
def larger(old: f32, new: f32) -> f32:
    return new if new > old else old


@device
def smaller(old: f32, new: f32) -> f32:
    return new if new < old else old


#: exchanged by `Kernel.bind`
combine = assigned


@kernel
def scatter_nd(count: i64, depth: i64, run: i64, dims: i64p, indices: i64p, updates: f32p, y: f32p) -> None:
    """y [dims[0]]..[dims[depth - 1]][run] at `indices` [count][depth] takes up `updates` [count][run]."""
    for i in range(count):
        at = 0
        inside = True
        for d in range(depth):
            k = indices[i * depth + d]
            if k < 0:
                k += dims[d]
            if k < 0 or k >= dims[d]:
                inside = False
            at = at * dims[d] + k
        if inside:
            for j in range(run):
                y[at * run + j] = combine(y[at * run + j], updates[i * run + j])


@kernel
def scatter_elements(
    count: i64, rank: i64, axis: i64, size: i64, dims: i64p, strides: i64p, indices: i64p, updates: f32p, y: f32p
) -> None:
    """y takes up `updates` [dims[0]]..[dims[rank - 1]] at their own coordinates, except on `axis` of `size` elements, where
    `indices` (of the same shape) give the coordinate. strides: of y, in elements; count: prod(dims)."""
    for i in range(count):
        k = indices[i]
        if k < 0:
            k += size
        if 0 <= k < size:
            at = k * strides[axis]
            rest = i
            for r in range(rank):
                d = rank - 1 - r
                if d != axis:
                    at += rest % dims[d] * strides[d]
                rest //= dims[d]
            y[at] = combine(y[at], updates[i])


@kernel
def write_rows(
    batch: i64, outer: i64, size: i64, count: i64, run: i64, circular: i64, first: i64p, updates: u8p, y: u8p
) -> None:
    """y [batch][outer][size][run] takes `updates` [batch][outer][count][run] at first[b], first[b] + 1 .. of its third axis, or
    with circular = 1 at these modulo `size`. Runs are bytes."""
    for b in range(batch):
        for o in range(outer):
            row = b * outer + o
            for s in range(count):
                k = first[b] + s
                if circular != 0:
                    k %= size
                if 0 <= k < size:
                    to = (row * size + k) * run
                    at = (row * count + s) * run
                    for i in range(run):
                        y[to + i] = updates[at + i]
