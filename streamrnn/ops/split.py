"""Split: pieces along attribute axis, of the sizes in input split, or num_outputs equal ones of which the last may be smaller.

A piece is a view where nothing but axes of size 1 lies in front of the split axis.
Source  onnx.ai/onnx/operators/onnx__Split.html
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ops._moves import EXACT, const_ints, contiguous, lower_strided
from streamrnn.ops._time import only


@register
class Split(Op):
    """See the module's text."""

    name = "Split"
    tolerance = EXACT

    def axis(self, site: Site) -> int:
        return site.axis(site.attr_int("axis", 0), site.type(0).rank)

    def sizes(self, site: Site) -> tuple[int, ...]:
        """Sizes of all pieces along the axis."""
        size = site.type(0).shape[self.axis(site)]
        if site.has(1):
            sizes = const_ints(site, 1, "the sizes of the pieces")
        else:
            count = site.attr_int("num_outputs", len(site.node.outputs))
            if not 0 < count <= max(1, size):
                raise site.shape_error(f"{size} elements cannot be split into {count} pieces")
            piece = -(-size // count)
            sizes = (*[piece] * (count - 1), size - piece * (count - 1))
        if sum(sizes) != size or min(sizes, default=0) < 0:
            raise site.shape_error(f"pieces {sizes} do not add up to {size}")
        return sizes

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x, axis = site.type(0), self.axis(site)
        return tuple(x.with_shape((*x.shape[:axis], n, *x.shape[axis + 1 :])) for n in self.sizes(site))

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        return tuple(np.split(np.asarray(inputs[0]), np.cumsum(self.sizes(site))[:-1], self.axis(site)))

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis == self.axis(site):
            raise site.not_streamable("cuts the clip into pieces along time")
        return Streamed((x,) * len(self.sizes(site)))

    def lower(self, site: Site, low: Lowering) -> None:
        axis, strides, at = self.axis(site), contiguous(site.type(0).shape), 0
        for i, t in enumerate(self.infer(site)):
            if low.wanted(i):
                lower_strided(low, i, t.shape, strides, at)
            at += t.shape[axis] * strides[axis]
