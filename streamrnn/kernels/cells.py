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
    z           [batch][tile][4][16] scratch: the sums of the tiles that are computed at once, at most two
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from streamrnn.kernels._jit import device, f32, f32p, i32p, i64, kernel
from streamrnn.kernels.activations import gate_sigmoid, gate_tanh
from streamrnn.kernels.dense import Four, dense_rows
from streamrnn.kernels.frames import Ahead, Frames, over_frames
from streamrnn.kernels.gates import add, add_rows, add_two, load_four, store_four
from streamrnn.kernels.project import project_four, project_three
from streamrnn.kernels.simd import (
    LANES,
    Vec,
    above,
    below,
    fma,
    load_lanes,
    one_register,
    splat,
    store_lanes,
    vload,
    vstore,
)

#: a gate activation: a device function of a vector, alpha and beta
Activation: TypeAlias = Any

#: calls that go on where the last one ended: forward, all batch entries of the same length
_ONLY = {"directions": 1, "reverse": 0, "use_lens": 0}
_START, _X, _Y = ("frames", "batch", "s_row"), ("frames", "batch", "n_in"), ("frames", "y_row")

#: weights of a cell: fewer stay in the nearest cache, beside what else a step needs; as many come from beyond those of one core
NEAR, FAR = 1 << 13, 1 << 21
#: elements of the four sums of a tile
SUMS = 4 * LANES
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
def copy(target: f32p, source: f32p, at: i64, n: i64) -> None:
    """target[:n] = source[at : at + n]"""
    for j in range(n):
        target[j] = source[at + j]


@device
def at_once(batch: i64, rows: i64, n_tiles: i64, gates: i64) -> i64:
    """How many tiles to sum up before their units are updated: 1 or 2.

    Two where the weights come from the nearest cache, because chains of additions then take the time; or from so far that two
    streams come faster than one. In between the next weights come while one tile is updated, and less so behind two. Where
    there are several rows, two of them are added to at once instead.
    """
    weights = n_tiles * rows * gates * LANES
    return 2 if batch == 1 and (weights < NEAR or weights >= FAR) else 1


@device
def begun(gates: i64, start: f32p, i: i64, inner: f32p, j: i64) -> Four:
    """What the four sums of a tile begin with: those from start[i] on; behind three of them the one from inner[j] on."""
    fourth = vload(start, i + 3 * LANES) if gates == 4 else vload(inner, j)
    return vload(start, i), vload(start, i + LANES), vload(start, i + 2 * LANES), fourth


@device
def gate_sums(
    gates: i64, t: i64, frames: i64, batch: i64, n_in: i64, n_hidden: i64, reverse: i64, s_row: i64, use_lens: i64, tiles: i64,
    w: f32p, o: i64, inner: f32p, io: i64, lens: i32p, start: f32p, so: i64, x: f32p, old: f32p, z: f32p,
) -> None:  # fmt: skip
    """z = the sums of `tiles` tiles (1 or 2) at turn t, for which w[o], inner[io] and start[so] are the first ones.

    gates: 3 or 4, written out by the caller. Of the four sums, the first ones have a part of x, the last ones one of h.
    """
    own, last, size = n_in if s_row == 0 else 0, 4 - gates, gates * LANES
    deep = (n_in + n_hidden) * size
    if tiles == 2 and batch == 1 and one_register():
        row, r = frame_at(t, valid_frames(frames, use_lens, lens, 0), reverse), o + n_in * size
        i, at = so + row * s_row, row * n_in
        s0, s1, s2, s3 = begun(gates, start, i, inner, io)
        t0, t1, t2, t3 = begun(gates, start, i + size, inner, io + LANES)
        s0, s1, s2, s3, t0, t1, t2, t3 = add_two(gates, 0, own, w, o, o + deep, x, at, at, s0, s1, s2, s3, t0, t1, t2, t3)
        s0, s1, s2, s3, t0, t1, t2, t3 = add_two(
            gates, last, n_hidden, w, r, r + deep, old, 0, 0, s0, s1, s2, s3, t0, t1, t2, t3
        )
        store_four(z, 0, s0, s1, s2, s3)
        store_four(z, SUMS, t0, t1, t2, t3)
        return
    for tile in range(tiles):
        for b in range(batch):
            row = frame_at(t, valid_frames(frames, use_lens, lens, b), reverse) * batch + b
            s0, s1, s2, s3 = begun(gates, start, so + row * s_row + tile * size, inner, io + tile * LANES)
            s0, s1, s2, s3 = add(gates, 0, own, w, o, x, row * n_in, s0, s1, s2, s3)
            store_four(z, (b * tiles + tile) * SUMS, s0, s1, s2, s3)
        add_rows(gates, batch, n_hidden, w, o + n_in * size, old, z, tile * SUMS, tiles * SUMS)
        o += deep


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


