"""Trilu and EyeLike: what lies on one side of a diagonal, or on it.

    Trilu    x [.., rows, columns] with zeros below the diagonal (upper = 1) or above it (upper = 0); input k (0 where left out,
             may be computed at run time) moves the diagonal to the right
    EyeLike  ones on diagonal `k` of zeros, in the shape of its input [rows, columns]; attribute dtype names the element type (a
             DType's value, the input's where left out). It depends on a type alone, so it is folded

Source  onnx.ai/onnx/operators, pages of Trilu and EyeLike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import select
from streamrnn.ops._moves import EXACT, as_bytes, ints
from streamrnn.ops._time import only
from streamrnn.ops.shape import OfShape


@register
class Trilu(Op):
    """See the module's text."""

    name = "Trilu"
    tolerance = EXACT

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x = site.type(0)
        if x.rank < 2:
            raise site.shape_error(f"input {x} has no rows and columns")
        if site.has(1) and (site.type(1).size != 1 or site.type(1).dtype is not DType.I64):
            raise site.shape_error(f"k {site.type(1)} is not one int64")
        return (x,)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, k = np.asarray(inputs[0]), 0 if len(inputs) < 2 or inputs[1] is None else int(inputs[1].item())
        k = min(max(k, -x.shape[-2]), x.shape[-1])
        return ((np.triu if site.attr_int("upper", 1) else np.tril)(x, k),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is not None and x.axis >= site.type(0).rank - 2:
            raise site.not_streamable("masks frames by their place in the clip")
        return Streamed((x,))

    def lower(self, site: Site, low: Lowering) -> None:
        x, y = site.type(0), low.output(0)
        diagonal = low.input(1) if site.has(1) else low.weight(ints([0]))
        if x.size:
            low.call(
                select.triangle, math.prod(x.shape[:-2]), *x.shape[-2:], x.dtype.size, int(site.attr_int("upper", 1) != 0),
                diagonal, as_bytes(low.input(0)), as_bytes(y), work=x.size,
            )  # fmt: skip


@register
class EyeLike(OfShape):
    """See the module's text."""

    name = "EyeLike"

    def value(self, site: Site) -> Array:
        x = site.type(0)
        if x.rank != 2:
            raise site.shape_error(f"input {x} is not of two dimensions")
        name = site.attr_str("dtype", x.dtype.value)
        try:
            dtype = DType(name).numpy
        except ValueError:
            raise UnsupportedError(f"node '{site.node.name}' (EyeLike): no step can hold {name}") from None
        rows, columns = np.indices(x.shape)
        eye: Array = columns - rows == site.attr_int("k", 0)
        return eye.astype(dtype)
