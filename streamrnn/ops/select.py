"""Compress, NonZero, Unique: results whose shape depends on values, where these are constants.

    Compress  the slices along attribute axis (of the flattened input where left out) whose condition holds; the condition is
              constant, the data need not be
    NonZero   indices [rank, count] of the elements that are not zero, in the order of rows
    Unique    Y, indices of the first occurrences, inverse, counts: the different elements, or slices along attribute axis, in
              ascending order, or with sorted = 0 in the order in which they first occur

A compiled step has fixed shapes, so NonZero and Unique of run-time values are refused.
Source  onnx.ai/onnx/operators, pages of Compress, NonZero, Unique.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.ops._moves import EXACT, ints, lower_take
from streamrnn.ops._time import only


@register
class Compress(Op):
    """See the module's text."""

    name = "Compress"
    tolerance = EXACT

    def _axis(self, site: Site) -> tuple[tuple[int, ...], int]:
        """The shape that is cut, and the axis in it."""
        shape = site.type(0).shape
        if "axis" not in site.node.attrs:
            return (math.prod(shape),), 0
        return shape, site.axis(site.attr_int("axis", 0), len(shape))

    def _kept(self, site: Site) -> Array:
        """Indices of the slices that stay."""
        condition = site.need_const(1, "the condition")
        shape, axis = self._axis(site)
        kept = np.flatnonzero(condition)
        if condition.ndim != 1 or condition.dtype.kind != "b" or (kept.size and kept[-1] >= shape[axis]):
            raise site.shape_error(f"the condition {site.type(1)} does not fit the {shape[axis]} elements on axis {axis}")
        return kept

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        shape, axis = self._axis(site)
        return (site.type(0).with_shape((*shape[:axis], self._kept(site).size, *shape[axis + 1 :])),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        shape, axis = self._axis(site)
        return (np.take(np.asarray(inputs[0]).reshape(shape), self._kept(site), axis),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is not None and (x.axis == self._axis(site)[1] or "axis" not in site.node.attrs):
            raise site.not_streamable("picks frames at fixed places of the clip")
        return Streamed((x,))

    def lower(self, site: Site, low: Lowering) -> None:
        shape, axis = self._axis(site)
        kept = self._kept(site)
        lower_take(low, shape, axis, low.input(0), low.weight(ints(kept.tolist())), kept.size, low.output(0))


class _OfConstant(Op):
    """An op whose result has a shape that its input's values decide."""

    tolerance = EXACT

    def lower(self, site: Site, low: Lowering) -> None:
        for index, value in enumerate(self.reference(site, site.need_const(0, "the data"))):
            low.copy(low.weight(value), low.output(index), value.size)


@register
class NonZero(_OfConstant):
    """See the module's text."""

    name = "NonZero"

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x = site.need_const(0, "the data")
        return (TensorType(DType.I64, (x.ndim, int(np.count_nonzero(x)))),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x = np.asarray(inputs[0])
        # a single number has one place and no coordinates
        return (np.array(np.nonzero(x) if x.ndim else np.zeros((0, np.count_nonzero(x))), np.int64),)


@register
class Unique(_OfConstant):
    """See the module's text."""

    name = "Unique"

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        return tuple(TensorType.of(value) for value in self.reference(site, site.need_const(0, "the data")))

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x = np.asarray(inputs[0])
        axis = site.axis(site.attr_int("axis", 0), x.ndim) if "axis" in site.node.attrs else None
        if axis is None:
            x = x.reshape(-1)
        _, first, inverse, counts = np.unique(x, True, True, True, axis)
        order = np.arange(first.size) if site.attr_int("sorted", 1) else np.argsort(first)
        place = np.argsort(order)
        values = np.take(x, first[order], axis or 0)
        return values, first[order], place[inverse.reshape(-1)], counts[order]
