"""Recurrent cells over all frames of a step: gates from projected inputs, the state updated in place.

A cell is two calls: `dense` multiplies the inputs of all frames by W, bias added, before the recurrence; then the cell's own
kernel goes frame by frame, multiplies the old h of the whole batch by R and updates the state. The gates of a tile of 16
hidden units lie side by side, so one tile of them is in registers at a time.

Common to all cells:

    frames   frames in this step; the first `skip` are filler: they give y = 0 and leave the state alone
    lens     [batch]  frames of each batch entry (i32), read where use_lens is 1; later frames give y = 0, and an entry
             without frames gets a zero state
    reverse  1: the last frame first
    x        [frames][batch][tile][gate][16], the projected inputs
    y        [frames] rows of y_row elements; this direction's h goes to [y_at + b * H + j]
    h, c     [batch][H], updated in place
    r        recurrent weights for `dense`, [tile of all gates][bias row, then H rows][16], packed by `ops._recurrent`
    sums     [batch][tile][gate][16] scratch: R h
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from streamrnn.kernels._jit import device, f32, f32p, i32p, i64, kernel
from streamrnn.kernels.activations import gate_sigmoid, gate_tanh
from streamrnn.kernels.dense import dense
from streamrnn.kernels.simd import LANES, Vec, above, below, fma, load_lanes, splat, store_lanes, vload, vstore

#: a gate activation: a device function of a vector, alpha and beta
Activation: TypeAlias = Any

ONE = np.float32(1)
ZERO = np.float32(0)

#: activations of the cell with their alpha and beta, exchanged by `Kernel.bind`
act_f, alpha_f, beta_f = gate_sigmoid, ZERO, ZERO
act_g, alpha_g, beta_g = gate_tanh, ZERO, ZERO
act_h, alpha_h, beta_h = gate_tanh, ZERO, ZERO


@device
def clipped(v: Vec, clip: f32) -> Vec:
    """v limited to -clip .. clip; clip 0 means no limit."""
    if clip > ZERO:
        return above(below(v, splat(clip)), splat(-clip))
    return v


@device
def zero(p: f32p, i: i64, n: i64) -> None:
    """p[i : i + n] = 0."""
    for j in range(n):
        p[i + j] = ZERO


@device
def valid_frames(frames: i64, use_lens: i64, lens: i32p, b: i64) -> i64:
    """How many frames batch entry b has; `lens` comes from outside and may be anything."""
    if use_lens != 0:
        return min(frames, np.int64(lens[b]))
    return frames


@device
def frame_at(t: i64, length: i64, reverse: i64) -> i64:
    """The frame that is visited at turn t; turns behind `length` visit their own frame."""
    if reverse != 0 and t < length:
        return length - 1 - t
    return t


@device
def lstm_units(
    f: Activation, f0: f32, f1: f32, g: Activation, g0: f32, g1: f32, hh: Activation, h0: f32, h1: f32,
    gate_i: Vec, gate_o: Vec, gate_f: Vec, gate_c: Vec, cell: Vec,
    use_peephole: i64, peephole: f32p, at: i64, couple: i64, clip: f32,
) -> tuple[Vec, Vec]:  # fmt: skip
    """The new c and h of 16 hidden units from the sums of their gates and the old c; see `lstm`."""
    if use_peephole != 0:
        gate_i = fma(vload(peephole, at), cell, gate_i)
        gate_f = fma(vload(peephole, at + 2 * LANES), cell, gate_f)
    gate_i = f(clipped(gate_i, clip), f0, f1)
    gate_f = f(clipped(gate_f, clip), f0, f1)
    if couple != 0:
        gate_f = ONE - gate_i
    cell = fma(gate_f, cell, gate_i * g(clipped(gate_c, clip), g0, g1))
    if use_peephole != 0:
        gate_o = fma(vload(peephole, at + LANES), cell, gate_o)
    return cell, f(clipped(gate_o, clip), f0, f1) * hh(cell, h0, h1)


@kernel
def lstm(
    frames: i64, skip: i64, batch: i64, n_hidden: i64, reverse: i64, y_row: i64, y_at: i64,
    use_lens: i64, use_peephole: i64, couple: i64, clip: f32,
    r: f32p, peephole: f32p, lens: i32p, x: f32p, h: f32p, c: f32p, y: f32p, sums: f32p,
) -> None:  # fmt: skip
    """LSTM (ONNX LSTM-22). Gates i, o, f, c; act_f on i, o, f; act_g on c; act_h on the new cell. x = W x + b:

    i = f(xi + Ri h + Pi * c)            f = f(xf + Rf h + Pf * c), or 1 - i where couple is 1 (input_forget)
    c' = f * c + i * g(xc + Rc h)        o = f(xo + Ro h + Po * c')      h' = o * h(c')

    peephole: [tile][i, o, f][16], read where use_peephole is 1.
    """
    n_tiles = (n_hidden + LANES - 1) // LANES
    width = 4 * LANES * n_tiles
    for t in range(frames):
        dense(batch, n_hidden, width, r, h, sums)
        for b in range(batch):
            length = valid_frames(frames, use_lens, lens, b)
            frame = frame_at(t, length, reverse)
            row = frame * y_row + y_at + b * n_hidden
            if frame < skip or frame >= length:
                zero(y, row, n_hidden)
                if length <= 0:
                    zero(h, b * n_hidden, n_hidden)
                    zero(c, b * n_hidden, n_hidden)
                continue
            xo = (frame * batch + b) * width
            so = b * width
            for tile in range(n_tiles):
                first = tile * LANES
                o = 4 * first
                gate_i = vload(x, xo + o) + vload(sums, so + o)
                gate_o = vload(x, xo + o + LANES) + vload(sums, so + o + LANES)
                gate_f = vload(x, xo + o + 2 * LANES) + vload(sums, so + o + 2 * LANES)
                gate_c = vload(x, xo + o + 3 * LANES) + vload(sums, so + o + 3 * LANES)
                at = b * n_hidden + first
                left = n_hidden - first
                cell, new = lstm_units(
                    act_f, alpha_f, beta_f, act_g, alpha_g, beta_g, act_h, alpha_h, beta_h, gate_i, gate_o, gate_f, gate_c,
                    load_lanes(c, at, left), use_peephole, peephole, 3 * first, couple, clip,
                )  # fmt: skip
                store_lanes(c, at, left, cell)
                store_lanes(h, at, left, new)
                store_lanes(y, row + first, left, new)


@kernel
def gru(
    frames: i64, skip: i64, batch: i64, n_hidden: i64, reverse: i64, y_row: i64, y_at: i64,
    use_lens: i64, clip: f32, r: f32p, lens: i32p, x: f32p, h: f32p, y: f32p, sums: f32p,
) -> None:  # fmt: skip
    """GRU (ONNX GRU-22) with linear_before_reset = 1: the reset gate multiplies the recurrent product. x = W x + b:

    z = f(xz + Rz h)      r = f(xr + Rr h)      n = g(xn + r * (Rn h + cn))      h' = (1 - z) * n + z * h

    cn is a bias row of r.
    """
    n_tiles = (n_hidden + LANES - 1) // LANES
    width = 3 * LANES * n_tiles
    for t in range(frames):
        dense(batch, n_hidden, width, r, h, sums)
        for b in range(batch):
            length = valid_frames(frames, use_lens, lens, b)
            frame = frame_at(t, length, reverse)
            row = frame * y_row + y_at + b * n_hidden
            if frame < skip or frame >= length:
                zero(y, row, n_hidden)
                if length <= 0:
                    zero(h, b * n_hidden, n_hidden)
                continue
            xo = (frame * batch + b) * width
            so = b * width
            for tile in range(n_tiles):
                first = tile * LANES
                o = 3 * first
                gate_z = vload(x, xo + o) + vload(sums, so + o)
                gate_r = vload(x, xo + o + LANES) + vload(sums, so + o + LANES)
                gate_z = act_f(clipped(gate_z, clip), alpha_f, beta_f)
                gate_r = act_f(clipped(gate_r, clip), alpha_f, beta_f)
                gate_n = fma(gate_r, vload(sums, so + o + 2 * LANES), vload(x, xo + o + 2 * LANES))
                gate_n = act_g(clipped(gate_n, clip), alpha_g, beta_g)
                at = b * n_hidden + first
                left = n_hidden - first
                new = fma(gate_z, load_lanes(h, at, left) - gate_n, gate_n)
                store_lanes(h, at, left, new)
                store_lanes(y, row + first, left, new)


@kernel
def gru_reset_first(
    frames: i64, skip: i64, batch: i64, n_hidden: i64, reverse: i64, y_row: i64, y_at: i64,
    use_lens: i64, clip: f32, r: f32p, rn: f32p, lens: i32p, x: f32p, h: f32p, y: f32p, sums: f32p, new: f32p, kept: f32p,
) -> None:  # fmt: skip
    """GRU (ONNX GRU-22) with linear_before_reset = 0: the reset gate multiplies h before the recurrent product. x = W x + b:

    z = f(xz + Rz h)      r = f(xr + Rr h)      n = g(xn + Rn (r * h))      h' = (1 - z) * n + z * h

    Two passes, because Rn needs r of all units.

    r:    the weights of z and r; rn: those of n
    sums: [batch][tile][z, r][16] scratch; z takes the place of Rz h
    kept: [batch][H] scratch: r * h; new: [batch][tile][16] scratch: Rn (r * h)
    """
    n_tiles = (n_hidden + LANES - 1) // LANES
    width = LANES * n_tiles
    for t in range(frames):
        dense(batch, n_hidden, 2 * width, r, h, sums)
        for b in range(batch):
            frame = frame_at(t, valid_frames(frames, use_lens, lens, b), reverse)
            xo = (frame * batch + b) * 3 * width
            so = b * 2 * width
            for tile in range(n_tiles):
                first = tile * LANES
                gate_z = vload(x, xo + 3 * first) + vload(sums, so + 2 * first)
                gate_r = vload(x, xo + 3 * first + LANES) + vload(sums, so + 2 * first + LANES)
                gate_r = act_f(clipped(gate_r, clip), alpha_f, beta_f)
                vstore(sums, so + 2 * first, act_f(clipped(gate_z, clip), alpha_f, beta_f))
                at = b * n_hidden + first
                left = n_hidden - first
                store_lanes(kept, at, left, gate_r * load_lanes(h, at, left))
        dense(batch, n_hidden, width, rn, kept, new)
        for b in range(batch):
            length = valid_frames(frames, use_lens, lens, b)
            frame = frame_at(t, length, reverse)
            row = frame * y_row + y_at + b * n_hidden
            if frame < skip or frame >= length:
                zero(y, row, n_hidden)
                if length <= 0:
                    zero(h, b * n_hidden, n_hidden)
                continue
            xo = (frame * batch + b) * 3 * width
            for tile in range(n_tiles):
                first = tile * LANES
                gate_n = vload(x, xo + 3 * first + 2 * LANES) + vload(new, b * width + first)
                gate_n = act_g(clipped(gate_n, clip), alpha_g, beta_g)
                at = b * n_hidden + first
                left = n_hidden - first
                value = fma(vload(sums, 2 * (b * width + first)), load_lanes(h, at, left) - gate_n, gate_n)
                store_lanes(h, at, left, value)
                store_lanes(y, row + first, left, value)


@kernel
def rnn(
    frames: i64, skip: i64, batch: i64, n_hidden: i64, reverse: i64, y_row: i64, y_at: i64,
    use_lens: i64, clip: f32, r: f32p, lens: i32p, x: f32p, h: f32p, y: f32p, sums: f32p,
) -> None:  # fmt: skip
    """Elman network (ONNX RNN-22): h' = f(x + R h), x = W x + b."""
    n_tiles = (n_hidden + LANES - 1) // LANES
    width = LANES * n_tiles
    for t in range(frames):
        dense(batch, n_hidden, width, r, h, sums)
        for b in range(batch):
            length = valid_frames(frames, use_lens, lens, b)
            frame = frame_at(t, length, reverse)
            row = frame * y_row + y_at + b * n_hidden
            if frame < skip or frame >= length:
                zero(y, row, n_hidden)
                if length <= 0:
                    zero(h, b * n_hidden, n_hidden)
                continue
            for tile in range(n_tiles):
                first = tile * LANES
                total = vload(x, (frame * batch + b) * width + first) + vload(sums, b * width + first)
                new = act_f(clipped(total, clip), alpha_f, beta_f)
                left = n_hidden - first
                store_lanes(h, b * n_hidden + first, left, new)
                store_lanes(y, row + first, left, new)
