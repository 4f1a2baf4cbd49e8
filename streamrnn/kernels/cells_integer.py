"""LSTM with weights of 8 bits: input and hidden state are quantised as they come. See `cells` for what cells have in common."""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device, f32, f32p, i8p, i32p, i64, kernel, u8p
from streamrnn.kernels.activations import gate_sigmoid, gate_tanh
from streamrnn.kernels.byte_products import byte_rows, mend, one_part, row_width
from streamrnn.kernels.cells import frame_at, lstm_units, rest, valid_frames
from streamrnn.kernels.math import ZERO, round_even
from streamrnn.kernels.narrow import load_ints, to_real
from streamrnn.kernels.quantize import grid_scale, grid_zero
from streamrnn.kernels.simd import LANES, Vec, load_lanes, splat, store_lanes, vload

_STEPS = np.float32(255)

#: activations of the cell with their alpha and beta, exchanged by `Kernel.bind`
act_f, alpha_f, beta_f = gate_sigmoid, ZERO, ZERO
act_g, alpha_g, beta_g = gate_tanh, ZERO, ZERO
act_h, alpha_h, beta_h = gate_tanh, ZERO, ZERO


@device
def on_grid(x: f32, scale: f32, origin: f32) -> f32:
    """The uint8 for x."""
    value = round_even(x / scale) + origin
    value = value if value > ZERO else ZERO
    return value if value < _STEPS else _STEPS


@device
def quantised_rows(rows: i64, n: i64, scale: f32, origin: f32, x: f32p, at: i64, seen: u8p) -> None:
    """seen [rows][width] = x [rows][n], from x[at] on, on a grid."""
    width = row_width(n)
    for row in range(rows):
        for j in range(n):
            seen[row * width + j] = np.uint8(on_grid(x[at + row * n + j], scale, origin))


@kernel
def quantised_product(
    frames: i64, skip: i64, batch: i64, n_in: i64, n_out: i64, use_lens: i64, use_lack: i64,
    lens: i32p, w: i8p, totals: i32p, lack: i32p, x: f32p, scale: f32p, seen: u8p, y: i32p,
) -> None:  # fmt: skip
    """y [frames][batch][n_out] = x [frames][batch][n_in] on the grid of uint8 that covers it, less the zero point, times w.
    Filler has no part in the grid, nor have frames behind the longest entry of the batch. Scratch: seen, rows of bytes."""
    longest = np.int64(0)
    for b in range(batch):
        longest = max(longest, valid_frames(frames, use_lens, lens, b))
    low, high = ZERO, ZERO
    for j in range(skip * batch * n_in, longest * batch * n_in):
        low = x[j] if x[j] < low else low
        high = x[j] if x[j] > high else high
    scale[0] = grid_scale(low, high)
    origin = grid_zero(low, scale[0])
    rows = frames * batch
    quantised_rows(rows, n_in, scale[0], origin, x, 0, seen)
    width = row_width(n_in)
    byte_rows(one_part, rows, n_in, n_out, w, 0, totals, 0, np.int32(origin), seen, 0, width, 0, y, 0, n_out)
    if use_lack != 0:
        mend(rows, n_in, n_out, lack, 0, seen, 0, width, 0, y, 0, n_out)


@device
def state_grid(batch: i64, n_hidden: i64, turn: i64, use_lens: i64, lens: i32p, frames: i64, h: f32p) -> tuple[f32, f32]:
    """Scale and zero point of the grid of uint8 that covers h. Entries of the batch that ended before the last turn have no
    part in it."""
    low, high = ZERO, ZERO
    for b in range(batch):
        if turn <= valid_frames(frames, use_lens, lens, b):
            for j in range(b * n_hidden, (b + 1) * n_hidden):
                low = h[j] if h[j] < low else low
                high = h[j] if h[j] > high else high
    scale = grid_scale(low, high)
    return scale, grid_zero(low, scale)


@device
def gate(
    x: i32p, i: i64, x_scale: f32, w_scales: f32p, sums: i32p, k: i64, scale: f32, r_scales: f32p, bias: f32p, j: i64
) -> Vec:
    """The sums of a gate of 16 units."""
    total = to_real(load_ints(x, i)) * (splat(x_scale) * vload(w_scales, j))
    return total + to_real(load_ints(sums, k)) * (splat(scale) * vload(r_scales, j)) + vload(bias, j)


@kernel
def dynamic_lstm(
    frames: i64, skip: i64, batch: i64, n_hidden: i64, reverse: i64, y_row: i64, y_at: i64,
    use_lens: i64, use_lack: i64, use_peephole: i64, couple: i64, clip: f32,
    r: i8p, totals: i32p, lack: i32p, x_scale: f32p, w_scales: f32p, r_scales: f32p, bias: f32p, peephole: f32p,
    lens: i32p, x: i32p, h: f32p, c: f32p, y: f32p, seen: u8p, sums: i32p,
) -> None:  # fmt: skip
    """`cells.lstm` on products of integers. The sum of gate row n is, added in this order,

        x[n] * (x_scale * w_scales[n]) + dot(r[n], quantised h) * (h_scale * r_scales[n]) + bias[n]

    x:        [frames][batch][tile][gate][16] sums of the quantised input
    r, totals, lack: packed as in `byte_products` with these outputs
    w_scales, r_scales, bias: [tile][gate][16]; x_scale: [1]; gates i, o, f, c
    seen:     [batch] rows of bytes, sums: [batch][tile][gate][16]: scratch, the quantised h and its products
    """
    n_tiles, size = (n_hidden + LANES - 1) // LANES, 4 * LANES
    own, width = n_tiles * size, row_width(n_hidden)
    for t in range(frames):
        scale, origin = state_grid(batch, n_hidden, t, use_lens, lens, frames, h)
        quantised_rows(batch, n_hidden, scale, origin, h, 0, seen)
        byte_rows(one_part, batch, n_hidden, own, r, 0, totals, 0, np.int32(origin), seen, 0, width, 0, sums, 0, own)
        if use_lack != 0:
            mend(batch, n_hidden, own, lack, 0, seen, 0, width, 0, sums, 0, own)
        for b in range(batch):
            length = valid_frames(frames, use_lens, lens, b)
            frame = frame_at(t, length, reverse)
            for tile in range(n_tiles):
                at, left = b * n_hidden + tile * LANES, n_hidden - tile * LANES
                to = frame * y_row + y_at + at
                if frame < skip or frame >= length:
                    rest(y, to, h, at, left, length)
                    rest(y, to, c, at, left, length)
                    continue
                j = tile * size
                i, k = (frame * batch + b) * own + j, b * own + j
                cell, new = lstm_units(
                    act_f, alpha_f, beta_f, act_g, alpha_g, beta_g, act_h, alpha_h, beta_h,
                    gate(x, i, x_scale[0], w_scales, sums, k, scale, r_scales, bias, j),
                    gate(x, i + LANES, x_scale[0], w_scales, sums, k + LANES, scale, r_scales, bias, j + LANES),
                    gate(x, i + 2 * LANES, x_scale[0], w_scales, sums, k + 2 * LANES, scale, r_scales, bias, j + 2 * LANES),
                    gate(x, i + 3 * LANES, x_scale[0], w_scales, sums, k + 3 * LANES, scale, r_scales, bias, j + 3 * LANES),
                    load_lanes(c, at, left), use_peephole, peephole, 3 * LANES * tile, couple, clip,
                )  # fmt: skip
                store_lanes(c, at, left, cell)
                store_lanes(h, at, left, new)
                store_lanes(y, to, left, new)
