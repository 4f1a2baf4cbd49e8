"""LSTM with weights of 8 bits: input and hidden state are quantised as they come. See `cells` for what cells have in common."""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device, f32, f32p, i8p, i16p, i32p, i64, kernel
from streamrnn.kernels.activations import gate_sigmoid, gate_tanh
from streamrnn.kernels.cells import frame_at, lstm_units, valid_frames
from streamrnn.kernels.integer import dot
from streamrnn.kernels.math import ZERO, round_even
from streamrnn.kernels.quantize import grid_scale, grid_zero
from streamrnn.kernels.simd import LANES, load_lanes, store_lanes, vload

_STEPS = np.float32(255)

#: activations of the cell with their alpha and beta, exchanged by `Kernel.bind`
act_f, alpha_f, beta_f = gate_sigmoid, ZERO, ZERO
act_g, alpha_g, beta_g = gate_tanh, ZERO, ZERO
act_h, alpha_h, beta_h = gate_tanh, ZERO, ZERO


@device
def zero(p: f32p, i: i64, n: i64) -> None:
    """p[i : i + n] = 0."""
    for j in range(n):
        p[i + j] = ZERO


@device
def on_grid(x: f32, scale: f32, origin: f32) -> f32:
    """The uint8 for x, less the zero point."""
    value = round_even(x / scale) + origin
    value = value if value > ZERO else ZERO
    return (value if value < _STEPS else _STEPS) - origin


@kernel
def quantised_input(
    frames: i64, skip: i64, batch: i64, n_in: i64, use_lens: i64, lens: i32p, x: f32p, scale: f32p, seen: i16p
) -> None:
    """seen = x [frames][batch][n_in] on the grid of uint8 that covers it, less the zero point. Filler has no part in the grid,
    nor have frames behind the longest entry of the batch."""
    longest = np.int64(0)
    for b in range(batch):
        longest = max(longest, valid_frames(frames, use_lens, lens, b))
    low, high = ZERO, ZERO
    for j in range(skip * batch * n_in, longest * batch * n_in):
        low = x[j] if x[j] < low else low
        high = x[j] if x[j] > high else high
    scale[0] = grid_scale(low, high)
    origin = grid_zero(low, scale[0])
    for j in range(frames * batch * n_in):
        seen[j] = np.int16(on_grid(x[j], scale[0], origin))


@device
def quantised_state(batch: i64, n_hidden: i64, turn: i64, use_lens: i64, lens: i32p, frames: i64, h: f32p, seen: i16p) -> f32:
    """seen = h on the grid of uint8 that covers it, less the zero point; returns the scale. Entries of the batch that ended
    before the last turn have no part in it."""
    low, high = ZERO, ZERO
    for b in range(batch):
        if turn <= valid_frames(frames, use_lens, lens, b):
            for j in range(b * n_hidden, (b + 1) * n_hidden):
                low = h[j] if h[j] < low else low
                high = h[j] if h[j] > high else high
    scale = grid_scale(low, high)
    origin = grid_zero(low, scale)
    for j in range(batch * n_hidden):
        seen[j] = np.int16(on_grid(h[j], scale, origin))
    return scale


@kernel
def dynamic_lstm(
    frames: i64, skip: i64, batch: i64, n_hidden: i64, reverse: i64, y_row: i64, y_at: i64,
    use_lens: i64, use_peephole: i64, couple: i64, clip: f32,
    r: i8p, x_scale: f32p, w_scales: f32p, r_scales: f32p, bias: f32p, peephole: f32p, lens: i32p, x: i32p,
    h: f32p, c: f32p, y: f32p, seen: i16p, sums: f32p,
) -> None:  # fmt: skip
    """`cells.lstm` on products of integers. The sum of gate row n is, added in this order,

        x[n] * (x_scale * w_scales[n]) + dot(r[n], quantised h) * (h_scale * r_scales[n]) + bias[n]

    x:        [frames][batch][4 H] sums of the quantised input; r: [4 H][H]; rows are gates i, o, f, c of H units each
    w_scales, r_scales, bias: [4 H]; x_scale: [1]
    seen:     [batch][H] scratch: the quantised h; sums: [tile][gate][16] scratch
    """
    n_tiles = (n_hidden + LANES - 1) // LANES
    for t in range(frames):
        scale = quantised_state(batch, n_hidden, t, use_lens, lens, frames, h, seen)
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
            xo = (frame * batch + b) * 4 * n_hidden
            for gate in range(4):
                for unit in range(n_hidden):
                    n = gate * n_hidden + unit
                    total = np.float32(x[xo + n]) * (x_scale[0] * w_scales[n])
                    total += np.float32(dot(n_hidden, r, n * n_hidden, seen, b * n_hidden)) * (scale * r_scales[n])
                    sums[(unit // LANES * 4 + gate) * LANES + unit % LANES] = total + bias[n]
            for tile in range(n_tiles):
                o = 4 * LANES * tile
                at = b * n_hidden + tile * LANES
                left = n_hidden - tile * LANES
                cell, new = lstm_units(
                    act_f, alpha_f, beta_f, act_g, alpha_g, beta_g, act_h, alpha_h, beta_h,
                    vload(sums, o), vload(sums, o + LANES), vload(sums, o + 2 * LANES), vload(sums, o + 3 * LANES),
                    load_lanes(c, at, left), use_peephole, peephole, 3 * LANES * tile, couple, clip,
                )  # fmt: skip
                store_lanes(c, at, left, cell)
                store_lanes(h, at, left, new)
                store_lanes(y, row + tile * LANES, left, new)
