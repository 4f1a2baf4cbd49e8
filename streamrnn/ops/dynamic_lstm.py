"""DynamicQuantizeLSTM: an LSTM whose weights have 8 bits, as onnxruntime's dynamic quantisation writes it.

Everything is as in `lstm`, but for the two products. X, all frames of a call together, is quantised to uint8 with the grid that
covers it, and so is h at every frame, the whole batch together (until one frame after an entry's last):

    sum = (Xq - x_zero) (Wq - W_zero) * (x_scale W_scale) + (hq - h_zero) (Rq - R_zero) * (h_scale R_scale) + b

Inputs  X [S, B, I], W [D, I, 4H], R [D, H, 4H] (int8 or uint8; gates in the order i, o, f, c), B, sequence_lens, initial_h,
        initial_c, P as in LSTM; W_scale, W_zero_point, R_scale, R_zero_point [D] or [D, 4H], constants.
Outputs Y, Y_h, Y_c as in LSTM.
Source  onnxruntime's ContribOperators.md, com.microsoft.DynamicQuantizeLSTM. As there, int8 weights have zero points of 0 and
        uint8 weights one for each direction.

In a stream the frames of a step are quantised together, where a call of the file does so with the whole clip: both are within
the rounding of 8 bits of the same LSTM. A value amid two steps of the grid goes to either side with the last bit of a float32,
which moves the sums by one step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.op import Op, Site, Streamed, Tolerance, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import cells_integer
from streamrnn.kernels.simd import LANES, tiles
from streamrnn.ops import _recurrent as rec
from streamrnn.ops._bytes import pack_bytes
from streamrnn.ops._recurrent_bytes import rows_in_lanes
from streamrnn.ops.lstm import DEFAULTS, gates

_H, _C = 5, 6  # inputs of the initial states
_W_SCALE, _R_SCALE = 8, 10


def _as_lstm(site: Site) -> Site:
    """The node with the types of an LSTM's W and R, whose rules hold for the rest."""
    types = list(site.types)
    for index in (1, 2):
        given = site.type(index)
        if given.rank != 3:
            raise site.shape_error(f"input {index} {given} should have three dimensions")
        types[index] = TensorType(DType.F32, (given.shape[0], given.shape[2], given.shape[1]))
    return Site(site.node, tuple(types), site.constants, site.outputs)


def _weights(site: Site, index: int, scale: int) -> tuple[Array, Array]:
    """Weights [D, 4H, n] less their zero points (int64), and their scales [D, 4H]."""
    values = [site.need_const(k, what) for k, what in ((index, "weights"), (scale, "scale"), (scale + 1, "zero point"))]
    W, scales, zeros = values
    D, _, rows = W.shape
    zeros = np.broadcast_to(zeros.astype(np.int64).reshape(D, -1), (D, rows))
    wide = np.swapaxes(W.astype(np.int64), 1, 2) - zeros[..., None]
    return wide, np.broadcast_to(scales.astype(np.float32).reshape(D, -1), (D, rows))


def _grid(x: Array) -> tuple[Array, np.float32]:
    """x on the grid of uint8 that covers it and zero, less the zero point (int64), and the scale of the grid."""
    x = np.asarray(x, np.float32)
    low, high = min(np.float32(0), x.min(initial=0)), max(np.float32(0), x.max(initial=0))
    scale = np.float32(1) if low == high else np.float32((high - low) / np.float32(255))
    zero = np.rint(np.clip(-low / scale, 0, 255))
    return (np.clip(np.rint(x / scale) + zero, 0, 255) - zero).astype(np.int64), scale


