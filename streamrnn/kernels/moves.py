"""Moving elements of any type from place to place: sizes are in bytes, so that one kernel serves every element type.

An index that is computed at run time never leads out of its array, whatever it is: negative ones count from the end, reads
are clamped to the nearest element, and writes that fall outside are left out.
"""

from __future__ import annotations

from streamrnn.kernels._jit import i64, i64p, kernel, u8p


@kernel
def copy_blocks(
    n0: i64, n1: i64, n2: i64, run: i64, x0: i64, x1: i64, x2: i64, y0: i64, y1: i64, y2: i64, x: u8p, y: u8p
) -> None:
    """n0 * n1 * n2 runs of `run` bytes from steps x0, x1, x2 of x to steps y0, y1, y2 of y (bytes)."""
    for i in range(n0):
        for j in range(n1):
            for k in range(n2):
                at = i * x0 + j * x1 + k * x2
                to = i * y0 + j * y1 + k * y2
                for b in range(run):
                    y[to + b] = x[at + b]


@kernel
def take(outer: i64, size: i64, count: i64, run: i64, indices: i64p, x: u8p, y: u8p) -> None:
    """y [outer][count][run] = x [outer][size][run] at `indices` [count] of its middle axis; runs are bytes."""
    for o in range(outer):
        for i in range(count):
            k = indices[i]
            if k < 0:
                k += size
            k = min(max(k, 0), size - 1)
            at = (o * size + k) * run
            to = (o * count + i) * run
            for b in range(run):
                y[to + b] = x[at + b]


@kernel
def take_elements(outer: i64, size: i64, count: i64, inner: i64, run: i64, indices: i64p, x: u8p, y: u8p) -> None:
    """y [outer][count][inner] = x [outer][size][inner] at `indices` [outer][count][inner]; elements of `run` bytes."""
    for o in range(outer):
        for i in range(count):
            for j in range(inner):
                place = (o * count + i) * inner + j
                k = indices[place]
                if k < 0:
                    k += size
                k = min(max(k, 0), size - 1)
                at = ((o * size + k) * inner + j) * run
                for b in range(run):
                    y[place * run + b] = x[at + b]


@kernel
def take_nd(batch: i64, count: i64, depth: i64, block: i64, run: i64, dims: i64p, indices: i64p, x: u8p, y: u8p) -> None:
    """y [batch][count][run] = x [batch][dims[0]]..[dims[depth - 1]][run] at `indices` [batch][count][depth].

    block: prod(dims), the runs of one batch entry; runs are bytes.
    """
    for i in range(batch * count):
        at = 0
        for d in range(depth):
            k = indices[i * depth + d]
            if k < 0:
                k += dims[d]
            at = at * dims[d] + min(max(k, 0), dims[d] - 1)
        at = ((i // count) * block + at) * run
        for b in range(run):
            y[i * run + b] = x[at + b]


@kernel
def reverse(n: i64, batch: i64, n_step: i64, batch_step: i64, run: i64, lens: i64p, x: u8p, y: u8p) -> None:
    """y = x with the first lens [batch] of `n` runs in reverse order, for each of `batch`; runs and steps are bytes."""
    for b in range(batch):
        length = min(max(lens[b], 0), n)
        for i in range(n):
            k = length - 1 - i if i < length else i
            at, to = k * n_step + b * batch_step, i * n_step + b * batch_step
            for j in range(run):
                y[to + j] = x[at + j]
