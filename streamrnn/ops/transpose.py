"""Transpose.

    Y[i[perm[0]], i[perm[1]], ...] = X[i[0], i[1], ...]; attribute perm, the reverse of all axes where left out.

A view where only axes of size 1 move, else one strided copy.
Source  onnx.ai/onnx/operators/onnx__Transpose.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ops._moves import EXACT, contiguous, lower_strided
from streamrnn.ops._time import only


@register
class Transpose(Op):
    """See the module's text."""

    name = "Transpose"
    tolerance = EXACT

    def perm(self, site: Site) -> tuple[int, ...]:
        """For each output axis the input axis that it is."""
        rank = site.type(0).rank
        perm = site.attr_ints("perm", range(rank)[::-1])
        if sorted(perm) != list(range(rank)):
            raise site.shape_error(f"perm {perm} is no permutation of the axes of {site.type(0)}")
        return perm

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x = site.type(0)
        return (x.with_shape(tuple(x.shape[d] for d in self.perm(site))),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.transpose(np.asarray(inputs[0]), self.perm(site)),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        return Streamed((x if x.axis is None else replace(x, axis=self.perm(site).index(x.axis)),))

    def lower(self, site: Site, low: Lowering) -> None:
        perm, strides = self.perm(site), contiguous(site.type(0).shape)
        lower_strided(low, 0, site.out(0).shape, [strides[d] for d in perm])