@register
class DynamicQuantizeLSTM(Op):
    """See the module's text."""

    name = "DynamicQuantizeLSTM"
    tolerance = Tolerance(5e-6, 5e-5)
    regrids = True

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        types = rec.recurrent_types(_as_lstm(site), 4, (_H, _C), DEFAULTS)
        D, H = types[0].shape[1], types[0].shape[3]
        if site.has(7) and site.type(7).shape != (D, 3 * H):
            raise site.shape_error(f"P {site.type(7).shape} should be {(D, 3 * H)}")
        for index, scale in ((1, _W_SCALE), (2, _R_SCALE)):
            kind = site.type(index).dtype
            if kind not in (DType.I8, DType.U8) or site.type(scale + 1).dtype is not kind:
                raise UnsupportedError(
                    f"node '{site.node.name}' ({self.name}): weights of {kind.value} (input {index}) with a zero point of "
                    f"{site.type(scale + 1).dtype.value} are not supported, only int8 and uint8"
                )
            for k in (scale, scale + 1):
                if site.type(k).shape not in ((D,), (D, 4 * H)):
                    raise site.shape_error(f"input {k} {site.type(k).shape} should be {(D,)} or {(D, 4 * H)}")
        return types

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, _, _, B, lens, h0, c0, P = rec.padded(inputs, 8)[:8]
        assert x is not None
        (W, w_scale), (R, r_scale) = _weights(site, 1, _W_SCALE), _weights(site, 2, _R_SCALE)
        (S, batch, _), (D, rows, H) = x.shape, R.shape
        Y = np.zeros((S, D, batch, H), x.dtype)
        h, c = (rec.first_state(state, (D, batch, H), x, None) for state in (h0, c0))
        ends = np.full(batch, S) if lens is None else np.clip(lens, 0, S)
        xq, x_scale = _grid(x[: ends.max(initial=0)])
        for d in rec.directions(site):
            k = d.index
            bias = np.zeros(rows) if B is None else B[k, :rows] + B[k, rows:]
            for turn in range(ends.max(initial=0)):
                seen = np.flatnonzero(turn <= ends)
                hq, h_scale = _grid(h[k, seen])
                for b, state in zip(seen, hq, strict=True):
                    if turn == ends[b]:
                        continue
                    t = ends[b] - 1 - turn if d.reverse else turn
                    sums = (W[k] @ xq[t, b]).astype(np.float32) * (x_scale * w_scale[k])
                    sums = sums + (R[k] @ state).astype(np.float32) * (h_scale * r_scale[k]) + bias
                    peephole = np.zeros(3 * H) if P is None else P[k]
                    h[k, b], c[k, b] = gates(site, k, sums, c[k, b], peephole)
                    Y[t, k, b] = h[k, b]
        h[:, ends == 0], c[:, ends == 0] = 0, 0
        return Y, h, c

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        if streams[0] is not None and streams[0].axis == 1:
            raise site.not_streamable("time runs along its batch, which it quantises as a whole")
        return rec.recurrent_stream(_as_lstm(site), streams, ("h", "c"), (_H, _C))

    def lower(self, site: Site, low: Lowering) -> None:
        view = _as_lstm(site)
        (S, batch, n_in), (D, _, H) = site.type(0).shape, view.type(2).shape
        (W, w_scale), (R, r_scale) = _weights(site, 1, _W_SCALE), _weights(site, 2, _R_SCALE)
        bias = site.need_const(3, "B") if site.has(3) else np.zeros((D, 8 * H), np.float32)
        peephole = site.need_const(7, "P") if site.has(7) else None
        h, c = rec.initial_state(view, low, _H, 1), rec.initial_state(view, low, _C, 2)
        use_lens, lens = rec.sequence_lens(view, low)
        skip, y, own = low.skip(S), low.output(0), 4 * tiles(H) * LANES
        x_scale, xq = low.scratch(DType.F32, 1), low.scratch(DType.U8, S * batch * tiles(n_in) * LANES)
        hq, sums = low.scratch(DType.U8, batch * tiles(H) * LANES), low.scratch(DType.I32, batch * own)
        for d, chosen in zip(rec.directions(site), rec.gate_activations(site, DEFAULTS), strict=True):
            k = d.index
            products = low.scratch(DType.I32, S * batch * own)
            w, lacking = _packed(low, W[k])
            low.call(
                cells_integer.quantised_product, S, skip, batch, n_in, own, use_lens, lacking, lens, *w, low.input(0), x_scale,
                xq, products, work=S * batch * n_in * 4 * H,
            )  # fmt: skip
            rows = np.zeros((3, H), np.float32) if peephole is None else peephole[k].reshape(3, H)
            r, lacking = _packed(low, R[k])
            units = [low.weight(_in_lanes(row)) for row in (w_scale[k], r_scale[k], bias[k, : 4 * H] + bias[k, 4 * H :])]
            low.call(
                cells_integer.dynamic_lstm.bind(**rec.bindings(chosen, ("f", "g", "h"))),
                S, skip, batch, H, int(d.reverse), D * batch * H, k * batch * H,
                use_lens, lacking, int(peephole is not None), site.attr_int("input_forget", 0), rec.clip_of(site),
                *r, x_scale, *units, low.weight(rec.pack_lanes(rows)), lens, products,
                h.at(k * batch * H), c.at(k * batch * H), y, hq, sums, work=S * batch * 4 * H * H,
            )  # fmt: skip


def _in_lanes(rows: Array) -> Array:
    """[tile][gate][16, ...] from [4H, ...]."""
    lanes: Array = rows_in_lanes(rows.reshape(1, 4, -1, *rows.shape[1:]))[0]
    return lanes


def _packed(low: Lowering, M: Array) -> tuple[tuple[Place, ...], int]:
    """Weights, totals and lack of M [4H, n], and whether anything lacks."""
    packed = pack_bytes(_in_lanes(M).reshape(-1, M.shape[1]))
    return tuple(low.weight(part) for part in packed), int(packed[2].any())
