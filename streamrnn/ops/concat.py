"""Concat: the inputs one behind the other along attribute axis; all other dimensions agree.

Where nothing but axes of size 1 lies in front of that axis, inputs are computed in their part of the output.
Source  onnx.ai/onnx/operators/onnx__Concat.html
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ops._moves import EXACT, contiguous, copy_box
from streamrnn.ops._time import joined, one_frame


@register
class Concat(Op):
    """See the module's text."""

    name = "Concat"
    tolerance = EXACT

    def axis(self, site: Site) -> int:
        if "axis" not in site.node.attrs:
            raise site.shape_error("attribute axis is missing")
        return site.axis(site.attr_int("axis", 0), site.type(0).rank)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        types, axis = [site.type(i) for i in range(len(site.types))], self.axis(site)
        first = types[0]
        for t in types[1:]:
            same = t.rank == first.rank and all(
                d == axis or a == b for d, (a, b) in enumerate(zip(t.shape, first.shape, strict=True))
            )
            if t.dtype is not first.dtype or not same:
                raise site.shape_error(f"{', '.join(map(str, types))} do not fit together along axis {axis}")
        total = sum(t.shape[axis] for t in types)
        return (first.with_shape((*first.shape[:axis], total, *first.shape[axis + 1 :])),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.concatenate([np.asarray(x) for x in inputs], self.axis(site)),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        axes = {s.axis for s in streams if s is not None}
        if len(axes) > 1:
            kind = "one answer for the clip and its frames" if None in axes else "wires with time on different axes"
            raise site.not_streamable(f"joins {kind}")
        axis = axes.pop()
        if axis is None:
            return Streamed((joined(site, streams, None),))
        if axis == self.axis(site):
            raise site.not_streamable("puts frames in front of or behind the stream")
        still = (i for i, stream in enumerate(streams) if stream is None)
        consts = {i: frame for i in still if (frame := one_frame(site, i, axis)) is not None}
        return Streamed((joined(site, streams, axis),), consts=consts)

    def parts(self, site: Site) -> Mapping[int, int]:
        if math.prod(site.type(0).shape[: self.axis(site)]) != 1:
            return {}
        sizes = [site.type(k).size for k in range(len(site.types))]
        return dict(enumerate(accumulate(sizes[:-1], initial=0)))

    def lower(self, site: Site, low: Lowering) -> None:
        if len(site.types) == 1:
            low.view(0, 0)
            return
        axis, target = self.axis(site), low.output(0)
        strides = contiguous(site.out(0).shape)
        for i in range(len(site.types)):
            shape = site.type(i).shape
            copy_box(low, shape, low.input(i), contiguous(shape), target, strides)
            target = target.at(shape[axis] * strides[axis])
