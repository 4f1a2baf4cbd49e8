"""Recurrent cells across streams; parameters and equations are those of `cells`, memory is that of `across_dense`.

There is no filler (`skip` is 0) and every batch entry has all frames (`use_lens` is 0): what differs from stream to stream
has no lanes.
"""

from __future__ import annotations

from streamrnn.kernels._jit import device, f32, f32p, i32p, i64, kernel
from streamrnn.kernels.across_dense import dense_rows, from_lanes, from_weights, to_lanes
from streamrnn.kernels.cells import (
    act_f,
    act_g,
    act_h,
    alpha_f,
    alpha_g,
    alpha_h,
    beta_f,
    beta_g,
    beta_h,
    clipped,
    frame_at,
    gru_units,
    lstm_units,
)
from streamrnn.kernels.dense import Eight
from streamrnn.kernels.simd import LANES, Vec, fma, splat, vload

#: products from which on turning the sums around takes less time than idle lanes
ENOUGH = 64
#: how a kernel reads `start`: interleaved, or `from_weights`; exchanged by `Kernel.bind`
read_start = from_lanes


@device
def products(
    w: f32p, i: i64, v: Vec, s0: Vec, s1: Vec, s2: Vec, s3: Vec, s4: Vec, s5: Vec, s6: Vec, s7: Vec
) -> Eight:  # fmt: skip
    """One product of v with each of the eight numbers from w[i] on."""
    return (
        fma(splat(w[i]), v, s0), fma(splat(w[i + 1]), v, s1), fma(splat(w[i + 2]), v, s2), fma(splat(w[i + 3]), v, s3),
        fma(splat(w[i + 4]), v, s4), fma(splat(w[i + 5]), v, s5), fma(splat(w[i + 6]), v, s6), fma(splat(w[i + 7]), v, s7),
    )  # fmt: skip


@device
def add_products(
    n: i64, w: f32p, o: i64, step: i64, x: f32p, at: i64,
    s0: Vec, s1: Vec, s2: Vec, s3: Vec, s4: Vec, s5: Vec, s6: Vec, s7: Vec,
) -> Eight:  # fmt: skip
    """What x [n] from element `at` on adds to one gate of eight units; the weights of input k begin at w[o + k * step]."""
    for k in range(n):
        v = from_lanes(x, at + k)
        s0, s1, s2, s3, s4, s5, s6, s7 = products(w, o + k * step, v, s0, s1, s2, s3, s4, s5, s6, s7)
    return s0, s1, s2, s3, s4, s5, s6, s7


@device
def load_eight(z: f32p, i: i64) -> Eight:
    """Elements i .. i + 7 of interleaved memory."""
    s0, s1, s2, s3 = from_lanes(z, i), from_lanes(z, i + 1), from_lanes(z, i + 2), from_lanes(z, i + 3)
    return s0, s1, s2, s3, from_lanes(z, i + 4), from_lanes(z, i + 5), from_lanes(z, i + 6), from_lanes(z, i + 7)


@device
def store_eight(z: f32p, i: i64, s0: Vec, s1: Vec, s2: Vec, s3: Vec, s4: Vec, s5: Vec, s6: Vec, s7: Vec) -> None:
    """The reverse of `load_eight`."""
    to_lanes(z, i, s0)
    to_lanes(z, i + 1, s1)
    to_lanes(z, i + 2, s2)
    to_lanes(z, i + 3, s3)
    to_lanes(z, i + 4, s4)
    to_lanes(z, i + 5, s5)
    to_lanes(z, i + 6, s6)
    to_lanes(z, i + 7, s7)


@device
def add_gate(
    units: i64, z: f32p, zo: i64, step: i64, w: f32p,
    n: i64, o: i64, x: f32p, at: i64, m: i64, r: i64, h: f32p, ho: i64,
) -> None:  # fmt: skip
    """What x [n], with weights from w[o] on, and then h [m], with weights from w[r] on, add to one gate of 16 hidden units, of
    which the first `units` are wanted: eight at a time. The sums lie in z from element zo on."""
    for u in range(0, units, 8):
        s0, s1, s2, s3, s4, s5, s6, s7 = load_eight(z, zo + u)
        s0, s1, s2, s3, s4, s5, s6, s7 = add_products(n, w, o + u, step, x, at, s0, s1, s2, s3, s4, s5, s6, s7)
        s0, s1, s2, s3, s4, s5, s6, s7 = add_products(m, w, r + u, step, h, ho, s0, s1, s2, s3, s4, s5, s6, s7)
        store_eight(z, zo + u, s0, s1, s2, s3, s4, s5, s6, s7)


@device
def turn(z: f32p, at: i64) -> None:
    """Exchange rows and columns of the 16 x 16 numbers from z[at] on."""
    for i in range(LANES):
        for j in range(i):
            here, there = at + i * LANES + j, at + j * LANES + i
            z[here], z[there] = z[there], z[here]


