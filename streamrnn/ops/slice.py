"""Slice.

    Y = X[starts[i] : ends[i] : steps[i]] on each axes[i], with NumPy's rules: negative positions count from the end, all are
    clamped, steps may be negative. axes are all in order, steps are 1, where left out.

In frame mode a slice along time means one of three things; what it is, is told by the half of the clip that a bound lies in:

    x[2:], x[:-3]     frames are dropped at the start: the wire lags by so many frames more; a cut at the end has no meaning
    x[-1:]            the last frame: the answer so far
    x[0:5], x[-4:]    a window at a fixed place of the clip: refused

A view where the slice is one run of memory, else one strided copy.
Source  onnx.ai/onnx/operators/onnx__Slice.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ops._moves import EXACT, const_ints, contiguous, distinct_axes, ints, lower_strided
from streamrnn.ops._time import only

#: beyond the end of every axis
END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Cut:
    """What a slice takes of one axis: `size` elements from `start` on, `step` apart."""

    start: int
    step: int
    size: int

    @property
    def slice(self) -> slice:
        """The same for NumPy."""
        end = self.start + self.size * self.step
        return slice(self.start, None if end < 0 else end, self.step) if self.size else slice(0, 0)


@register
class Slice(Op):
    """See the module's text."""

    name = "Slice"
    tolerance = EXACT

    def given(self, site: Site) -> dict[int, tuple[int, int, int]]:
        """axis -> (start, end, step) as they stand in the inputs."""
        starts, ends = const_ints(site, 1, "the starts"), const_ints(site, 2, "the ends")
        axes = const_ints(site, 3, "the axes") if site.has(3) else tuple(range(len(starts)))
        steps = const_ints(site, 4, "the steps") if site.has(4) else (1,) * len(starts)
        if not len(starts) == len(ends) == len(axes) == len(steps):
            raise site.shape_error(f"{len(starts)} starts, {len(ends)} ends, {len(axes)} axes and {len(steps)} steps")
        if 0 in steps:
            raise site.shape_error("a step is 0")
        axes = distinct_axes(site, axes, site.type(0).rank)
        return dict(zip(axes, zip(starts, ends, steps, strict=True), strict=True))

    def cuts(self, site: Site) -> list[Cut]:
        """What is taken of each axis."""
        shape = site.type(0).shape
        cuts = [Cut(0, 1, n) for n in shape]
        for axis, (start, end, step) in self.given(site).items():
            taken = range(*slice(start, end, step).indices(shape[axis]))
            cuts[axis] = Cut(taken.start, step, len(taken))
        return cuts

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        return (site.type(0).with_shape(tuple(cut.size for cut in self.cuts(site))),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.asarray(inputs[0])[tuple(cut.slice for cut in self.cuts(site))],)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x, given = only(site, streams), self.given(site)
        if x.axis is None or x.axis not in given:
            return Streamed((x,))
        start, end, step = given.pop(x.axis)
        frames = site.type(0).shape[x.axis]
        first, last, _ = slice(start, end, step).indices(frames)
        if step != 1:
            raise site.not_streamable("reverses time" if step < 0 else f"takes every {step}th frame")
        if first == frames - 1 and last == frames and frames > 1:
            return Streamed((replace(x, axis=None),), consts=self._consts({**given, x.axis: (-1, END, 1)}))
        if first * 2 >= max(frames, 1):
            raise site.not_streamable(f"takes the last {frames - first} frames of the clip, and a stream has no end")
        if last * 2 <= frames:
            raise site.not_streamable(f"takes frames {first} to {last} of the clip, and what comes later is dropped")
        y = replace(x, delay=x.delay + first)
        if all(cut == Cut(0, 1, n) for d, (cut, n) in enumerate(self._sized(site)) if d != x.axis):
            return Streamed((y,), forward=True)
        return Streamed((y,), consts=self._consts(given))

    def _sized(self, site: Site) -> list[tuple[Cut, int]]:
        return list(zip(self.cuts(site), site.type(0).shape, strict=True))

    def _consts(self, given: dict[int, tuple[int, int, int]]) -> dict[int, Array]:
        """Inputs 1 to 4 from what `given` returns."""
        rows = list(given.values())
        starts, ends, steps = (ints([row[k] for row in rows]) for k in range(3))
        return {1: starts, 2: ends, 3: ints(list(given)), 4: steps}

    def lower(self, site: Site, low: Lowering) -> None:
        cuts, strides = self.cuts(site), contiguous(site.type(0).shape)
        offset = sum(cut.start * s for cut, s in zip(cuts, strides, strict=True))
        steps = [cut.step * s for cut, s in zip(cuts, strides, strict=True)]
        lower_strided(low, 0, [cut.size for cut in cuts], steps, offset)