@device
def gru_units(
    f: Activation, f0: f32, f1: f32, g: Activation, g0: f32, g1: f32,
    of_x: Vec, gate_z: Vec, gate_r: Vec, of_h: Vec, old: Vec, clip: f32,
) -> Vec:  # fmt: skip
    """The new h of 16 hidden units from the sums [Wn x + bn, z, r, Rn h + cn] and the old h; see `gru`."""
    gate_z = f(clipped(gate_z, clip), f0, f1)
    gate_r = f(clipped(gate_r, clip), f0, f1)
    gate_n = g(clipped(fma(gate_r, of_h, of_x), clip), g0, g1)
    return fma(gate_z, old - gate_n, gate_n)


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
    n_tiles = (n_hidden + LANES - 1) // LANES
    step = at_once(batch, n_hidden if s_row != 0 else n_in + n_hidden, n_tiles, 4)
    for t in range(frames):
        for d in range(directions):
            ho = d * batch * n_hidden
            copy(old, h, ho, batch * n_hidden)
            for first in range(0, n_tiles, step):
                tiles, o = min(step, n_tiles - first), 4 * (d * n_tiles + first) * LANES
                gate_sums(
                    4, t, frames, batch, n_in, n_hidden, reverse + d, s_row, use_lens, tiles,
                    w, o * (n_in + n_hidden), start, 0, lens, start, o, x, old, z,
                )  # fmt: skip
                for b in range(batch):
                    length = valid_frames(frames, use_lens, lens, b)
                    frame = frame_at(t, length, reverse + d)
                    for tile in range(first, first + tiles):
                        left, at = n_hidden - tile * LANES, ho + b * n_hidden + tile * LANES
                        if frame < skip or frame >= length:
                            rest(y, frame * y_row + at, h, at, left, length)
                            rest(y, frame * y_row + at, c, at, left, length)
                            continue
                        gate_i, gate_o, gate_f, gate_c = load_four(z, (b * tiles + tile - first) * SUMS)
                        cell, new = lstm_units(
                            act_f, alpha_f, beta_f, act_g, alpha_g, beta_g, act_h, alpha_h, beta_h,
                            gate_i, gate_o, gate_f, gate_c,
                            load_lanes(c, at, left), use_peephole, peephole, 3 * (d * n_tiles + tile) * LANES, couple, clip,
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
    n_tiles = (n_hidden + LANES - 1) // LANES
    step = at_once(batch, n_hidden if s_row != 0 else n_in + n_hidden, n_tiles, 3)
    for t in range(frames):
        for d in range(directions):
            ho = d * batch * n_hidden
            copy(old, h, ho, batch * n_hidden)
            for first in range(0, n_tiles, step):
                tiles, o = min(step, n_tiles - first), (d * n_tiles + first) * LANES
                gate_sums(
                    3, t, frames, batch, n_in, n_hidden, reverse + d, s_row, use_lens, tiles,
                    w, 3 * o * (n_in + n_hidden), inner, o, lens, start, 3 * o, x, old, z,
                )  # fmt: skip
                for b in range(batch):
                    length = valid_frames(frames, use_lens, lens, b)
                    frame = frame_at(t, length, reverse + d)
                    for tile in range(first, first + tiles):
                        left, at = n_hidden - tile * LANES, ho + b * n_hidden + tile * LANES
                        if frame < skip or frame >= length:
                            rest(y, frame * y_row + at, h, at, left, length)
                            continue
                        of_x, gate_z, gate_r, of_h = load_four(z, (b * tiles + tile - first) * SUMS)
                        new = gru_units(
                            act_f, alpha_f, beta_f, act_g, alpha_g, beta_g,
                            of_x, gate_z, gate_r, of_h, load_lanes(h, at, left), clip,
                        )  # fmt: skip
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
