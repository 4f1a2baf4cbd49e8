"""ArgMax and ArgMin: the index (int64) of the extreme element along attribute axis (0).

Attributes  keepdims (1), select_last_index (0; 1: the last of equal elements instead of the first).

NaN is no extreme: its index is given only where there is nothing else. (In onnxruntime it depends on the place of the NaN.)
Source      onnx.ai/onnx/operators, pages of ArgMax and ArgMin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register_instance
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import reduce as kernels
from streamrnn.kernels._jit import Device
from streamrnn.ops._casts import converted
from streamrnn.ops._time import only
from streamrnn.ops.reduce import around, kept, kept_stream


class ArgReduce(Op):
    """See the module's text. `better(a, b)` says whether a is more extreme than b."""

    def __init__(self, name: str, better: Device) -> None:
        self.name = name  # type: ignore[misc]
        self.better = better

    def axis(self, site: Site) -> int:
        return site.axis(site.attr_int("axis", 0), site.type(0).rank)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x = site.type(0)
        if x.dtype is DType.BOOL:
            raise UnsupportedError(
                f"node '{site.node.name}' ({self.name}): truth values have no order; put a Cast in front of it"
            )
        if x.shape[self.axis(site)] == 0:
            raise site.shape_error(f"axis {self.axis(site)} of {x} has no elements")
        return (TensorType(DType.I64, kept(site, x.shape, (self.axis(site),))),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, axis = np.asarray(inputs[0]), self.axis(site)
        last = site.attr_int("select_last_index", 0)
        x = np.flip(x, axis) if last else x
        extreme, worst = (np.max, -np.inf) if self.better is kernels.greater else (np.min, np.inf)
        numbers = np.where(x == x, x, worst) if x.dtype.kind == "f" else x
        best = x == extreme(numbers, axis=axis, keepdims=True)
        found = np.argmax(best, axis=axis)
        return (np.asarray(x.shape[axis] - 1 - found if last else found).reshape(kept(site, x.shape, (axis,))),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        return Streamed((kept_stream(site, only(site, streams), (self.axis(site),)),))

    def lower(self, site: Site, low: Lowering) -> None:
        x, y = site.type(0), low.output(0)
        outer, n, inner = around(x.shape, self.axis(site))
        if x.size:
            source = converted(low, low.input(0), DType.F32 if x.dtype is DType.F16 else x.dtype, x.size)
            kernel = kernels.arg_reduce.typed(x=source.dtype.pointer).bind(better=self.better)
            low.call(kernel, outer, n, inner, site.attr_int("select_last_index", 0), source, y, work=outer * n * inner)


for _name, _better in (("ArgMax", kernels.greater), ("ArgMin", kernels.smaller)):
    register_instance(ArgReduce(_name, _better), _name)
