"""Pad: more elements at the ends of axes, or fewer where a pad is negative.

    pads [x1_begin, x2_begin, ..., x1_end, x2_end, ...] for the given axes (all where left out), in elements
    mode constant (input constant_value, 0 where left out, may be computed at run time), edge, reflect (the edge itself is not
         repeated), wrap

In frame mode a pad in front of the first frame becomes a Window that starts filled (mode edge: full of that frame); one behind
the last frame has no meaning.
Source  onnx.ai/onnx/operators/onnx__Pad.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array, Attr
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ops._moves import EXACT, const_ints, contiguous, copy_box, distinct_axes, fill, ints, lower_strided, lower_take
from streamrnn.ops._time import only

_MODES = ("constant", "edge", "reflect", "wrap")


@dataclass(frozen=True)
class _Ends:
    """Elements added to the two ends of an axis; negative ones are cut off."""

    begin: int = 0
    end: int = 0

    @property
    def added(self) -> tuple[int, int]:
        return max(0, self.begin), max(0, self.end)

    @property
    def cut(self) -> tuple[int, int]:
        return max(0, -self.begin), max(0, -self.end)


@register
class Pad(Op):
    """See the module's text."""

    name = "Pad"
    tolerance = EXACT

    def mode(self, site: Site) -> str:
        mode = site.attr_str("mode", "constant")
        if mode not in _MODES:
            raise UnsupportedError(f"node '{site.node.name}' (Pad): mode '{mode}' is not one of {', '.join(_MODES)}")
        return mode

    def ends(self, site: Site) -> list[_Ends]:
        """Both ends of every axis."""
        rank, pads = site.type(0).rank, const_ints(site, 1, "the pads")
        axes = distinct_axes(site, const_ints(site, 3, "the axes") if site.has(3) else range(rank), rank)
        if len(pads) != 2 * len(axes):
            raise site.shape_error(f"{len(pads)} pads for {len(axes)} axes; two for each are needed")
        ends = [_Ends()] * rank
        for i, axis in enumerate(axes):
            ends[axis] = _Ends(pads[i], pads[i + len(axes)])
        return ends

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x, mode = site.type(0), self.mode(site)
        if site.has(2) and (site.type(2).size != 1 or site.type(2).dtype is not x.dtype):
            raise site.shape_error(f"the padding value {site.type(2)} is not one {x.dtype.value}")
        shape = []
        for axis, (n, ends) in enumerate(zip(x.shape, self.ends(site), strict=True)):
            kept = n - sum(ends.cut)
            if kept < 0:
                raise site.shape_error(f"cuts {sum(ends.cut)} elements from axis {axis} of {x}")
            if kept == 0 and mode != "constant" and any(ends.added):
                raise site.shape_error(f"axis {axis} of {x} has no elements to pad with in mode {mode}")
            shape.append(kept + sum(ends.added))
        return (x.with_shape(tuple(shape)),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        ends, mode = self.ends(site), self.mode(site)
        x = np.asarray(inputs[0])
        kept = x[tuple(slice(e.cut[0], n - e.cut[1]) for n, e in zip(x.shape, ends, strict=True))]
        width = [e.added for e in ends]
        if mode == "constant":
            value = inputs[2] if len(inputs) > 2 else None
            return (np.pad(kept, width, constant_values=0 if value is None else value.item()),)
        return (np.pad(kept, width, cast(Literal["edge", "reflect", "wrap"], mode)),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x, ends = only(site, streams), self.ends(site)
        if x.axis is None or ends[x.axis] == _Ends():
            return Streamed((x,))
        front, mode = ends[x.axis].added[0], self.mode(site)
        if front and mode in ("reflect", "wrap"):
            raise site.not_streamable(f"pads {front} frames in front with mode {mode}, which needs later frames")
        before: tuple[str, Mapping[str, Attr]] | None = None
        if front:
            window = {"axis": x.axis, "taps": 1, "dilation": 1, "stride": 1, "history": front}
            before = ("Window", {**window, "edge": 1} if mode == "edge" else {**window, "fill": self._fill(site)})
        y = replace(x, delay=x.delay + ends[x.axis].cut[0])
        ends[x.axis] = _Ends()
        if all(e == _Ends() for e in ends):
            return Streamed((y,), before=before, forward=True)
        pads = [e.begin for e in ends] + [e.end for e in ends]
        return Streamed((y,), consts={1: ints(pads), 3: ints(range(len(ends)))}, before=before)

    def _fill(self, site: Site) -> int | float:
        """What is put in front of the first frame."""
        if not site.has(2):
            return 0
        value = site.const(2)
        if value is None:
            raise site.not_streamable("pads time with a value that is computed at run time")
        number = value.item()
        return int(number) if isinstance(number, bool) else number

    def lower(self, site: Site, low: Lowering) -> None:
        x, y, ends = site.type(0), site.out(0), self.ends(site)
        strides = contiguous(x.shape)
        offset = sum(e.cut[0] * s for e, s in zip(ends, strides, strict=True))
        kept = [n - sum(e.cut) for n, e in zip(x.shape, ends, strict=True)]
        if tuple(kept) == y.shape:
            lower_strided(low, 0, kept, strides, offset)
        elif y.size and self.mode(site) == "constant":
            target, steps = low.output(0), contiguous(y.shape)
            fill(low, low.input(2) if site.has(2) else np.zeros(1, x.dtype.numpy), y.size, target)
            inside = sum(e.added[0] * s for e, s in zip(ends, steps, strict=True))
            copy_box(low, kept, low.input(0).at(offset), strides, target.at(inside), steps)
        elif y.size:
            self._repeat(site, low, low.input(0).at(offset), strides, kept)

    def _repeat(self, site: Site, low: Lowering, source: Place, strides: Sequence[int], shape: list[int]) -> None:
        """Pad from the data themselves, one axis after the other."""
        dtype, ends, mode = site.type(0).dtype, self.ends(site), self.mode(site)
        if any(sum(e.cut) for e in ends):
            part = low.scratch(dtype, int(np.prod(shape)))
            copy_box(low, shape, source, strides, part, contiguous(shape))
            source = part
        padded = [axis for axis, e in enumerate(ends) if any(e.added)]
        for axis in padded:
            picked = np.pad(np.arange(shape[axis]), ends[axis].added, cast(Literal["edge", "reflect", "wrap"], mode))
            made = [*shape[:axis], len(picked), *shape[axis + 1 :]]
            target = low.output(0) if axis == padded[-1] else low.scratch(dtype, int(np.prod(made)))
            lower_take(low, shape, axis, source, low.weight(picked.astype(np.int64)), len(picked), target)
            source, shape = target, made