@device
def add_rows(
    n: i64, w: f32p, o: i64, step: i64, x: f32p, at: i64,
    s0: Vec, s1: Vec, s2: Vec, s3: Vec, s4: Vec, s5: Vec, s6: Vec, s7: Vec,
) -> Eight:  # fmt: skip
    """`add_products` where a vector holds the 16 units of one of eight streams."""
    for k in range(n):
        v = vload(w, o + k * step)
        s0, s1, s2, s3, s4, s5, s6, s7 = products(x, (at + k) * LANES, v, s0, s1, s2, s3, s4, s5, s6, s7)
    return s0, s1, s2, s3, s4, s5, s6, s7


@device
def add_gate_for_eight(
    units: i64, z: f32p, zo: i64, step: i64, w: f32p,
    n: i64, o: i64, x: f32p, at: i64, m: i64, r: i64, h: f32p, ho: i64,
) -> None:  # fmt: skip
    """`add_gate` for eight streams, in lanes 0 .. 7: a vector holds the units of one stream, so that no lane is idle. The other
    lanes of z are not computed."""
    if n + m < ENOUGH:
        add_gate(units, z, zo, step, w, n, o, x, at, m, r, h, ho)
        return
    turn(z, zo * LANES)
    s0, s1, s2, s3, s4, s5, s6, s7 = load_eight(z, zo)
    s0, s1, s2, s3, s4, s5, s6, s7 = add_rows(n, w, o, step, x, at, s0, s1, s2, s3, s4, s5, s6, s7)
    s0, s1, s2, s3, s4, s5, s6, s7 = add_rows(m, w, r, step, h, ho, s0, s1, s2, s3, s4, s5, s6, s7)
    store_eight(z, zo, s0, s1, s2, s3, s4, s5, s6, s7)
    turn(z, zo * LANES)


@device
def copy_lanes(target: f32p, to: i64, source: f32p, at: i64, n: i64) -> None:
    """n elements from `at` on to `to` on."""
    for i in range(n):
        to_lanes(target, to + i, from_lanes(source, at + i))


@device
def spread_lanes(target: f32p, to: i64, w: f32p, o: i64, n: i64) -> None:
    """n weights from w[o] on to `to` on, each in every lane."""
    for i in range(n):
        to_lanes(target, to + i, from_weights(w, o + i))


@kernel
def lstm(
    frames: i64, skip: i64, batch: i64, n_in: i64, n_hidden: i64, directions: i64, reverse: i64, s_row: i64, y_row: i64,
    use_lens: i64, use_peephole: i64, couple: i64, clip: f32,
    w: f32p, peephole: f32p, lens: i32p, start: f32p, x: f32p, h: f32p, c: f32p, y: f32p, old: f32p, z: f32p,
) -> None:  # fmt: skip
    """`cells.lstm` across streams, without peepholes."""
    n_tiles, size = (n_hidden + LANES - 1) // LANES, 4 * LANES
    own = n_in if s_row == 0 else 0
    for t in range(frames):
        for d in range(directions):
            ho = d * batch * n_hidden
            copy_lanes(old, 0, h, ho, batch * n_hidden)
            frame = frame_at(t, frames, reverse + d)
            for tile in range(n_tiles):
                first, units, o = tile * LANES, min(LANES, n_hidden - tile * LANES), (d * n_tiles + tile) * size
                r = o * (n_in + n_hidden)
                for b in range(batch):
                    row = frame * batch + b
                    for i in range(size):
                        to_lanes(z, i, read_start(start, row * s_row + o + i))
                    for gate in range(4):
                        i, there = gate * LANES, r + n_in * size + gate * LANES
                        add_gate(units, z, i, size, w, own, r + i, x, row * n_in, n_hidden, there, old, b * n_hidden)
                    at = ho + b * n_hidden + first
                    for u in range(units):
                        cell, new = lstm_units(
                            act_f, alpha_f, beta_f, act_g, alpha_g, beta_g, act_h, alpha_h, beta_h,
                            from_lanes(z, u), from_lanes(z, LANES + u), from_lanes(z, 2 * LANES + u),
                            from_lanes(z, 3 * LANES + u), from_lanes(c, at + u), 0, peephole, 0, couple, clip,
                        )  # fmt: skip
                        to_lanes(c, at + u, cell)
                        to_lanes(h, at + u, new)
                        to_lanes(y, frame * y_row + at + u, new)


