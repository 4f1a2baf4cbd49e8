"""GRU.

    z = f(Wz x + Rz h + bz + cz)      r = f(Wr x + Rr h + br + cr)      h' = (1 - z) * n + z * h
    n = g(Wn x + bn + r * (Rn h + cn))     with linear_before_reset = 1 (Keras: reset_after; the only form of PyTorch)
    n = g(Wn x + bn + Rn (r * h) + cn)     with linear_before_reset = 0 (the operator's default)

Inputs  X [S, B, I], W [D, 3H, I], R [D, 3H, H], B [D, 6H], sequence_lens [B], initial_h [D, B, H]; gates in the order
        z, r, n; the first half of B is b (with W), the second c (with R).
Outputs Y [S, D, B, H], Y_h [D, B, H].
        sequence_lens below S leave zeros in Y behind the last valid frame; 0 gives a zero Y_h, as in onnxruntime.
Source  onnx.ai/onnx/operators/onnx__GRU.html; Cho et al. 2014.
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

_H = 5  # input of the initial state
_DEFAULTS = ("Sigmoid", "Tanh")


@register
class GRU(Op):
    """See the module's text."""

    name = "GRU"
    tolerance = Tolerance(2e-6, 2e-5)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        return rec.recurrent_types(site, 3, (_H,), _DEFAULTS)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, W, R, B, lens, h0 = rec.padded(inputs, 6)
        assert x is not None
        assert W is not None
        assert R is not None
        S, batch, _ = x.shape
        D, H = R.shape[0], R.shape[2]
        Y = np.zeros((S, D, batch, H), x.dtype)
        h = rec.first_state(h0, (D, batch, H), x, lens)
        chosen = rec.gate_activations(site, _DEFAULTS)
        limit = rec.clip_of(site) or np.inf
        for d, b, t in rec.visits(site, S, batch, lens):
            f, g = (a.numpy for a in chosen[d])
            Wz, Wr, Wn = W[d].reshape(3, H, -1)
            Rz, Rr, Rn = R[d].reshape(3, H, H)
            bz, br, bn, cz, cr, cn = (np.zeros(6 * H) if B is None else B[d]).reshape(6, H)
            xt, old = x[t, b], h[d, b]
            z = f(np.clip(Wz @ xt + Rz @ old + bz + cz, -limit, limit))
            r = f(np.clip(Wr @ xt + Rr @ old + br + cr, -limit, limit))
            after = site.attr_int("linear_before_reset", 0) != 0
            recurrent = r * (Rn @ old + cn) if after else Rn @ (r * old) + cn
            n = g(np.clip(Wn @ xt + bn + recurrent, -limit, limit))
            h[d, b] = (1 - z) * n + z * old
            Y[t, d, b] = h[d, b]
        return Y, h

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        return rec.recurrent_stream(site, streams, ("h",), (_H,))

    def narrow_inputs(self, site: Site, dtype: str) -> Mapping[int, tuple[int, ...]] | str:
        return {1: (0, 1), 2: (0, 1)}

    def lower(self, site: Site, low: Lowering) -> None:
        W, R = (site.need_const(i, what) for i, what in ((1, "W"), (2, "R")))
        D, H = R.shape[0], R.shape[2]
        W, R = W.reshape(D, 3, H, -1), R.reshape(D, 3, H, H)
        bias = site.need_const(3, "B").reshape(D, 2, 3, H) if site.has(3) else np.zeros((D, 2, 3, H), np.float32)
        after = site.attr_int("linear_before_reset", 0) != 0
        order, sums = (0, 1, 2), bias.sum(axis=1)
        if after:
            order, sums = (2, 0, 1), np.stack([bias[:, 0, 2], *sums.swapaxes(0, 1)[:2]], axis=1)
        cell = ByteCell.given(site, low, sums, order, range(3)) or rec.Cell.of(site, low, W[:, order], sums, able=after)
        h = rec.initial_state(site, low, _H, 1)
        x, y = low.input(0), low.output(0)
        use_lens, lens = rec.sequence_lens(site, low)
        for run in rec.runs(site, _DEFAULTS):
            bound = rec.bindings(run.activations, ("f", "g"))
            head = *cell.sizes(run, use_lens, after and not isinstance(cell, ByteCell)), rec.clip_of(site)
            state, given = (cell.part(h, run), cell.part(y, run)), (lens, cell.begun(run))
            if after:
                inner = [rec.pack_lanes(bias[d, 1, 2:]) for d in range(run.first, run.first + run.count)]
                held = low.weight(np.concatenate(inner))
            if isinstance(cell, ByteCell) and after:
                w, kernel = cell.products(run), cells_bytes.gru.bind(**bound)
                low.call(kernel, *head, *w, held, *given, *state, *cell.held(), work=cell.work(run))
            elif isinstance(cell, ByteCell):
                first, second = cell.products(run, slice(2)), cell.products(run, slice(2, 3))
                kernel = cells_bytes.gru_reset_first.bind(**bound)
                reset = cell.scratch(cell.lanes(1)), cell.scratch(run.count * H)
                low.call(kernel, *head, *first, *second[1:], *given, *state, *reset, *cell.held(), work=cell.work(run))
            elif after:
                scratch = cell.scratch(H), cell.scratch(2 * cells.SUMS)
                kernel = cell.kernel(cells.gru.bind(**bound))
                low.call(kernel, *head, cell.weights(run, R), held, *given, x, *state, *scratch, work=cell.work(run))
            else:
                w = cell.recurrent(run, R[:, :2]), cell.recurrent(run, R[:, 2:])
                more = cell.scratch(cell.lanes(2)), cell.scratch(cell.lanes(1)), cell.scratch(H)
                kernel = cell.kernel(cells.gru_reset_first.bind(**bound), "r", "rn")
                low.call(kernel, *head, *w, *given, *state, *more, work=cell.work(run))
