"""ReverseSequence: the first sequence_lens[b] frames of every batch entry in reverse order, the others as they are.

Inputs      x, sequence_lens [batch] (int64; lengths beyond the clip are cut to it).
Attributes  time_axis (0) and batch_axis (1): 0 and 1, in either order.
Source      onnx.ai/onnx/operators/onnx__ReverseSequence.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import moves
from streamrnn.ops._moves import EXACT, as_bytes
from streamrnn.ops._time import only


@register
class ReverseSequence(Op):
    """See the module's text."""

    name = "ReverseSequence"
    tolerance = EXACT

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x, lens = site.type(0), site.type(1)
        axes = self._axes(site)
        if x.rank < 2 or set(axes) != {0, 1}:
            raise site.shape_error(f"time_axis and batch_axis {axes} of {x} should be 0 and 1")
        if lens != TensorType(DType.I64, (x.shape[axes[1]],)):
            raise site.shape_error(f"sequence_lens {lens} should be int64[{x.shape[axes[1]]}]")
        return (x,)

    def _axes(self, site: Site) -> tuple[int, int]:
        return site.attr_int("time_axis", 0), site.attr_int("batch_axis", 1)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, lens = inputs
        assert x is not None
        assert lens is not None
        clips = np.moveaxis(x.copy(), self._axes(site), (1, 0))
        for clip, length in zip(clips, np.clip(lens, 0, clips.shape[1]), strict=True):
            clip[:length] = clip[:length][::-1].copy()
        return (np.moveaxis(clips, (1, 0), self._axes(site)),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis in (0, 1):
            raise site.not_streamable("it reverses the clip, or treats its frames differently")
        return Streamed((x,))

    def lower(self, site: Site, low: Lowering) -> None:
        x, (time, batch) = site.type(0), self._axes(site)
        run = prod(x.shape[2:]) * x.dtype.size
        steps = (x.shape[1] * run, run)
        if x.size:
            low.call(
                moves.reverse, x.shape[time], x.shape[batch], steps[time], steps[batch], run, low.input(1),
                as_bytes(low.input(0)), as_bytes(low.output(0)), work=x.size,
            )  # fmt: skip
        else:
            low.output(0)