@kernel
def gru(
    frames: i64, skip: i64, batch: i64, n_in: i64, n_hidden: i64, directions: i64, reverse: i64, s_row: i64, y_row: i64,
    use_lens: i64, clip: f32,
    w: f32p, inner: f32p, lens: i32p, start: f32p, x: f32p, h: f32p, y: f32p, old: f32p, z: f32p,
) -> None:  # fmt: skip
    """`cells.gru` across streams. The sums are [Wn x + bn, z, r, Rn h + cn]."""
    n_tiles, size = (n_hidden + LANES - 1) // LANES, 3 * LANES
    own = n_in if s_row == 0 else 0
    for t in range(frames):
        for d in range(directions):
            ho = d * batch * n_hidden
            copy_lanes(old, 0, h, ho, batch * n_hidden)
            frame = frame_at(t, frames, reverse + d)
            for tile in range(n_tiles):
                first, units, o = tile * LANES, min(LANES, n_hidden - tile * LANES), (d * n_tiles + tile) * size
                r = o * (n_in + n_hidden)
                for b in range(batch):
                    row = frame * batch + b
                    for i in range(size):
                        to_lanes(z, i, read_start(start, row * s_row + o + i))
                    spread_lanes(z, size, inner, (d * n_tiles + tile) * LANES, LANES)
                    for gate in range(4):
                        i, there = gate * LANES, r + n_in * size + (gate - 1) * LANES
                        n, m = own if gate < 3 else 0, n_hidden if gate > 0 else 0
                        add_gate(units, z, i, size, w, n, r + i, x, row * n_in, m, there, old, b * n_hidden)
                    at = ho + b * n_hidden + first
                    for u in range(units):
                        new = gru_units(
                            act_f, alpha_f, beta_f, act_g, alpha_g, beta_g,
                            from_lanes(z, u), from_lanes(z, LANES + u), from_lanes(z, 2 * LANES + u),
                            from_lanes(z, 3 * LANES + u), from_lanes(h, at + u), clip,
                        )  # fmt: skip
                        to_lanes(h, at + u, new)
                        to_lanes(y, frame * y_row + at + u, new)


@kernel
def gru_reset_first(
    frames: i64, skip: i64, batch: i64, n_hidden: i64, directions: i64, reverse: i64, s_row: i64, y_row: i64,
    use_lens: i64, clip: f32,
    r: f32p, rn: f32p, lens: i32p, start: f32p, h: f32p, y: f32p, z: f32p, zn: f32p, rh: f32p,
) -> None:  # fmt: skip
    """`cells.gru_reset_first` across streams."""
    n_tiles = (n_hidden + LANES - 1) // LANES
    own = n_tiles * LANES
    for t in range(frames):
        for d in range(directions):
            ho = d * batch * n_hidden
            frame = frame_at(t, frames, reverse + d)
            dense_rows(batch, n_hidden, 2 * own, r, 2 * d * own * (1 + n_hidden), h, ho, z, 0, 2 * own)
            for b in range(batch):
                row = (frame * batch + b) * s_row + 3 * d * own
                for unit in range(n_hidden):
                    i, k = unit // LANES * LANES, unit % LANES
                    to = 2 * (b * own + i) + k
                    begun = row + 3 * i + k
                    gate_z = act_f(clipped(from_lanes(start, begun) + from_lanes(z, to), clip), alpha_f, beta_f)
                    gate_r = from_lanes(start, begun + LANES) + from_lanes(z, to + LANES)
                    gate_r = act_f(clipped(gate_r, clip), alpha_f, beta_f)
                    to_lanes(z, to, gate_z)
                    at = b * n_hidden + unit
                    to_lanes(rh, at, gate_r * from_lanes(h, ho + at))
            dense_rows(batch, n_hidden, own, rn, d * own * (1 + n_hidden), rh, 0, zn, 0, own)
            for b in range(batch):
                row = (frame * batch + b) * s_row + 3 * d * own
                for unit in range(n_hidden):
                    i, k = unit // LANES * LANES, unit % LANES
                    at = ho + b * n_hidden + unit
                    gate_n = from_lanes(start, row + 3 * i + 2 * LANES + k) + from_lanes(zn, b * own + unit)
                    gate_n = act_g(clipped(gate_n, clip), alpha_g, beta_g)
                    new = fma(from_lanes(z, 2 * (b * own + i) + k), from_lanes(h, at) - gate_n, gate_n)
                    to_lanes(h, at, new)
                    to_lanes(y, frame * y_row + at, new)


@kernel
def rnn(
    frames: i64, skip: i64, batch: i64, n_hidden: i64, directions: i64, reverse: i64, s_row: i64, y_row: i64,
    use_lens: i64, clip: f32, r: f32p, lens: i32p, start: f32p, h: f32p, y: f32p, z: f32p,
) -> None:  # fmt: skip
    """`cells.rnn` across streams."""
    own = (n_hidden + LANES - 1) // LANES * LANES
    for t in range(frames):
        for d in range(directions):
            ho = d * batch * n_hidden
            frame = frame_at(t, frames, reverse + d)
            dense_rows(batch, n_hidden, own, r, d * own * (1 + n_hidden), h, ho, z, 0, own)
            for b in range(batch):
                row = (frame * batch + b) * s_row + d * own
                for unit in range(n_hidden):
                    at = ho + b * n_hidden + unit
                    total = from_lanes(start, row + unit) + from_lanes(z, b * own + unit)
                    new = act_f(clipped(total, clip), alpha_f, beta_f)
                    to_lanes(h, at, new)
                    to_lanes(y, frame * y_row + at, new)
