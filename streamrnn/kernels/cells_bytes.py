"""Recurrent cells whose weights are of 8 bits: `cells` on integer products, see `byte_products`.

As in `cells`, but the input has been multiplied before, and

    steps   the largest number on the grid of h, at most 8191
    w       [direction], packed as in `byte_products` with outputs [tile][gate][16]; totals likewise
    scales  [direction][tile][gate][16]: the unit of an output's weights
    start   [frames][batch] rows of s_row elements: [direction][tile][gate][16], biases and the input's part
    seen    [batch] rows of bytes, units [batch], sums [batch][tile][gate][16]: scratch, the state on its grid, its unit, and
            the products
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device, f32, f32p, i8p, i32p, i64, kernel, u8p
from streamrnn.kernels.activations import gate_sigmoid, gate_tanh
from streamrnn.kernels.byte_products import QUAD, UPPER_ZERO, byte_rows, grid_row, row_width, two_parts
from streamrnn.kernels.cells import clipped, frame_at, gru_units, lstm_units, rest, valid_frames
from streamrnn.kernels.frames import Frames, over_frames
from streamrnn.kernels.narrow import load_ints, to_real
from streamrnn.kernels.simd import LANES, Vec, fma, load_lanes, splat, store_lanes, vload, vstore

ZERO = np.float32(0)
#: see `frames`: what a cell has of each frame, and what it uses anew for each
_START, _Y = ("frames", "batch", "s_row"), ("frames", "y_row")
_HELD = ("seen", "units", "sums")
_ONLY = {"directions": 1, "reverse": 0, "use_lens": 0}

#: activations of the cell with their alpha and beta, exchanged by `Kernel.bind`
act_f, alpha_f, beta_f = gate_sigmoid, ZERO, ZERO
act_g, alpha_g, beta_g = gate_tanh, ZERO, ZERO
act_h, alpha_h, beta_h = gate_tanh, ZERO, ZERO


@device
def recurrent_sums(
    batch: i64, n_hidden: i64, n_out: i64, direction: i64, steps: f32,
    w: i8p, totals: i32p, h: f32p, seen: u8p, units: f32p, sums: i32p,
) -> None:  # fmt: skip
    """sums = the products of a direction's weights and h, each batch entry of which lies on a grid of its own."""
    width = row_width(n_hidden)
    for b in range(batch):
        units[b] = grid_row(n_hidden, steps, h, (direction * batch + b) * n_hidden, seen, 2 * b * width)
    o, at = direction * n_out // LANES * QUAD * ((n_hidden + 3) // 4), direction * n_out
    byte_rows(
        two_parts, batch, n_hidden, n_out, w, o, totals, at, UPPER_ZERO, seen, 0, 2 * width, width, sums, 0, n_out
    )  # fmt: skip


@device
def product(sums: i32p, k: i64, unit: f32, scales: f32p, j: i64, start: Vec) -> Vec:
    """What 16 sums stand for, plus start."""
    return fma(to_real(load_ints(sums, k)), splat(unit) * vload(scales, j), start)


