"""ConstantOfShape and Range: arrays made from numbers.

    ConstantOfShape  an array of the shape in input 0, full of attribute value; attribute dtype names the element type
                     (a DType's value, "float32" where left out)
    Range            start, start + delta, ... up to but without limit: max(0, ceil((limit - start) / delta)) numbers

Their inputs must be constants, so they are folded unless the result is very large.
Source  onnx.ai/onnx/operators, pages of ConstantOfShape and Range.
"""

from __future__ import annotations

import math

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, register
from streamrnn.ir.types import DType, TensorType
from streamrnn.ops._moves import EXACT, const_ints, fill, lower_constant


@register
class ConstantOfShape(Op):
    """See the module's text."""

    name = "ConstantOfShape"
    tolerance = EXACT

    def value(self, site: Site) -> Array:
        """The single number, in its element type."""
        name, value = site.attr_str("dtype", DType.F32.value), site.node.attrs.get("value", 0)
        if not isinstance(value, int | float):
            raise site.shape_error(f"attribute value is {value!r}, not a number")
        try:
            return np.array(value).astype(DType(name).numpy)
        except ValueError:
            raise UnsupportedError(f"node '{site.node.name}' (ConstantOfShape): no step can hold {name}") from None

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        shape = const_ints(site, 0, "the shape")
        if min(shape, default=0) < 0:
            raise site.shape_error(f"shape {shape} has a negative size")
        return (TensorType(DType.of(self.value(site)), shape),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.full(self.infer(site)[0].shape, self.value(site)),)

    def lower(self, site: Site, low: Lowering) -> None:
        fill(low, self.value(site), site.out(0).size, low.output(0))


#: numbers of a Range, which are weights of the step
MAX_RANGE = 1 << 24


@register
class Range(Op):
    """See the module's text."""

    name = "Range"

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        start, limit, delta = (site.need_const(i, what) for i, what in enumerate(("start", "limit", "delta")))
        if len({v.dtype for v in (start, limit, delta)}) > 1 or any(v.size != 1 for v in (start, limit, delta)):
            raise site.shape_error(f"start, limit and delta are not three numbers of one type: {start!r}, {limit!r}, {delta!r}")
        numbers = [v.item() for v in (start, limit, delta)]
        if not all(math.isfinite(n) for n in numbers) or numbers[2] == 0:
            raise site.shape_error(f"no range leads from {numbers[0]} to {numbers[1]} in steps of {numbers[2]}")
        first, last, step = numbers
        count = -((first - last) // step) if isinstance(first, int) else math.ceil((last - first) / step)
        if count > MAX_RANGE:
            raise site.shape_error(f"it gives {count} numbers; at most {MAX_RANGE} are made at conversion")
        return (TensorType(DType.of(start), (max(0, count),)),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        start, _, delta = (np.asarray(v).reshape(()) for v in inputs)
        count = self.infer(site)[0].size
        return (start + np.arange(count).astype(start.dtype) * delta,)

    def lower(self, site: Site, low: Lowering) -> None:
        low.output(0)  # refuses what is too large before it is made
        lower_constant(low, self.reference(site, *site.constants)[0])
