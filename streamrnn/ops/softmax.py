"""Softmax, LogSoftmax, Hardmax.

    Softmax     exp(x) / sum over `axis` of exp(x)
    LogSoftmax  x - log(sum over `axis` of exp(x))
    Hardmax     1 at the first largest element along `axis`, 0 elsewhere

Input       float32 or float64.
Attributes  axis (-1); flatten: 1 for the meaning before opset 13, where all dimensions from `axis` on are one (set by the
            reader, with the older default axis 1 made explicit).
Source  onnx.ai/onnx/operators/onnx__Softmax.html, onnx__LogSoftmax.html, onnx__Hardmax.html. The maximum is taken off first,
        so nothing overflows.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import norm
from streamrnn.kernels.simd import LANES
from streamrnn.ops._spatial import require_f32
from streamrnn.ops._time import only


@register
class Softmax(Op):
    """See the module's text."""

    name = "Softmax"
    logarithm = False

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        if site.type(0).dtype is not DType.F64:
            require_f32(site, 0)
        self._axes(site)
        return (site.type(0),)

    def _axes(self, site: Site) -> tuple[int, int]:
        """(first, behind the last) axis of the sum."""
        rank = site.type(0).rank
        if site.attr_int("flatten", 0):
            axis = site.attr_int("axis", 1)
            return (rank if axis == rank else site.axis(axis, rank)), rank
        axis = site.axis(site.attr_int("axis", -1), rank)
        return axis, axis + 1

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x = inputs[0]
        assert x is not None
        axes = tuple(range(*self._axes(site)))
        shifted = x - x.max(axis=axes, keepdims=True)
        total = np.exp(shifted).sum(axis=axes, keepdims=True)
        return (shifted - np.log(total) if self.logarithm else np.exp(shifted) / total,)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is not None and x.axis in range(*self._axes(site)):
            raise site.not_streamable("its sum runs over time, so it needs the whole clip")
        return Streamed((x,))

    def lower(self, site: Site, low: Lowering) -> None:
        shape, (first, behind) = site.type(0).shape, self._axes(site)
        outer, n, inner = prod(shape[:first]), prod(shape[first:behind]), prod(shape[behind:])
        places, work = (low.input(0), low.output(0)), 8 * outer * n * inner
        if site.type(0).dtype is DType.F64:
            low.call(norm.softmax_plain, outer, n, inner, int(self.logarithm), *places, work=work)
            return
        sizes = (outer, n) if inner == 1 else (outer, n, inner)
        kernel = norm.softmax_rows if inner == 1 else norm.softmax_columns
        lanes = low.scratch(DType.F32, LANES if inner == 1 else LANES * LANES)
        low.call(kernel, *sizes, int(self.logarithm), *places, lanes, work=work)


@register
class LogSoftmax(Softmax):
    """See the module's text."""

    name = "LogSoftmax"
    logarithm = True


@register
class Hardmax(Softmax):
    """See the module's text."""

    name = "Hardmax"

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x = inputs[0]
        assert x is not None
        first, behind = self._axes(site)
        rows = x.reshape(*x.shape[:first], -1, *x.shape[behind:])
        best = np.expand_dims(rows.argmax(axis=first), first)
        y = np.zeros_like(rows)
        np.put_along_axis(y, best, 1, first)
        return (y.reshape(x.shape),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is not None and x.axis in range(*self._axes(site)):
            raise site.not_streamable("it looks for the largest element of all time, so it needs the whole clip")
        return Streamed((x,))

    def lower(self, site: Site, low: Lowering) -> None:
        shape, (first, behind) = site.type(0).shape, self._axes(site)
        outer, n, inner = prod(shape[:first]), prod(shape[first:behind]), prod(shape[behind:])
        pointer = site.type(0).dtype.pointer
        kernel = norm.hardmax.typed(x=pointer, y=pointer)
        low.call(kernel, outer, n, inner, low.input(0), low.output(0), work=outer * n * inner)
