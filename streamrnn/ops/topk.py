"""TopK: the k largest (or, with largest = 0, smallest) elements along attribute axis, and their indices (int64).

Inputs      X, K [1] (constant).
Outputs     values and indices, X's shape with K elements on the axis, the best element first (also where sorted = 0 leaves the
            order open). Of equal elements the one with the lower index comes first, as in onnxruntime; NaN comes last.
Attributes  axis (-1), largest (1), sorted (1).
Source      onnx.ai/onnx/operators/onnx__TopK.html
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import reduce
from streamrnn.kernels import topk as kernels
from streamrnn.ops._casts import convert, converted
from streamrnn.ops._moves import EXACT, const_ints
from streamrnn.ops._time import only
from streamrnn.ops.reduce import around


@register
class TopK(Op):
    """See the module's text."""

    name = "TopK"
    tolerance = EXACT

    def axis(self, site: Site) -> int:
        return site.axis(site.attr_int("axis", -1), site.type(0).rank)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x, axis, given = site.type(0), self.axis(site), const_ints(site, 1, "K")
        if x.dtype is DType.BOOL:
            raise UnsupportedError(f"node '{site.node.name}' (TopK): truth values have no order; put a Cast in front of it")
        if len(given) != 1 or not 0 <= given[0] <= x.shape[axis]:
            raise site.shape_error(f"K {given} is not one number up to the {x.shape[axis]} elements on axis {axis} of {x}")
        shape = (*x.shape[:axis], given[0], *x.shape[axis + 1 :])
        return x.with_shape(shape), TensorType(DType.I64, shape)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, axis = np.asarray(inputs[0]), self.axis(site)
        n, k = x.shape[axis], self.infer(site)[0].shape[axis]
        if site.attr_int("largest", 1):
            order = np.flip(n - 1 - np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
        else:
            order = np.argsort(x, axis, kind="stable")
        missing = np.take_along_axis(x != x, order, axis)
        order = np.take_along_axis(order, np.argsort(missing, axis, kind="stable"), axis)
        indices = np.take(order, range(k), axis)
        return np.take_along_axis(x, indices, axis), indices

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis == self.axis(site):
            raise site.not_streamable("picks the best frames of the whole clip")
        return Streamed((x, x))

    def lower(self, site: Site, low: Lowering) -> None:
        x, axis = site.type(0), self.axis(site)
        values, indices = low.output(0), low.output(1)
        outer, n, inner = around(x.shape, axis)
        k = self.infer(site)[0].shape[axis]
        if outer * k * inner == 0:
            return
        better = reduce.greater if site.attr_int("largest", 1) else reduce.smaller
        numbers = DType.F32 if x.dtype is DType.F16 else x.dtype
        found = values if x.dtype is numbers else low.scratch(numbers, outer * k * inner)
        kernel = kernels.top_k.typed(x=numbers.pointer, values=numbers.pointer).bind(better=better)
        source = converted(low, low.input(0), numbers, x.size)
        low.call(kernel, outer, n, inner, k, source, found, indices, work=x.size)
        if found != values:
            convert(low, found, values, outer * k * inner)
