"""The last frames of a stream: a ring of them, and the taps that a convolution over time wants."""

from __future__ import annotations

from streamrnn.kernels._jit import f32p, i64, i64p, kernel


@kernel
def window(
    outer: i64, frames: i64, inner: i64, taps: i64, dilation: i64, stride: i64, history: i64, skip: i64,
    fill: f32p, x: f32p, ring: f32p, head: i64p, y: f32p,
) -> None:  # fmt: skip
    """y [outer][frames // stride][taps][inner]: tap i of output frame q is frame q * stride + i * dilation of the ring's
    `history` frames followed by x [outer][frames][inner]. Then the ring takes the newest frames.

    ring: [history][outer][inner], the oldest frame in slot head[0]; where that is -1, the first frame that is no filler takes
    all slots. The first `skip` frames of x are filler: fill[0] instead.
    """
    made = frames // stride
    if head[0] < 0 and skip < frames:
        for slot in range(history):
            for o in range(outer):
                to = (slot * outer + o) * inner
                at = (o * frames + skip) * inner
                for j in range(inner):
                    ring[to + j] = x[at + j]
        head[0] = 0
    oldest = max(head[0], 0)
    for q in range(made):
        for i in range(taps):
            position = q * stride + i * dilation
            slot = oldest + position
            if slot >= history:
                slot -= history
            fresh = position - history
            for o in range(outer):
                to = ((o * made + q) * taps + i) * inner
                if fresh < 0:
                    at = (slot * outer + o) * inner
                    for j in range(inner):
                        y[to + j] = ring[at + j]
                elif fresh < skip:
                    for j in range(inner):
                        y[to + j] = fill[0]
                else:
                    at = (o * frames + fresh) * inner
                    for j in range(inner):
                        y[to + j] = x[at + j]
    if history > 0 and head[0] >= 0:
        for f in range(max(0, frames - history), frames):
            slot = (oldest + f) % history
            for o in range(outer):
                to = (slot * outer + o) * inner
                at = (o * frames + f) * inner
                for j in range(inner):
                    if f < skip:
                        ring[to + j] = fill[0]
                    else:
                        ring[to + j] = x[at + j]
        head[0] = (oldest + frames) % history