@over_frames(Frames("frames", {"start": _START, "y": _Y}, {}, ("h", "c"), _HELD, _ONLY))
@kernel
def lstm(
    frames: i64, skip: i64, batch: i64, n_hidden: i64, directions: i64, reverse: i64, s_row: i64, y_row: i64,
    use_lens: i64, use_peephole: i64, couple: i64, clip: f32, steps: f32,
    w: i8p, totals: i32p, scales: f32p, peephole: f32p, lens: i32p, start: f32p, h: f32p, c: f32p, y: f32p,
    seen: u8p, units: f32p, sums: i32p,
) -> None:  # fmt: skip
    """`cells.lstm`; gates i, o, f, c."""
    n_tiles, size = (n_hidden + LANES - 1) // LANES, 4 * LANES
    own = n_tiles * size
    for t in range(frames):
        for d in range(directions):
            recurrent_sums(batch, n_hidden, own, d, steps, w, totals, h, seen, units, sums)
            for b in range(batch):
                length = valid_frames(frames, use_lens, lens, b)
                frame = frame_at(t, length, reverse + d)
                for tile in range(n_tiles):
                    left, at = n_hidden - tile * LANES, (d * batch + b) * n_hidden + tile * LANES
                    if frame < skip or frame >= length:
                        rest(y, frame * y_row + at, h, at, left, length)
                        rest(y, frame * y_row + at, c, at, left, length)
                        continue
                    k, j, unit = b * own + tile * size, d * own + tile * size, units[b]
                    i = (frame * batch + b) * s_row + j
                    cell, new = lstm_units(
                        act_f, alpha_f, beta_f, act_g, alpha_g, beta_g, act_h, alpha_h, beta_h,
                        product(sums, k, unit, scales, j, vload(start, i)),
                        product(sums, k + LANES, unit, scales, j + LANES, vload(start, i + LANES)),
                        product(sums, k + 2 * LANES, unit, scales, j + 2 * LANES, vload(start, i + 2 * LANES)),
                        product(sums, k + 3 * LANES, unit, scales, j + 3 * LANES, vload(start, i + 3 * LANES)),
                        load_lanes(c, at, left), use_peephole, peephole, 3 * (d * n_tiles + tile) * LANES, couple, clip,
                    )  # fmt: skip
                    store_lanes(c, at, left, cell)
                    store_lanes(h, at, left, new)
                    store_lanes(y, frame * y_row + at, left, new)


@over_frames(Frames("frames", {"start": _START, "y": _Y}, {}, ("h",), _HELD, _ONLY))
@kernel
def gru(
    frames: i64, skip: i64, batch: i64, n_hidden: i64, directions: i64, reverse: i64, s_row: i64, y_row: i64,
    use_lens: i64, clip: f32, steps: f32,
    w: i8p, totals: i32p, scales: f32p, inner: f32p, lens: i32p, start: f32p, h: f32p, y: f32p,
    seen: u8p, units: f32p, sums: i32p,
) -> None:  # fmt: skip
    """`cells.gru`; gates n, z, r in `start`, z, r, n in the weights. inner: [direction][tile][16]."""
    n_tiles, size = (n_hidden + LANES - 1) // LANES, 3 * LANES
    own = n_tiles * size
    for t in range(frames):
        for d in range(directions):
            recurrent_sums(batch, n_hidden, own, d, steps, w, totals, h, seen, units, sums)
            for b in range(batch):
                length = valid_frames(frames, use_lens, lens, b)
                frame = frame_at(t, length, reverse + d)
                for tile in range(n_tiles):
                    left, at = n_hidden - tile * LANES, (d * batch + b) * n_hidden + tile * LANES
                    if frame < skip or frame >= length:
                        rest(y, frame * y_row + at, h, at, left, length)
                        continue
                    k, j, unit = b * own + tile * size, d * own + tile * size, units[b]
                    i = (frame * batch + b) * s_row + j
                    z = product(sums, k, unit, scales, j, vload(start, i + LANES))
                    r = product(sums, k + LANES, unit, scales, j + LANES, vload(start, i + 2 * LANES))
                    held = vload(inner, (d * n_tiles + tile) * LANES)
                    n = product(sums, k + 2 * LANES, unit, scales, j + 2 * LANES, held)
                    new = gru_units(
                        act_f, alpha_f, beta_f, act_g, alpha_g, beta_g,
                        vload(start, i), z, r, n, load_lanes(h, at, left), clip,
                    )  # fmt: skip
                    store_lanes(h, at, left, new)
                    store_lanes(y, frame * y_row + at, left, new)


