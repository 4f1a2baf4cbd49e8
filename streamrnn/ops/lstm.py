"""LSTM.

    i = f(Wi x + Ri h + Pi * c + bi)      f = f(Wf x + Rf h + Pf * c + bf)     (1 - i with input_forget)
    c' = f * c + i * g(Wc x + Rc h + bc)  o = f(Wo x + Ro h + Po * c' + bo)    h' = o * h(c')

Inputs  X [S, B, I], W [D, 4H, I], R [D, 4H, H], B [D, 8H], sequence_lens [B], initial_h and initial_c [D, B, H],
        P [D, 3H]; gates in the order i, o, f, c; peepholes in the order i, o, f.
Outputs Y [S, D, B, H], Y_h [D, B, H], Y_c [D, B, H].
        sequence_lens below S leave zeros in Y behind the last valid frame; 0 gives zero Y_h and Y_c, as in onnxruntime.
Source  onnx.ai/onnx/operators/onnx__LSTM.html; Hochreiter and Schmidhuber 1997, Gers and Schmidhuber 2000 (peepholes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, Tolerance, register
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.kernels import cells, cells_bytes
from streamrnn.ops import _recurrent as rec
from streamrnn.ops._recurrent_bytes import ByteCell

_H, _C = 5, 6  # inputs of the initial states
DEFAULTS = ("Sigmoid", "Tanh", "Tanh")


def gates(site: Site, d: int, sums: Array, cell: Array, peepholes: Array) -> tuple[Array, Array]:
    """The new h and c of direction d from the sums of the gates [4H], the old c and P [3H], in NumPy."""
    f, g, hh = (a.numpy for a in rec.gate_activations(site, DEFAULTS)[d])
    limit = rec.clip_of(site) or np.inf
    zi, zo, zf, zc = sums.reshape(4, -1)
    pi, po, pf = peepholes.reshape(3, -1)
    i = f(np.clip(zi + pi * cell, -limit, limit))
    forget = 1 - i if site.attr_int("input_forget", 0) else f(np.clip(zf + pf * cell, -limit, limit))
    cell = forget * cell + i * g(np.clip(zc, -limit, limit))
    o = f(np.clip(zo + po * cell, -limit, limit))
    return o * hh(cell), cell


@register
class LSTM(Op):
    """See the module's text."""

    name = "LSTM"
    tolerance = Tolerance(2e-6, 2e-5)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        types = rec.recurrent_types(site, 4, (_H, _C), DEFAULTS)
        if site.has(7) and site.type(7).shape != (types[0].shape[1], 3 * types[0].shape[3]):
            raise site.shape_error(f"P {site.type(7).shape} should be {(types[0].shape[1], 3 * types[0].shape[3])}")
        return types

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, W, R, B, lens, h0, c0, P = rec.padded(inputs, 8)
        assert x is not None
        assert W is not None
        assert R is not None
        S, batch, _ = x.shape
        D, H = R.shape[0], R.shape[2]
        Y = np.zeros((S, D, batch, H), x.dtype)
        h = rec.first_state(h0, (D, batch, H), x, lens)
        c = rec.first_state(c0, (D, batch, H), x, lens)
        for d, b, t in rec.visits(site, S, batch, lens):
            bias = np.zeros(8 * H) if B is None else B[d]
            sums = W[d] @ x[t, b] + R[d] @ h[d, b] + bias[: 4 * H] + bias[4 * H :]
            h[d, b], c[d, b] = gates(site, d, sums, c[d, b], np.zeros(3 * H) if P is None else P[d])
            Y[t, d, b] = h[d, b]
        return Y, h, c

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        return rec.recurrent_stream(site, streams, ("h", "c"), (_H, _C))

    def narrow_inputs(self, site: Site, dtype: str) -> Mapping[int, tuple[int, ...]] | str:
        return {1: (0, 1), 2: (0, 1)}

    def lower(self, site: Site, low: Lowering) -> None:
        W, R = (site.need_const(i, what) for i, what in ((1, "W"), (2, "R")))
        D, H = R.shape[0], R.shape[2]
        bias = site.need_const(3, "B").reshape(D, 2, 4, H) if site.has(3) else np.zeros((D, 2, 4, H), np.float32)
        peephole = site.need_const(7, "P").reshape(D, 3, H) if site.has(7) else np.zeros((D, 3, H), np.float32)
        in_bytes = ByteCell.given(site, low, bias.sum(axis=1), range(4), range(4))
        cell = in_bytes or rec.Cell.of(site, low, W.reshape(D, 4, H, -1), bias.sum(axis=1))
        h, c = rec.initial_state(site, low, _H, 1), rec.initial_state(site, low, _C, 2)
        x, y = low.input(0), low.output(0)
        use_lens, lens = rec.sequence_lens(site, low)
        flags = int(site.has(7)), site.attr_int("input_forget", 0), rec.clip_of(site)
        for run in rec.runs(site, DEFAULTS):
            rows = [rec.pack_lanes(peephole[d]) for d in range(run.first, run.first + run.count)]
            given = low.weight(np.concatenate(rows)), lens, cell.begun(run)
            state = cell.part(h, run), cell.part(c, run), cell.part(y, run)
            bound = rec.bindings(run.activations, ("f", "g", "h"))
            if isinstance(cell, ByteCell):
                head = *cell.sizes(run, use_lens), *flags
                kernel = cells_bytes.lstm.bind(**bound)
                low.call(kernel, *head, *cell.products(run), *given, *state, *cell.held(), work=cell.work(run))
                continue
            head = *cell.sizes(run, use_lens, True), *flags
            w, scratch = cell.weights(run, R.reshape(D, 4, H, H)), (cell.scratch(H), cell.scratch(2 * cells.SUMS))
            low.call(cell.kernel(cells.lstm.bind(**bound)), *head, w, *given, x, *state, *scratch, work=cell.work(run))
