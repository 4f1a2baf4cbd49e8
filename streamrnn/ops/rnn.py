"""RNN, the simple (Elman) recurrent network.

    h' = f(W x + R h + b + c)

Inputs  X [S, B, I], W [D, H, I], R [D, H, H], B [D, 2H] (b, then c), sequence_lens [B], initial_h [D, B, H].
Outputs Y [S, D, B, H], Y_h [D, B, H].
        sequence_lens below S leave zeros in Y behind the last valid frame; 0 gives a zero Y_h, as in onnxruntime.
Source  onnx.ai/onnx/operators/onnx__RNN.html; Elman 1990.
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
_DEFAULTS = ("Tanh",)


@register
class RNN(Op):
    """See the module's text."""

    name = "RNN"
    tolerance = Tolerance(2e-6, 2e-5)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        return rec.recurrent_types(site, 1, (_H,), _DEFAULTS)

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
            bias = np.zeros(2 * H) if B is None else B[d]
            z = W[d] @ x[t, b] + R[d] @ h[d, b] + bias[:H] + bias[H:]
            h[d, b] = chosen[d][0].numpy(np.clip(z, -limit, limit))
            Y[t, d, b] = h[d, b]
        return Y, h

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        return rec.recurrent_stream(site, streams, ("h",), (_H,))

    def narrow_inputs(self, site: Site, dtype: str) -> Mapping[int, tuple[int, ...]] | str:
        return {1: (0, 1), 2: (0, 1)}

    def lower(self, site: Site, low: Lowering) -> None:
        W, R = (site.need_const(i, what) for i, what in ((1, "W"), (2, "R")))
        D, H = R.shape[0], R.shape[2]
        bias = site.need_const(3, "B").reshape(D, 2, 1, H) if site.has(3) else np.zeros((D, 2, 1, H), np.float32)
        in_bytes = ByteCell.given(site, low, bias.sum(axis=1), range(1), range(1))
        cell = in_bytes or rec.Cell.of(site, low, W.reshape(D, 1, H, -1), bias.sum(axis=1), able=False)
        h = rec.initial_state(site, low, _H, 1)
        y = low.output(0)
        use_lens, lens = rec.sequence_lens(site, low)
        for run in rec.runs(site, _DEFAULTS):
            bound = rec.bindings(run.activations, ("f",))
            head = *cell.sizes(run, use_lens), rec.clip_of(site)
            given = lens, cell.begun(run), cell.part(h, run), cell.part(y, run)
            if isinstance(cell, ByteCell):
                w, kernel = cell.products(run), cells_bytes.rnn.bind(**bound)
                low.call(kernel, *head, *w, *given, *cell.held(), work=cell.work(run))
                continue
            r, kernel = cell.recurrent(run, R.reshape(D, 1, H, H)), cell.kernel(cells.rnn.bind(**bound), "r")
            low.call(kernel, *head, r, *given, cell.scratch(cell.lanes(1)), work=cell.work(run))
