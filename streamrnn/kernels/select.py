"""Parts of arrays by rule instead of by index: one-hot rows, triangles. Elements are runs of bytes of any element type."""

from __future__ import annotations

from streamrnn.kernels._jit import i64, i64p, kernel, u8p


@kernel
def one_hot(outer: i64, depth: i64, inner: i64, run: i64, indices: i64p, values: u8p, y: u8p) -> None:
    """y [outer][depth][inner] is values[1] where the place on the middle axis is the index [outer][inner], else values[0].

    Negative indices count from the end; one outside of -depth .. depth - 1 marks no place. Elements of `run` bytes.
    """
    for o in range(outer):
        for d in range(depth):
            for i in range(inner):
                k = indices[o * inner + i]
                if k < 0:
                    k += depth
                at = run if k == d else 0
                to = ((o * depth + d) * inner + i) * run
                for b in range(run):
                    y[to + b] = values[at + b]


@kernel
def triangle(count: i64, rows: i64, columns: i64, run: i64, upper: i64, diagonal: i64p, x: u8p, y: u8p) -> None:
    """y = x [count][rows][columns] with zeros below (upper = 1) or above the diagonal, which is diagonal[0] to the right of the
    main one. Elements of `run` bytes."""
    k = min(max(diagonal[0], -rows), columns)
    for p in range(count):
        for r in range(rows):
            for c in range(columns):
                at = ((p * rows + r) * columns + c) * run
                kept = c - r >= k if upper != 0 else c - r <= k
                for b in range(run):
                    y[at + b] = x[at + b] if kept else 0
