"""Recurrent cells over all frames of a step: the gates of 16 hidden units live in registers, the state is updated in place.

Common to all cells:

    frames   frames in this step; the first `skip` are filler: they give y = 0 and leave the state alone
    lens     [batch]  frames of each batch entry (i32), read where use_lens is 1; later frames give y = 0
    reverse  1: the last frame first
    x        [frames][batch][n_in]
    y        [frames] rows of y_row elements; this direction's h goes to [y_at + b * H + j]
    h, c     [batch][H], updated in place
    hn       [tiles * 16] scratch: the new h of one batch entry, because every unit needs the old one
    w        [tile][bias, then n_in rows, then H rows][gate][16]   packed by `ops._packing`
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device, f32, f32p, i32p, i64, kernel
from streamrnn.kernels.activations import gate_sigmoid, gate_tanh
from streamrnn.kernels.simd import LANES, Vec, above, below, fma, splat, vload, vload_part, vstore, vstore_part

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


@kernel
def lstm(
    frames: i64, skip: i64, batch: i64, n_in: i64, n_hidden: i64, reverse: i64, y_row: i64, y_at: i64,
    use_lens: i64, use_peephole: i64, couple: i64, clip: f32,
    w: f32p, peephole: f32p, lens: i32p, x: f32p, h: f32p, c: f32p, y: f32p, hn: f32p,
) -> None:  # fmt: skip
    """LSTM (ONNX LSTM-22). Gates i, o, f, c; act_f on i, o, f; act_g on c; act_h on the new cell.

    i = f(Wi x + Ri h + Pi * c + bi)      f = f(Wf x + Rf h + Pf * c + bf), or 1 - i where couple is 1 (input_forget)
    c' = f * c + i * g(Wc x + Rc h + bc)  o = f(Wo x + Ro h + Po * c' + bo)      h' = o * h(c')

    peephole: [tile][i, o, f][16], read where use_peephole is 1.
    """
    n_tiles = (n_hidden + LANES - 1) // LANES
    for t in range(frames):
        for b in range(batch):
            length = frames
            if use_lens != 0:
                length = np.int64(lens[b])
            frame = t
            if reverse != 0 and t < length:
                frame = length - 1 - t
            row = frame * y_row + y_at + b * n_hidden
            if t < skip or t >= length:
                for j in range(n_hidden):
                    y[row + j] = ZERO
                continue
            xo = (frame * batch + b) * n_in
            ho = b * n_hidden
            o = 0
            for tile in range(n_tiles):
                first = tile * LANES
                gate_i = vload(w, o)
                gate_o = vload(w, o + LANES)
                gate_f = vload(w, o + 2 * LANES)
                gate_c = vload(w, o + 3 * LANES)
                o += 4 * LANES
                for k in range(n_in):
                    v = splat(x[xo + k])
                    gate_i = fma(vload(w, o), v, gate_i)
                    gate_o = fma(vload(w, o + LANES), v, gate_o)
                    gate_f = fma(vload(w, o + 2 * LANES), v, gate_f)
                    gate_c = fma(vload(w, o + 3 * LANES), v, gate_c)
                    o += 4 * LANES
                for k in range(n_hidden):
                    v = splat(h[ho + k])
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
                store_lanes(c, ho + first, left, cell)
                vstore(hn, first, act_f(clipped(gate_o, clip), alpha_f, beta_f) * act_h(cell, alpha_h, beta_h))
            for j in range(n_hidden):
                h[ho + j] = hn[j]
                y[row + j] = hn[j]
