"""The last frames of 16 streams: parameters are those of `window`, memory is that of `across_dense`.

Each stream has its own place in its ring, because streams begin at different times. There is no filler (`skip` is 0).
"""

from __future__ import annotations

from streamrnn.kernels._jit import device, f32p, i32p, i64, kernel
from streamrnn.kernels.across_dense import from_lanes, to_lanes
from streamrnn.kernels.simd import LANES


@device
def slot_of(head: i32p, lane: i64, position: i64, history: i64) -> i64:
    """Slot of the ring of a stream in which frame `position`, from 0 to history - 1, lies."""
    slot = head[lane] + position
    return slot - history if slot >= history else slot


@device
def begin(outer: i64, frames: i64, inner: i64, history: i64, x: f32p, ring: f32p, lane: i64) -> None:
    """The first frame of a stream takes all slots of its ring."""
    for slot in range(history):
        for o in range(outer):
            to, at = (slot * outer + o) * inner, o * frames * inner
            for j in range(inner):
                ring[(to + j) * LANES + lane] = x[(at + j) * LANES + lane]


@kernel
def window(
    outer: i64, frames: i64, inner: i64, taps: i64, dilation: i64, stride: i64, history: i64, skip: i64,
    fill: f32p, x: f32p, ring: f32p, head: i32p, y: f32p,
) -> None:  # fmt: skip
    """`window.window` across streams. head: words of int64, the low ones of all streams in front of the high ones."""
    made = frames // stride
    if history > 0:
        for lane in range(LANES):
            if head[lane] < 0:
                begin(outer, frames, inner, history, x, ring, lane)
                head[lane] = 0
                head[LANES + lane] = 0
    for q in range(made):
        for i in range(taps):
            position = q * stride + i * dilation
            fresh = position - history
            for o in range(outer):
                to = ((o * made + q) * taps + i) * inner
                if fresh >= 0:
                    at = (o * frames + fresh) * inner
                    for j in range(inner):
                        to_lanes(y, to + j, from_lanes(x, at + j))
                else:
                    for j in range(inner):
                        for lane in range(LANES):
                            at = (slot_of(head, lane, position, history) * outer + o) * inner + j
                            y[(to + j) * LANES + lane] = ring[at * LANES + lane]
    if history > 0:
        for f in range(max(0, frames - history), frames):
            for o in range(outer):
                at = (o * frames + f) * inner
                for j in range(inner):
                    for lane in range(LANES):
                        to = (slot_of(head, lane, f % history, history) * outer + o) * inner + j
                        ring[to * LANES + lane] = x[(at + j) * LANES + lane]
        for lane in range(LANES):
            head[lane] = slot_of(head, lane, frames % history, history)
