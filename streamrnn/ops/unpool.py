"""MaxUnpool: elements put back to where MaxPool found them, zero elsewhere.

Inputs      X [N, C, spatial...], Indices (int64, of the same shape, counted over all elements of the output), output_shape
            (constant; left out: (n - 1) stride - pads + kernel along each spatial axis).
Attributes  kernel_shape, strides, pads.
Source      onnx.ai/onnx/operators/onnx__MaxUnpool.html. Indices outside the output are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import scatter
from streamrnn.ops._moves import EXACT, const_ints, fill, ints
from streamrnn.ops._spatial import require_f32, window_attrs


@register
class MaxUnpool(Op):
    """See the module's text."""

    name = "MaxUnpool"
    tolerance = EXACT

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        require_f32(site, 0)
        x, indices = site.type(0), site.type(1)
        if indices != TensorType(DType.I64, x.shape):
            raise site.shape_error(f"indices {indices} should be int64{list(x.shape)}")
        kernel, strides, _, pads = window_attrs(site, site.attr_ints("kernel_shape", ()))
        rows = zip(x.shape[2:], kernel, strides, pads[: len(kernel)], pads[len(kernel) :], strict=True)
        shape = (*x.shape[:2], *((n - 1) * step - before - after + k for n, k, step, before, after in rows))
        if site.has(2):
            shape = const_ints(site, 2, "output_shape")
        if len(shape) != x.rank or min(shape) < 0 or shape[:2] != x.shape[:2]:
            raise site.shape_error(f"{x} cannot be put back into {shape}")
        return (x.with_shape(shape),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, indices = inputs[:2]
        assert x is not None
        assert indices is not None
        y = np.zeros(site.out(0).shape, x.dtype)
        at = np.where(indices < 0, indices + y.size, indices).ravel()
        inside = (at >= 0) & (at < y.size)
        y.reshape(-1)[at[inside]] = x.ravel()[inside]
        return (y,)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        raise site.not_streamable("its indices count the elements of the whole clip")

    def lower(self, site: Site, low: Lowering) -> None:
        y, size = low.output(0), site.out(0).size
        fill(low, np.zeros(1, np.float32), size, y)
        count = site.type(0).size
        if count and size:
            kernel = scatter.scatter_nd.typed(updates="f32p", y="f32p")
            low.call(kernel, count, 1, 1, low.weight(ints([size])), low.input(1), low.input(0), y, work=count)
