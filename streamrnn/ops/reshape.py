"""Reshape, Squeeze, Unsqueeze, Flatten: the same elements under another shape. In a step they are views: no code, no copy.

    Reshape    data, shape (0 copies a dimension unless allowzero, one -1 is inferred)
    Squeeze    data, axes (all of size 1 where left out)          Unsqueeze  data, axes (of the result)
    Flatten    data; attribute axis: [prod(shape[:axis]), prod(shape[axis:])]

In frame mode time must stay an axis of its own: [1, T, 34] -> [T, 34] passes, [2, T] -> [2 * T] is refused. A Reshape may also
cut it into groups, [1, T] -> [1, T / 160, 160], whose frames then come once in 160, and undo that.
Source  onnx.ai/onnx/operators, pages of Reshape-25, Squeeze-25, Unsqueeze-25, Flatten-25.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ops._moves import EXACT, const_ints, distinct_axes, ints
from streamrnn.ops._time import only, windowed


class _Shaped(Op):
    """An op whose output is its input under the shape that `shape` gives."""

    tolerance = EXACT

    @abstractmethod
    def shape(self, site: Site) -> tuple[int, ...]:
        """The output's shape."""

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        return (site.type(0).with_shape(self.shape(site)),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.reshape(np.asarray(inputs[0]), self.shape(site)),)

    def parts(self, site: Site) -> Mapping[int, int]:
        return {0: 0}

    def lower(self, site: Site, low: Lowering) -> None:
        low.view(0, 0)


def time_axis(site: Site, stream: StreamType, shape: Sequence[int]) -> int:
    """The axis of `shape` that is the time axis of input 0, read in the same order of elements.

    Raises NotStreamableError where time is cut or merged with another dimension.
    """
    x = site.type(0).shape
    assert stream.axis is not None
    before, frames = math.prod(x[: stream.axis]), x[stream.axis]
    found = [d for d, n in enumerate(shape) if n == frames and math.prod(shape[:d]) == before]
    if not found or x[stream.axis + 1 :].count(0):
        raise site.not_streamable(f"merges time (axis {stream.axis} of {x}) with another dimension, or cuts it: {tuple(shape)}")
    # several are possible where the clip has one frame
    return stream.axis if stream.axis in found else found[0]


def group_axis(site: Site, stream: StreamType, shape: Sequence[int]) -> tuple[int, int, int]:
    """(axis of time in `shape`, frames that become one group there, groups of frames that become single ones).

    Raises NotStreamableError where time is neither cut into groups nor made of them.
    """
    x, axis = site.type(0).shape, stream.axis
    assert axis is not None
    before, frames = math.prod(x[:axis]), x[axis]
    for d, n in enumerate(shape):
        if math.prod(shape[:d]) == before and n > 1 and frames > 1:
            cut, made = frames // n, n // frames
            if cut > 1 and cut * n == frames and cut in _products(shape[d + 1 :]):
                return d, cut, 1
            if made > 1 and made * frames == n and made in _products(x[axis + 1 :]) and stream.stride % made == 0:
                return d, 1, made
    return time_axis(site, stream, shape), 1, 1


def _products(sizes: Sequence[int]) -> set[int]:
    """Sizes of the axes that the first ones of `sizes` can be merged into."""
    return {math.prod(sizes[: d + 1]) for d in range(len(sizes))}


@register
class Reshape(_Shaped):
    """See the module's text."""

    name = "Reshape"

    def shape(self, site: Site) -> tuple[int, ...]:
        x, given = site.type(0), const_ints(site, 1, "the target shape")
        shape = list(given)
        if not site.attr_int("allowzero", 0):
            for d, n in enumerate(given):
                if n == 0 and d >= x.rank:
                    raise site.shape_error(f"target {given} copies axis {d}, which {x} does not have")
                shape[d] = x.shape[d] if n == 0 else n
        if min(shape, default=0) < -1 or shape.count(-1) > 1:
            raise site.shape_error(f"target {given} has a negative size, or more than one -1")
        if -1 in shape:
            rest = -math.prod(shape)
            if rest == 0 or x.size % rest:
                raise site.shape_error(f"{x} does not fit into {given}")
            shape[shape.index(-1)] = x.size // rest
        if math.prod(shape) != x.size:
            raise site.shape_error(f"{x} does not fit into {given}")
        return tuple(shape)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is None:
            return Streamed((x,))
        shape = list(self.shape(site))
        axis, cut, made = group_axis(site, x, shape)
        shape[axis] = -1
        if cut > 1:  # a window without overlap, so that groups begin where those of the clip do
            grouped = windowed(x, cut, 1, cut, (0, 0), 0.0, {})
            (y,) = grouped.outputs
            assert y is not None
            return replace(grouped, outputs=(replace(y, axis=axis),), consts={1: ints(shape)})
        return Streamed((StreamType(axis, x.delay * made, x.stride // made),), consts={1: ints(shape)})


@register
class Flatten(_Shaped):
    """See the module's text."""

    name = "Flatten"

    def shape(self, site: Site) -> tuple[int, ...]:
        x, axis = site.type(0), site.attr_int("axis", 1)
        if axis != x.rank:
            axis = site.axis(axis, x.rank) if x.rank else axis
        if x.rank == 0 and axis != 0:
            raise site.shape_error(f"axis {axis} is out of range for rank 0")
        return math.prod(x.shape[:axis]), math.prod(x.shape[axis:])

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is None:
            return Streamed((x,))
        return Streamed((replace(x, axis=time_axis(site, x, self.shape(site))),))


@register
class Squeeze(_Shaped):
    """See the module's text."""

    name = "Squeeze"

    def axes(self, site: Site) -> tuple[int, ...]:
        x = site.type(0)
        if not site.has(1):
            return tuple(d for d, n in enumerate(x.shape) if n == 1)
        return distinct_axes(site, const_ints(site, 1, "the axes"), x.rank)

    def shape(self, site: Site) -> tuple[int, ...]:
        x, axes = site.type(0), self.axes(site)
        for axis in axes:
            if x.shape[axis] != 1:
                raise site.shape_error(f"axis {axis} of {x} is not of size 1")
        return tuple(n for d, n in enumerate(x.shape) if d not in axes)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x, axes = only(site, streams), self.axes(site)
        if x.axis is None:
            return Streamed((x,))
        if x.axis in axes:
            raise site.not_streamable(f"drops the time axis ({x.axis}), which fits clips of one frame alone")
        # written out, because the frames of one step may be one as well
        axis = x.axis - sum(d < x.axis for d in axes)
        return Streamed((replace(x, axis=axis),), consts={1: ints(axes)})


@register
class Unsqueeze(_Shaped):
    """See the module's text."""

    name = "Unsqueeze"

    def axes(self, site: Site) -> tuple[int, ...]:
        given = const_ints(site, 1, "the axes")
        return distinct_axes(site, given, site.type(0).rank + len(given))

    def shape(self, site: Site) -> tuple[int, ...]:
        x, axes = site.type(0), self.axes(site)
        kept = iter(x.shape)
        return tuple(1 if d in axes else next(kept) for d in range(x.rank + len(axes)))

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x, axes = only(site, streams), self.axes(site)
        if x.axis is None:
            return Streamed((x,))
        kept = [d for d in range(site.type(0).rank + len(axes)) if d not in axes]
        return Streamed((replace(x, axis=kept[x.axis]),))
