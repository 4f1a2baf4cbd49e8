"""OneHot: a new axis of size depth, on at the index and off elsewhere.

Inputs      indices (any numbers), depth (one constant), values [off, on].
Output      values' element type; the new axis is attribute axis (-1) of the result.

Indices that are floats are cut to whole numbers. Negative ones count from the end of the new axis; one outside of -depth ..
depth - 1 gives a row that is off throughout.
Source      onnx.ai/onnx/operators/onnx__OneHot.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import select
from streamrnn.ops._casts import converted
from streamrnn.ops._moves import EXACT, as_bytes
from streamrnn.ops._time import only


@register
class OneHot(Op):
    """See the module's text."""

    name = "OneHot"
    tolerance = EXACT

    def axis(self, site: Site) -> int:
        return site.axis(site.attr_int("axis", -1), site.type(0).rank + 1)

    def depth(self, site: Site) -> int:
        value = site.need_const(1, "the depth")
        if value.size != 1 or not math.isfinite(value.item()) or value.item() < 0:
            raise site.shape_error(f"the depth (input 1) is {value!r}, not one number of classes")
        return int(value.item())

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        indices, values, axis = site.type(0), site.type(2), self.axis(site)
        if values.shape != (2,):
            raise site.shape_error(f"the values {values} are not two: off and on")
        if indices.dtype is DType.BOOL:
            raise site.shape_error("indices are bool, not numbers")
        return (values.with_shape((*indices.shape[:axis], self.depth(site), *indices.shape[axis:])),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        indices, values, axis, depth = np.asarray(inputs[0]), np.asarray(inputs[2]), self.axis(site), self.depth(site)
        indices = np.trunc(indices) if indices.dtype.kind == "f" else indices
        counted = np.expand_dims(np.where(indices < 0, indices + depth, indices), axis)
        places = np.arange(depth).reshape([-1 if d == axis else 1 for d in range(indices.ndim + 1)])
        return (np.where(counted == places, values[1], values[0]),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is None or x.axis < self.axis(site):
            return Streamed((x,))
        return Streamed((replace(x, axis=x.axis + 1),))

    def lower(self, site: Site, low: Lowering) -> None:
        shape, axis, size = site.type(0).shape, self.axis(site), site.out(0).size
        y, dtype = low.output(0), site.type(2).dtype
        if size:
            low.call(
                select.one_hot, math.prod(shape[:axis]), self.depth(site), math.prod(shape[axis:]), dtype.size,
                converted(low, low.input(0), DType.I64, site.type(0).size), as_bytes(low.input(2)), as_bytes(y), work=size,
            )  # fmt: skip
