"""Recurrent cells over all frames of a step: the gates of 16 hidden units live in registers, the state is updated in place.

Common to all cells:

    frames   frames in this step; the first `skip` are filler: they give y = 0 and leave the state alone
    lens     [batch]  frames of each batch entry (i32), read where use_lens is 1; later frames give y = 0, and an entry
             without frames gets a zero state
    reverse  1: the last frame first
    x        [frames][batch][n_in]
    y        [frames] rows of y_row elements; this direction's h goes to [y_at + b * H + j]
    h, c     [batch][H], updated in place
    w        [tile][bias rows, then the rows of n_in inputs, then those of H hidden units][16], one row per gate, so that
             one sequential pass reads it; packed by `ops._recurrent`

Every unit needs the old h of all units, so the old h of one batch entry is kept in scratch while h is overwritten.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from streamrnn.kernels._jit import device, f32, f32p, i32p, i64, kernel
from streamrnn.kernels.activations import gate_sigmoid, gate_tanh
from streamrnn.kernels.simd import LANES, Vec, above, below, fma, splat, vload, vload_part, vstore, vstore_part

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
def load_lanes(p: f32p, i: int, n: int) -> Vec:
    """16 lanes from p[i], or n where fewer are left; the rest is zero."""
    if n >= LANES:
        return vload(p, i)
    return vload_part(p, i, n)


@device
def store_lanes(p: f32p, i: int, n: int, v: Vec) -> None:
    """16 lanes to p[i], or n where fewer are left."""
    if n >= LANES:
        vstore(p, i, v)
    else:
        vstore_part(p, i, n, v)


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
    frames: i64, skip: i64, batch: i64, n_in: i64, n_hidden: i64, reverse: i64, y_row: i64, y_at: i64,
    use_lens: i64, use_peephole: i64, couple: i64, clip: f32,
    w: f32p, peephole: f32p, lens: i32p, x: f32p, h: f32p, c: f32p, y: f32p, xh: f32p,
) -> None:  # fmt: skip
    """LSTM (ONNX LSTM-22). Gates i, o, f, c; act_f on i, o, f; act_g on c; act_h on the new cell.

    i = f(Wi x + Ri h + Pi * c + bi)      f = f(Wf x + Rf h + Pf * c + bf), or 1 - i where couple is 1 (input_forget)
    c' = f * c + i * g(Wc x + Rc h + bc)  o = f(Wo x + Ro h + Po * c' + bo)      h' = o * h(c')

    w:        [tile][1 + n_in + H rows of i, o, f, c each][16], the biases first
    peephole: [tile][i, o, f][16], read where use_peephole is 1.
    xh:       [n_in + H] scratch: x and the old h of one batch entry
    """
    n_tiles = (n_hidden + LANES - 1) // LANES
    for t in range(frames):
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
            xo = (frame * batch + b) * n_in
            ho = b * n_hidden
            for k in range(n_in):
                xh[k] = x[xo + k]
            for k in range(n_hidden):
                xh[n_in + k] = h[ho + k]
            o = 0
            for tile in range(n_tiles):
                first = tile * LANES
                gate_i = vload(w, o)
                gate_o = vload(w, o + LANES)
                gate_f = vload(w, o + 2 * LANES)
                gate_c = vload(w, o + 3 * LANES)
                o += 4 * LANES
                for k in range(n_in + n_hidden):
                    v = splat(xh[k])
                    gate_i = fma(vload(w, o), v, gate_i)
                    gate_o = fma(vload(w, o + LANES), v, gate_o)
                    gate_f = fma(vload(w, o + 2 * LANES), v, gate_f)
                    gate_c = fma(vload(w, o + 3 * LANES), v, gate_c)
                    o += 4 * LANES
                left = n_hidden - first
                cell = load_lanes(c, ho + first, left)
                if use_peephole != 0:
                    gate_i = fma(vload(peephole, 3 * first), cell, gate_i)
                    gate_f = fma(vload(peephole, 3 * first + 2 * LANES), cell, gate_f)
                gate_i = act_f(clipped(gate_i, clip), alpha_f, beta_f)
                gate_f = act_f(clipped(gate_f, clip), alpha_f, beta_f)
                if couple != 0:
                    gate_f = ONE - gate_i
                cell = fma(gate_f, cell, gate_i * act_g(clipped(gate_c, clip), alpha_g, beta_g))
                if use_peephole != 0:
                    gate_o = fma(vload(peephole, 3 * first + LANES), cell, gate_o)
                new = act_f(clipped(gate_o, clip), alpha_f, beta_f) * act_h(cell, alpha_h, beta_h)
                store_lanes(c, ho + first, left, cell)
                store_lanes(h, ho + first, left, new)
                store_lanes(y, row + first, left, new)


@kernel
def gru(
    frames: i64, skip: i64, batch: i64, n_in: i64, n_hidden: i64, reverse: i64, y_row: i64, y_at: i64,
    use_lens: i64, clip: f32, w: f32p, lens: i32p, x: f32p, h: f32p, y: f32p, old: f32p,
) -> None:  # fmt: skip
    """GRU (ONNX GRU-22) with linear_before_reset = 1: the reset gate multiplies the recurrent product.

    z = f(Wz x + Rz h + bz)                  r = f(Wr x + Rr h + br)
    n = g(Wn x + bn + r * (Rn h + cn))       h' = (1 - z) * n + z * h

    w:   [tile][bz, br, bn, cn, then n_in + H rows of z, r, n each][16]
    old: [H] scratch: the old h of one batch entry
    """
    n_tiles = (n_hidden + LANES - 1) // LANES
    for t in range(frames):
        for b in range(batch):
            length = valid_frames(frames, use_lens, lens, b)
            frame = frame_at(t, length, reverse)
            row = frame * y_row + y_at + b * n_hidden
            if frame < skip or frame >= length:
                zero(y, row, n_hidden)
                if length <= 0:
                    zero(h, b * n_hidden, n_hidden)
                continue
            xo = (frame * batch + b) * n_in
            ho = b * n_hidden
            for k in range(n_hidden):
                old[k] = h[ho + k]
            o = 0
            for tile in range(n_tiles):
                first = tile * LANES
                gate_z = vload(w, o)
                gate_r = vload(w, o + LANES)
                from_x = vload(w, o + 2 * LANES)
                from_h = vload(w, o + 3 * LANES)
                o += 4 * LANES
                for k in range(n_in):
                    v = splat(x[xo + k])
                    gate_z = fma(vload(w, o), v, gate_z)
                    gate_r = fma(vload(w, o + LANES), v, gate_r)
                    from_x = fma(vload(w, o + 2 * LANES), v, from_x)
                    o += 3 * LANES
                for k in range(n_hidden):
                    v = splat(old[k])
                    gate_z = fma(vload(w, o), v, gate_z)
                    gate_r = fma(vload(w, o + LANES), v, gate_r)
                    from_h = fma(vload(w, o + 2 * LANES), v, from_h)
                    o += 3 * LANES
                left = n_hidden - first
                gate_z = act_f(clipped(gate_z, clip), alpha_f, beta_f)
                gate_r = act_f(clipped(gate_r, clip), alpha_f, beta_f)
                gate_n = act_g(clipped(fma(gate_r, from_h, from_x), clip), alpha_g, beta_g)
                new = fma(gate_z, load_lanes(old, first, left) - gate_n, gate_n)
                store_lanes(h, ho + first, left, new)
                store_lanes(y, row + first, left, new)


@kernel
def gru_reset_first(
    frames: i64, skip: i64, batch: i64, n_in: i64, n_hidden: i64, reverse: i64, y_row: i64, y_at: i64,
    use_lens: i64, clip: f32, w: f32p, wn: f32p, lens: i32p, x: f32p, h: f32p, y: f32p, scratch: f32p,
) -> None:  # fmt: skip
    """GRU (ONNX GRU-22) with linear_before_reset = 0: the reset gate multiplies h before the recurrent product.

    z = f(Wz x + Rz h + bz)                  r = f(Wr x + Rr h + br)
    n = g(Wn x + Rn (r * h) + bn)            h' = (1 - z) * n + z * h

    Two passes, because Rn needs r of all units.

    w:       [tile][bz, br, bn, then n_in rows of z, r, n each, then H rows of z, r each][16]
    wn:      [tile][H][16], Rn
    scratch: [3][tiles * 16] z, Wn x + bn, and r * h of one batch entry
    """
    n_tiles = (n_hidden + LANES - 1) // LANES
    at_n = n_tiles * LANES
    at_rh = 2 * at_n
    for t in range(frames):
        for b in range(batch):
            length = valid_frames(frames, use_lens, lens, b)
            frame = frame_at(t, length, reverse)
            row = frame * y_row + y_at + b * n_hidden
            if frame < skip or frame >= length:
                zero(y, row, n_hidden)
                if length <= 0:
                    zero(h, b * n_hidden, n_hidden)
                continue
            xo = (frame * batch + b) * n_in
            ho = b * n_hidden
            o = 0
            for tile in range(n_tiles):
                first = tile * LANES
                gate_z = vload(w, o)
                gate_r = vload(w, o + LANES)
                gate_n = vload(w, o + 2 * LANES)
                o += 3 * LANES
                for k in range(n_in):
                    v = splat(x[xo + k])
                    gate_z = fma(vload(w, o), v, gate_z)
                    gate_r = fma(vload(w, o + LANES), v, gate_r)
                    gate_n = fma(vload(w, o + 2 * LANES), v, gate_n)
                    o += 3 * LANES
                for k in range(n_hidden):
                    v = splat(h[ho + k])
                    gate_z = fma(vload(w, o), v, gate_z)
                    gate_r = fma(vload(w, o + LANES), v, gate_r)
                    o += 2 * LANES
                gate_r = act_f(clipped(gate_r, clip), alpha_f, beta_f)
                vstore(scratch, first, act_f(clipped(gate_z, clip), alpha_f, beta_f))
                vstore(scratch, at_n + first, gate_n)
                vstore(scratch, at_rh + first, gate_r * load_lanes(h, ho + first, n_hidden - first))
            o = 0
            for tile in range(n_tiles):
                first = tile * LANES
                gate_n = vload(scratch, at_n + first)
                for k in range(n_hidden):
                    gate_n = fma(vload(wn, o), splat(scratch[at_rh + k]), gate_n)
                    o += LANES
                left = n_hidden - first
                gate_n = act_g(clipped(gate_n, clip), alpha_g, beta_g)
                new = fma(vload(scratch, first), load_lanes(h, ho + first, left) - gate_n, gate_n)
                store_lanes(h, ho + first, left, new)
                store_lanes(y, row + first, left, new)


@kernel
def rnn(
    frames: i64, skip: i64, batch: i64, n_in: i64, n_hidden: i64, reverse: i64, y_row: i64, y_at: i64,
    use_lens: i64, clip: f32, w: f32p, lens: i32p, x: f32p, h: f32p, y: f32p, xh: f32p,
) -> None:  # fmt: skip
    """Elman network (ONNX RNN-22): h' = f(W x + R h + b).

    w:  [tile][1 + n_in + H][16], the bias first
    xh: [n_in + H] scratch: x and the old h of one batch entry

    Each sum is the bias plus four partial sums over k modulo 4, because one chain would wait for its own additions.
    """
    n_tiles = (n_hidden + LANES - 1) // LANES
    n = n_in + n_hidden
    whole = n - n % 4
    for t in range(frames):
        for b in range(batch):
            length = valid_frames(frames, use_lens, lens, b)
            frame = frame_at(t, length, reverse)
            row = frame * y_row + y_at + b * n_hidden
            if frame < skip or frame >= length:
                zero(y, row, n_hidden)
                if length <= 0:
                    zero(h, b * n_hidden, n_hidden)
                continue
            xo = (frame * batch + b) * n_in
            ho = b * n_hidden
            for k in range(n_in):
                xh[k] = x[xo + k]
            for k in range(n_hidden):
                xh[n_in + k] = h[ho + k]
            o = 0
            for tile in range(n_tiles):
                first = tile * LANES
                s0 = vload(w, o)
                s1 = splat(ZERO)
                s2 = splat(ZERO)
                s3 = splat(ZERO)
                o += LANES
                for k in range(0, whole, 4):
                    s0 = fma(vload(w, o), splat(xh[k]), s0)
                    s1 = fma(vload(w, o + LANES), splat(xh[k + 1]), s1)
                    s2 = fma(vload(w, o + 2 * LANES), splat(xh[k + 2]), s2)
                    s3 = fma(vload(w, o + 3 * LANES), splat(xh[k + 3]), s3)
                    o += 4 * LANES
                for k in range(whole, n):
                    s0 = fma(vload(w, o), splat(xh[k]), s0)
                    o += LANES
                left = n_hidden - first
                new = act_f(clipped((s0 + s1) + (s2 + s3), clip), alpha_f, beta_f)
                store_lanes(h, ho + first, left, new)
                store_lanes(y, row + first, left, new)
