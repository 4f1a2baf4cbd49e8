"""Running sums and products. `Kernel.typed` gives them their element type."""

from __future__ import annotations

from streamrnn.kernels._jit import device, f32, f32p, i64, kernel


@device
def add(a: f32, b: f32) -> f32:
    return a + b


@device
def multiply(a: f32, b: f32) -> f32:
    return a * b


#: exchanged by `Kernel.bind`
combine = add


@kernel
def cumulate(outer: i64, n: i64, inner: i64, skip: i64, exclusive: i64, reverse: i64, x: f32p, carry: f32p, y: f32p) -> None:
    """y = x [outer][n][inner] combined along n, from carry [outer][inner] on, which then holds all of it. The first `skip`
    elements are filler: they give 0 and do not count."""
    for r in range(outer):
        for i in range(inner):
            for step in range(n):
                k = n - 1 - step if reverse != 0 else step
                at = (r * n + k) * inner + i
                if k < skip:
                    y[at] = 0
                else:
                    before = carry[r * inner + i]
                    carry[r * inner + i] = combine(before, x[at])
                    y[at] = before if exclusive != 0 else carry[r * inner + i]