@over_frames(Frames("frames", {"start": _START, "y": _Y}, {}, ("h",), (*_HELD, "z", "rh"), _ONLY))
@kernel
def gru_reset_first(
    frames: i64, skip: i64, batch: i64, n_hidden: i64, directions: i64, reverse: i64, s_row: i64, y_row: i64,
    use_lens: i64, clip: f32, steps: f32,
    w: i8p, totals: i32p, scales: f32p, wn: i8p, totals_n: i32p, scales_n: f32p, lens: i32p, start: f32p, h: f32p, y: f32p,
    z: f32p, rh: f32p, seen: u8p, units: f32p, sums: i32p,
) -> None:  # fmt: skip
    """`cells.gru_reset_first`; gates z, r, n in `start`, z, r in w, n in wn, which multiplies r * h on a grid of its own.

    Scratch: z [batch][tile][16], rh [direction][batch][H], which is r * h.
    """
    n_tiles = (n_hidden + LANES - 1) // LANES
    own = n_tiles * LANES
    for t in range(frames):
        for d in range(directions):
            recurrent_sums(batch, n_hidden, 2 * own, d, steps, w, totals, h, seen, units, sums)
            for b in range(batch):
                row = frame_at(t, valid_frames(frames, use_lens, lens, b), reverse + d) * batch + b
                for tile in range(n_tiles):
                    first, unit = tile * LANES, units[b]
                    i, k, j = row * s_row + 3 * (d * own + first), 2 * (b * own + first), 2 * (d * own + first)
                    gate_z = act_f(clipped(product(sums, k, unit, scales, j, vload(start, i)), clip), alpha_f, beta_f)
                    vstore(z, b * own + first, gate_z)
                    r = product(sums, k + LANES, unit, scales, j + LANES, vload(start, i + LANES))
                    left, at = n_hidden - first, (d * batch + b) * n_hidden + first
                    store_lanes(rh, at, left, act_f(clipped(r, clip), alpha_f, beta_f) * load_lanes(h, at, left))
            recurrent_sums(batch, n_hidden, own, d, steps, wn, totals_n, rh, seen, units, sums)
            for b in range(batch):
                length = valid_frames(frames, use_lens, lens, b)
                frame = frame_at(t, length, reverse + d)
                for tile in range(n_tiles):
                    first = tile * LANES
                    left, at = n_hidden - first, (d * batch + b) * n_hidden + first
                    if frame < skip or frame >= length:
                        rest(y, frame * y_row + at, h, at, left, length)
                        continue
                    i = (frame * batch + b) * s_row + 3 * (d * own + first) + 2 * LANES
                    n = product(sums, b * own + first, units[b], scales_n, d * own + first, vload(start, i))
                    gate_n = act_g(clipped(n, clip), alpha_g, beta_g)
                    new = fma(vload(z, b * own + first), load_lanes(h, at, left) - gate_n, gate_n)
                    store_lanes(h, at, left, new)
                    store_lanes(y, frame * y_row + at, left, new)


@over_frames(Frames("frames", {"start": _START, "y": _Y}, {}, ("h",), _HELD, _ONLY))
@kernel
def rnn(
    frames: i64, skip: i64, batch: i64, n_hidden: i64, directions: i64, reverse: i64, s_row: i64, y_row: i64,
    use_lens: i64, clip: f32, steps: f32,
    w: i8p, totals: i32p, scales: f32p, lens: i32p, start: f32p, h: f32p, y: f32p, seen: u8p, units: f32p, sums: i32p,
) -> None:  # fmt: skip
    """`cells.rnn`."""
    n_tiles = (n_hidden + LANES - 1) // LANES
    own = n_tiles * LANES
    for t in range(frames):
        for d in range(directions):
            recurrent_sums(batch, n_hidden, own, d, steps, w, totals, h, seen, units, sums)
            for b in range(batch):
                length = valid_frames(frames, use_lens, lens, b)
                frame = frame_at(t, length, reverse + d)
                for tile in range(n_tiles):
                    first = tile * LANES
                    left, at = n_hidden - first, (d * batch + b) * n_hidden + first
                    if frame < skip or frame >= length:
                        rest(y, frame * y_row + at, h, at, left, length)
                        continue
                    i = (frame * batch + b) * s_row + d * own + first
                    total = product(sums, b * own + first, units[b], scales, d * own + first, vload(start, i))
                    new = act_f(clipped(total, clip), alpha_f, beta_f)
                    store_lanes(h, at, left, new)
                    store_lanes(y, frame * y_row + at, left, new)
