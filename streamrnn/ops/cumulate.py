"""CumSum and CumProd: running sums and products along an axis. Over time, what has run up so far becomes a state.

Inputs      x, axis (a constant), and in a step graph what has run up so far [.., 1, ..].
Attributes  exclusive (0; 1: an element does not count itself), reverse (0; 1: from the end).
Source      onnx.ai/onnx/operators, pages of CumSum and CumProd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, StateSpec, Streamed, Tolerance, register_instance
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import cumulate as kernels
from streamrnn.kernels._jit import Device
from streamrnn.ops._casts import convert, converted
from streamrnn.ops._time import only
from streamrnn.ops.reduce import around


@dataclass(frozen=True)
class _Row:
    """`combine` from `start` on."""

    name: str
    combine: Device
    start: int
    numpy: Callable[..., Array]


class Cumulate(Op):
    """See the module's text."""

    tolerance = Tolerance(4e-6, 2e-5)

    def __init__(self, row: _Row) -> None:
        self.row = row
        self.name = row.name  # type: ignore[misc]

    def axis(self, site: Site) -> int:
        return site.axis(int(site.need_const(1, "axis").item()), site.type(0).rank)

    def _so_far(self, site: Site) -> TensorType:
        """Type of what has run up so far; float16 adds up in float32."""
        x, axis = site.type(0), self.axis(site)
        return TensorType(DType.F32 if x.dtype is DType.F16 else x.dtype, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x, carry = site.type(0), self._so_far(site)
        if x.dtype is DType.BOOL:
            raise UnsupportedError(f"node '{site.node.name}' ({self.name}): bool is not supported; put a Cast in front of it")
        if site.has(2) and site.type(2) != carry:
            raise site.shape_error(f"what has run up so far is {site.type(2)}, it should be {carry}")
        return x, carry

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, axis = np.asarray(inputs[0]), self.axis(site)
        carry = inputs[2] if len(inputs) > 2 else None
        first = np.full(self._so_far(site).shape, self.row.start, x.dtype) if carry is None else carry
        ordered = np.flip(x, axis) if site.attr_int("reverse", 0) else x
        run = self.row.numpy(np.concatenate([first, ordered], axis), axis=axis, dtype=x.dtype)
        n = x.shape[axis]
        y = np.take(run, range(n) if site.attr_int("exclusive", 0) else range(1, n + 1), axis)
        return (np.flip(y, axis) if site.attr_int("reverse", 0) else y), np.take(run, [n], axis)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x, axis = only(site, streams), self.axis(site)
        if x.axis != axis:
            return Streamed((x,))
        if site.attr_int("reverse", 0):
            raise site.not_streamable("it runs from the end of time, so it needs the whole clip")
        carry = self._so_far(site)
        state = StateSpec("sum", 2, 1, np.full(carry.shape, self.row.start, carry.dtype.numpy), "accumulator")
        return Streamed((x, StreamType(None, x.delay, x.stride)), states=(state,))

    def lower(self, site: Site, low: Lowering) -> None:
        x, so_far = site.type(0), self._so_far(site)
        outer, n, inner = around(x.shape, self.axis(site))
        if site.has(2):
            carry = low.update(1, 2)
        else:
            carry = low.output(1)
            low.copy(low.weight(np.full(so_far.shape, self.row.start, so_far.dtype.numpy)), carry, so_far.size)
        y = low.output(0)
        if x.size == 0:
            return
        pointer = so_far.dtype.pointer
        kernel = kernels.cumulate.typed(x=pointer, carry=pointer, y=pointer).bind(combine=self.row.combine)
        target = y if x.dtype is so_far.dtype else low.scratch(so_far.dtype, x.size)
        low.call(
            kernel, outer, n, inner, low.skip(n), site.attr_int("exclusive", 0), site.attr_int("reverse", 0),
            converted(low, low.input(0), so_far.dtype, x.size), carry, target, work=x.size,
        )  # fmt: skip
        if target != y:
            convert(low, target, y, x.size)


register_instance(Cumulate(_Row("CumSum", kernels.add, 0, np.cumsum)), "CumSum")
register_instance(Cumulate(_Row("CumProd", kernels.multiply, 1, np.cumprod)), "CumProd")
