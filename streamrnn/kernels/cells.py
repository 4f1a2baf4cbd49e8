"""Recurrent cells over all frames of a step: the gates of 16 hidden units at a time, the state updated in place.

Common to all cells:

    frames      frames in this step; the first `skip` are filler: they give y = 0 and leave the state alone
    n_in        inputs for which w has rows. The cell itself multiplies them where s_row is 0; else a matrix product over all
                frames has done so before (`project`)
    directions  how many: the second one runs from the last frame, and so does the first where `reverse` is 1
    lens        [batch]  frames of each batch entry (i32), read where use_lens is 1; later frames give y = 0, and an entry
                without frames gets a zero state
    start       what the sums begin with, [tile][gate][16] in each direction: the biases (s_row is 0), or a row of s_row
                elements for each frame and batch entry, to which the input's part has been added
    w           [direction][tile][row][gate][16], one row for each of n_in inputs, then for each of H hidden units; packed by
                `ops._recurrent`
    x           [frames][batch][n_in]
    h, c        [direction][batch][H]
    y           [frames] rows of y_row elements: [direction][batch][H]
    old         [batch][H] scratch: the state before the frame, because every unit needs that of all units
    z           [batch][gate][16] scratch: the sums of one tile
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from streamrnn.kernels._jit import device, f32, f32p, i32p, i64, kernel
from streamrnn.kernels.activations import gate_sigmoid, gate_tanh
from streamrnn.kernels.dense import dense_rows
from streamrnn.kernels.frames import Ahead, Frames, over_frames
from streamrnn.kernels.gates import add_four_gates, add_three_gates
from streamrnn.kernels.project import project_four, project_three
from streamrnn.kernels.simd import LANES, Vec, above, below, fma, load_lanes, splat, store_lanes, vload, vstore

#: a gate activation: a device function of a vector, alpha and beta
Activation: TypeAlias = Any

#: calls that go on where the last one ended: forward, all batch entries of the same length
_ONLY = {"directions": 1, "reverse": 0, "use_lens": 0}
_START, _X, _Y = ("frames", "batch", "s_row"), ("frames", "batch", "n_in"), ("frames", "y_row")

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
def copy(target: f32p, source: f32p, at: i64, n: i64) -> None:
    """target[:n] = source[at : at + n]"""
    for j in range(n):
        target[j] = source[at + j]


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
def rest(y: f32p, to: i64, state: f32p, at: i64, left: i64, length: i64) -> None:
    """16 units at a frame that moves no state, because it is filler or past its length: y is 0, and the state of an entry
    without frames is 0."""
    store_lanes(y, to, left, splat(ZERO))
    if length <= 0:
        store_lanes(state, at, left, splat(ZERO))


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


@over_frames(Frames("frames", {"start": _START, "x": _X, "y": _Y}, {}, ("h", "c"), ("old", "z"), _ONLY, Ahead(project_four, 4)))
@kernel
def lstm(
    frames: i64, skip: i64, batch: i64, n_in: i64, n_hidden: i64, directions: i64, reverse: i64, s_row: i64, y_row: i64,
    use_lens: i64, use_peephole: i64, couple: i64, clip: f32,
    w: f32p, peephole: f32p, lens: i32p, start: f32p, x: f32p, h: f32p, c: f32p, y: f32p, old: f32p, z: f32p,
) -> None:  # fmt: skip
    """LSTM (ONNX LSTM-22). Gates i, o, f, c; act_f on i, o, f; act_g on c; act_h on the new cell.

    i = f(Wi x + Ri h + Pi * c + bi)      f = f(Wf x + Rf h + Pf * c + bf), or 1 - i where couple is 1 (input_forget)
    c' = f * c + i * g(Wc x + Rc h + bc)  o = f(Wo x + Ro h + Po * c' + bo)      h' = o * h(c')

    peephole: [direction][tile][i, o, f][16], read where use_peephole is 1.
    """
    n_tiles, size = (n_hidden + LANES - 1) // LANES, 4 * LANES
    own = n_in if s_row == 0 else 0
    for t in range(frames):
        for d in range(directions):
            ho = d * batch * n_hidden
            copy(old, h, ho, batch * n_hidden)
            for tile in range(n_tiles):
                first, left, o = tile * LANES, n_hidden - tile * LANES, (d * n_tiles + tile) * size
                p, r = 3 * (d * n_tiles + tile) * LANES, o * (n_in + n_hidden)
                for b in range(batch):
                    row = frame_at(t, valid_frames(frames, use_lens, lens, b), reverse + d) * batch + b
                    add_four_gates(1, own, w, r, x, row * n_in, start, row * s_row + o, z, b * size, 0)
                add_four_gates(batch, n_hidden, w, r + n_in * size, old, 0, z, 0, z, 0, size)
                for b in range(batch):
                    length = valid_frames(frames, use_lens, lens, b)
                    frame = frame_at(t, length, reverse + d)
                    at = ho + b * n_hidden + first
                    if frame < skip or frame >= length:
                        rest(y, frame * y_row + at, h, at, left, length)
                        rest(y, frame * y_row + at, c, at, left, length)
                        continue
                    k = b * size
                    cell, new = lstm_units(
                        act_f, alpha_f, beta_f, act_g, alpha_g, beta_g, act_h, alpha_h, beta_h,
                        vload(z, k), vload(z, k + LANES), vload(z, k + 2 * LANES), vload(z, k + 3 * LANES),
                        load_lanes(c, at, left), use_peephole, peephole, p, couple, clip,
                    )  # fmt: skip
                    store_lanes(c, at, left, cell)
                    store_lanes(h, at, left, new)
                    store_lanes(y, frame * y_row + at, left, new)


@over_frames(Frames("frames", {"start": _START, "x": _X, "y": _Y}, {}, ("h",), ("old", "z"), _ONLY, Ahead(project_three, 3)))
@kernel
def gru(
    frames: i64, skip: i64, batch: i64, n_in: i64, n_hidden: i64, directions: i64, reverse: i64, s_row: i64, y_row: i64,
    use_lens: i64, clip: f32,
    w: f32p, inner: f32p, lens: i32p, start: f32p, x: f32p, h: f32p, y: f32p, old: f32p, z: f32p,
) -> None:  # fmt: skip
    """GRU (ONNX GRU-22) with linear_before_reset = 1: the reset gate multiplies the recurrent product.

    z = f(Wz x + Rz h + bz)                  r = f(Wr x + Rr h + br)
    n = g(Wn x + bn + r * (Rn h + cn))       h' = (1 - z) * n + z * h

    Gates n, z, r in the rows of inputs and in `start`; z, r, n in those of hidden units. inner: [direction][tile][16], cn.
    The sums are [Wn x + bn, z, r, Rn h + cn].
    """
    n_tiles, size, sums = (n_hidden + LANES - 1) // LANES, 3 * LANES, 4 * LANES
    own = n_in if s_row == 0 else 0
    for t in range(frames):
        for d in range(directions):
            ho = d * batch * n_hidden
            copy(old, h, ho, batch * n_hidden)
            for tile in range(n_tiles):
                first, left, o = tile * LANES, n_hidden - tile * LANES, (d * n_tiles + tile) * size
                r = o * (n_in + n_hidden)
                for b in range(batch):
                    row = frame_at(t, valid_frames(frames, use_lens, lens, b), reverse + d) * batch + b
                    add_three_gates(1, own, w, r, x, row * n_in, start, row * s_row + o, z, b * sums, 0)
                    vstore(z, b * sums + size, vload(inner, (d * n_tiles + tile) * LANES))
                add_three_gates(batch, n_hidden, w, r + n_in * size, old, 0, z, LANES, z, LANES, sums)
                for b in range(batch):
                    length = valid_frames(frames, use_lens, lens, b)
                    frame = frame_at(t, length, reverse + d)
                    at = ho + b * n_hidden + first
                    if frame < skip or frame >= length:
                        rest(y, frame * y_row + at, h, at, left, length)
                        continue
                    k = b * sums
                    gate_z = act_f(clipped(vload(z, k + LANES), clip), alpha_f, beta_f)
                    gate_r = act_f(clipped(vload(z, k + 2 * LANES), clip), alpha_f, beta_f)
                    gate_n = act_g(clipped(fma(gate_r, vload(z, k + size), vload(z, k)), clip), alpha_g, beta_g)
                    new = fma(gate_z, load_lanes(h, at, left) - gate_n, gate_n)
                    store_lanes(h, at, left, new)
                    store_lanes(y, frame * y_row + at, left, new)


@over_frames(Frames("frames", {"start": _START, "y": _Y}, {}, ("h",), ("z", "zn", "rh"), _ONLY))
@kernel
def gru_reset_first(
    frames: i64, skip: i64, batch: i64, n_hidden: i64, directions: i64, reverse: i64, s_row: i64, y_row: i64,
    use_lens: i64, clip: f32,
    r: f32p, rn: f32p, lens: i32p, start: f32p, h: f32p, y: f32p, z: f32p, zn: f32p, rh: f32p,
) -> None:  # fmt: skip
    """GRU (ONNX GRU-22) with linear_before_reset = 0: the reset gate multiplies h before the recurrent product.

    z = f(Wz x + Rz h + bz)                  r = f(Wr x + Rr h + br)
    n = g(Wn x + Rn (r * h) + bn)            h' = (1 - z) * n + z * h

    Gates z, r, n in `start`, to which the input's part has been added. n has a product of its own, because Rn needs r of all
    units. r: [direction][tile][z, r][bias, then H rows][16]. rn: [direction][tile][bias, then H rows][16].
    Scratch: z [batch][tile][z, r][16], zn [batch][tile][16], rh [batch][H], which is r * h.
    """
    n_tiles = (n_hidden + LANES - 1) // LANES
    own = n_tiles * LANES
    for t in range(frames):
        for d in range(directions):
            ho = d * batch * n_hidden
            dense_rows(batch, n_hidden, 2 * own, r, 2 * d * own * (1 + n_hidden), h, ho, z, 0, 2 * own)
            for b in range(batch):
                row = frame_at(t, valid_frames(frames, use_lens, lens, b), reverse + d) * batch + b
                for tile in range(n_tiles):
                    first = tile * LANES
                    i, k = row * s_row + 3 * (d * own + first), 2 * (b * own + first)
                    gate_z = act_f(clipped(vload(start, i) + vload(z, k), clip), alpha_f, beta_f)
                    gate_r = act_f(clipped(vload(start, i + LANES) + vload(z, k + LANES), clip), alpha_f, beta_f)
                    vstore(z, k, gate_z)
                    left, at = n_hidden - first, b * n_hidden + first
                    store_lanes(rh, at, left, gate_r * load_lanes(h, ho + at, left))
            dense_rows(batch, n_hidden, own, rn, d * own * (1 + n_hidden), rh, 0, zn, 0, own)
            for b in range(batch):
                length = valid_frames(frames, use_lens, lens, b)
                frame = frame_at(t, length, reverse + d)
                for tile in range(n_tiles):
                    first = tile * LANES
                    left, at = n_hidden - first, ho + b * n_hidden + first
                    if frame < skip or frame >= length:
                        rest(y, frame * y_row + at, h, at, left, length)
                        continue
                    i = (frame * batch + b) * s_row + 3 * (d * own + first) + 2 * LANES
                    gate_n = act_g(clipped(vload(start, i) + vload(zn, b * own + first), clip), alpha_g, beta_g)
                    new = fma(vload(z, 2 * (b * own + first)), load_lanes(h, at, left) - gate_n, gate_n)
                    store_lanes(h, at, left, new)
                    store_lanes(y, frame * y_row + at, left, new)


@over_frames(Frames("frames", {"start": _START, "y": _Y}, {}, ("h",), ("z",), _ONLY))
@kernel
def rnn(
    frames: i64, skip: i64, batch: i64, n_hidden: i64, directions: i64, reverse: i64, s_row: i64, y_row: i64,
    use_lens: i64, clip: f32, r: f32p, lens: i32p, start: f32p, h: f32p, y: f32p, z: f32p,
) -> None:  # fmt: skip
    """Elman network (ONNX RNN-22): h' = f(W x + R h + b). `start` holds W x + b.

    r: [direction][tile][bias, then H rows][16]. z: [batch][tile][16] scratch.
    """
    n_tiles = (n_hidden + LANES - 1) // LANES
    own = n_tiles * LANES
    for t in range(frames):
        for d in range(directions):
            ho = d * batch * n_hidden
            dense_rows(batch, n_hidden, own, r, d * own * (1 + n_hidden), h, ho, z, 0, own)
            for b in range(batch):
                length = valid_frames(frames, use_lens, lens, b)
                frame = frame_at(t, length, reverse + d)
                for tile in range(n_tiles):
                    first = tile * LANES
                    left, at = n_hidden - first, ho + b * n_hidden + first
                    if frame < skip or frame >= length:
                        rest(y, frame * y_row + at, h, at, left, length)
                        continue
                    begun = vload(start, (frame * batch + b) * s_row + d * own + first)
                    new = act_f(clipped(begun + vload(z, b * own + first), clip), alpha_f, beta_f)
                    store_lanes(h, at, left, new)
                    store_lanes(y, frame * y_row + at, left, new)
