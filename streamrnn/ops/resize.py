"""Resize: samples of a tensor at other places, along one axis after the other.

    nearest  the element nearest to the place           linear  between its two neighbours
    cubic    from four neighbours by Keys' polynomial   antialias = 1: linear and cubic over as many as a smaller output skips

The place of output element i of n', where the input has n elements and s is the scale (n' / n where sizes are given):

    half_pixel (i + 0.5) / s - 0.5       pytorch_half_pixel  the same, 0 where n' is 1      asymmetric  i / s
    align_corners i (n - 1) / (n' - 1)   half_pixel_symmetric  half_pixel plus (1 - n' / (s n)) n / 2
    tf_crop_and_resize (start + i (end - start) / (n' - 1)) (n - 1); outside the input it is extrapolation_value

Inputs      X, roi [start .., end ..] (for tf_crop_and_resize), scales or sizes, for all axes or for `axes`; constant.
Attributes  mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, exclude_outside, extrapolation_value, axes,
            keep_aspect_ratio_policy, antialias.
Over time   each frame may be repeated, where a convolution with such a stride came before.
Source      onnx.ai/onnx/operators/onnx__Resize.html; Keys 1981. Places are computed in float32, and align_corners counts whole
            elements, as in onnxruntime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.op import Op, Site, Streamed, Tolerance, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import resample as kernels
from streamrnn.ops._moves import distinct_axes
from streamrnn.ops._spatial import require_f32
from streamrnn.ops._time import only
from streamrnn.ops.reduce import around

_MODES = ("nearest", "linear", "cubic")
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_PLACES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric", "tf_crop_and_resize")
_POLICIES = ("stretch", "not_larger", "not_smaller")
#: integers of each size, as which elements of any type are moved
_WORDS = {dtype.size: dtype for dtype in (DType.U8, DType.I16, DType.I32, DType.I64)}


@dataclass(frozen=True)
class _Axis:
    """One axis: elements before and after, scale, the part of the input that tf_crop_and_resize takes."""

    n: int
    count: int
    scale: np.float32
    start: np.float32
    end: np.float32

    def kept(self, cropped: bool) -> bool:
        """Whether nothing changes along it."""
        whole = self.start == 0 and self.end == 1
        return self.n == self.count and self.scale == 1 and (whole or not cropped)

    def places(self, kind: str) -> Array:
        """Where each output element lies in the input, float32."""
        i, half, n, count = np.arange(self.count, dtype=np.float32), np.float32(0.5), np.float32(self.n), self.count
        if kind == "asymmetric":
            return i / self.scale
        if kind == "align_corners":
            return i * (n - 1) / np.float32(max(1, count - 1))
        if kind == "pytorch_half_pixel" and count == 1:
            return np.zeros(1, np.float32)
        if kind == "tf_crop_and_resize":
            if count == 1:
                return np.full(1, half * (self.start + self.end) * (n - 1))
            return np.asarray(self.start * (n - 1) + i * (self.end - self.start) * (n - 1) / np.float32(count - 1))
        shift = (1 - count / (self.scale * n)) * n * half if kind == "half_pixel_symmetric" else np.float32(0)
        return np.asarray(shift + (i + half) / self.scale - half)


@dataclass(frozen=True)
class _Taps:
    """What each output element is made of: index, weight [count, taps], and what is added [count]."""

    index: Array
    weight: Array
    start: Array

    @property
    def moves(self) -> bool:
        """Whether every output element is one of the input."""
        return self.index.shape[1] == 1 and bool((self.weight == 1).all())


def _choice(site: Site, name: str, known: Sequence[str]) -> str:
    value = site.attr_str(name, known[0])
    if value not in known:
        raise UnsupportedError(f"node '{site.node.name}' (Resize): {name} '{value}' is not one of {', '.join(known)}")
    return value


@register
class Resize(Op):
    """See the module's text."""

    name = "Resize"
    tolerance = Tolerance(4e-6, 2e-5)

    # -- parameters -----------------------------------------------------------------------------------------------

    def _given(self, site: Site, index: int, what: str) -> Array | None:
        """Constant input `index`; None where it is left out or empty."""
        if not site.has(index) or site.type(index).size == 0:
            return None
        return site.need_const(index, what).ravel()

    def _own_axes(self, site: Site) -> tuple[int, ...]:
        rank = site.type(0).rank
        return distinct_axes(site, site.attr_ints("axes", range(rank)), rank)

    def _axes(self, site: Site) -> dict[int, _Axis]:
        """What happens along the axes that are resized. Raises ShapeError, UnsupportedError."""
        x, axes = site.type(0), self._own_axes(site)
        scales, sizes = self._given(site, 2, "scales"), self._given(site, 3, "sizes")
        if (scales is None) == (sizes is None):
            raise site.shape_error("it needs scales or sizes, and not both")
        given = scales if sizes is None else sizes
        assert given is not None
        if len(given) != len(axes) or not np.isfinite(given).all() or (given <= 0).any():
            raise site.shape_error(f"{given.tolist()} are no {'scales' if sizes is None else 'sizes'} of axes {list(axes)}")
        n = np.array([x.shape[axis] for axis in axes], np.float32)
        if scales is not None:
            factors: Array = scales.astype(np.float32)
            counts: Array = np.floor(n * factors)
        else:
            factors, counts = given.astype(np.float32) / n, given
            policy = _choice(site, "keep_aspect_ratio_policy", _POLICIES)
            if policy != "stretch":
                factors[:] = factors.min() if policy == "not_larger" else factors.max()
                counts = np.floor(n * factors + np.float32(0.5))
        ends = np.concatenate([np.zeros(len(axes)), np.ones(len(axes))])
        if self._cropped(site):
            roi = self._given(site, 1, "roi")
            if roi is None or len(roi) != 2 * len(axes) or not np.isfinite(roi).all():
                raise site.shape_error(f"tf_crop_and_resize needs roi with a start and an end for each of {len(axes)} axes")
            ends = roi
        rows = zip(axes, counts, factors, ends[: len(axes)], ends[len(axes) :], strict=True)
        return {
            axis: _Axis(x.shape[axis], int(count), np.float32(factor), np.float32(start), np.float32(end))
            for axis, count, factor, start, end in rows
        }

    def _cropped(self, site: Site) -> bool:
        return _choice(site, "coordinate_transformation_mode", _PLACES) == "tf_crop_and_resize"

    def _changed(self, site: Site) -> dict[int, _Axis]:
        return {axis: a for axis, a in self._axes(site).items() if not a.kept(self._cropped(site))}

    def _taps(self, site: Site, axis: _Axis) -> _Taps:
        """Neighbours and their weights for every output element of an axis."""
        kind, mode = (_choice(site, *row) for row in (("coordinate_transformation_mode", _PLACES), ("mode", _MODES)))
        places = axis.places(kind)
        lost = (places < 0) | (places > axis.n - 1) if self._cropped(site) else np.zeros(axis.count, bool)
        base = np.floor(places)
        if mode == "nearest":
            rounding = _choice(site, "nearest_mode", _NEAREST)
            if rounding == "ceil":
                base = np.ceil(places)
            elif rounding != "floor":
                rest = places - base
                base = base + (rest >= 0.5 if rounding == "round_prefer_ceil" else rest > 0.5)
            index, weight = base[:, None], np.ones((axis.count, 1))
        else:
            shrink = min(1.0, float(axis.scale)) if site.attr_int("antialias", 0) else 1.0
            reach = 1 if mode == "linear" else 2
            first = int(np.floor(-reach / shrink)) + 1
            steps = np.arange(first, 2 - first)
            index = base[:, None] + steps
            distance = np.abs(steps - (places - base)[:, None].astype(np.float64)) * shrink
            weight = (
                _keys(distance, site.attr_float("cubic_coeff_a", -0.75)) if mode == "cubic" else np.clip(1 - distance, 0, 1)
            )
            if site.attr_int("exclude_outside", 0):
                weight = np.where((index < 0) | (index >= axis.n), 0, weight)
            weight = weight / weight.sum(axis=1, keepdims=True)
        index = np.where(lost[:, None], 0, np.clip(index, 0, axis.n - 1)).astype(np.int64)
        start = np.where(lost, site.attr_float("extrapolation_value", 0.0), 0.0)
        return _Taps(index, np.where(lost[:, None], 0, weight), start)

    # -- the contract ---------------------------------------------------------------------------------------------

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x = site.type(0)
        if x.size == 0:
            raise site.shape_error(f"input {x} has no elements")
        axes = self._changed(site)
        if _choice(site, "mode", _MODES) != "nearest" or (self._cropped(site) and axes):
            require_f32(site, 0)
        elif site.attr_int("antialias", 0):
            raise UnsupportedError(f"node '{site.node.name}' (Resize): antialias belongs to modes linear and cubic")
        return (x.with_shape(tuple(axes[d].count if d in axes else n for d, n in enumerate(x.shape))),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        y = inputs[0]
        assert y is not None
        if site.out(0).size == 0:
            return (np.zeros(site.out(0).shape, y.dtype),)
        for d, axis in self._changed(site).items():
            taps = self._taps(site, axis)
            if taps.moves:
                y = np.take(y, taps.index[:, 0], d)
                continue
            near = np.moveaxis(np.take(y, taps.index, d), (d, d + 1), (-2, -1))
            y = np.moveaxis((near * taps.weight).sum(axis=-1) + taps.start, -1, d).astype(y.dtype)
        return (y,)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x, axes = only(site, streams), self._own_axes(site)
        if x.axis is None or x.axis not in axes:
            return Streamed((x,))
        if x.axis in self._changed(site):
            return self._repeated(site, x)
        if site.has(3) and _choice(site, "keep_aspect_ratio_policy", _POLICIES) != "stretch":
            raise site.not_streamable("it keeps the proportion to the length of the clip (keep_aspect_ratio_policy)")
        # the step has other frames than the clip, so time is none of the axes that are spoken of
        at = axes.index(x.axis)
        consts = {}
        for index, cut in ((1, [at, len(axes) + at]), (2, [at]), (3, [at])):
            value = self._given(site, index, "its parameters")
            if value is not None and len(value) > cut[-1]:
                consts[index] = np.delete(value, cut)
        return Streamed((x,), {"axes": tuple(a for a in axes if a != x.axis)}, consts)

    def _repeated(self, site: Site, x: StreamType) -> Streamed:
        """Time where every frame is repeated as often as frames were taken together before. Raises NotStreamableError."""
        assert x.axis is not None
        axes, time = self._axes(site), self._axes(site)[x.axis]
        taps, times = self._taps(site, time), time.count // time.n
        if not taps.moves or time.count != times * time.n or (taps.index[:, 0] != np.arange(time.count) // times).any():
            raise site.not_streamable("it resizes time, and not by repeating each frame")
        if x.stride % times:
            raise site.not_streamable(f"it makes {times} frames of each frame, which is {x.stride} input frames long")
        scales = np.array([axes[d].scale for d in self._own_axes(site)], np.float32)
        if any(int(np.floor(a.n * a.scale)) != a.count for a in axes.values()):
            raise site.not_streamable("it resizes time and, to given sizes, other axes")
        y = StreamType(x.axis, x.delay * times, x.stride // times)
        return Streamed((y,), consts={2: scales, 3: np.zeros(0, np.int64)} if site.has(3) else {})

    def lower(self, site: Site, low: Lowering) -> None:
        shape, axes = list(site.type(0).shape), self._changed(site)
        if not axes:
            low.view(0, 0)
            return
        y, x = low.output(0), low.input(0)
        if site.out(0).size == 0:
            return
        # what becomes smaller goes first, and of the others the last axis, where elements are moved one by one
        order = sorted(axes, key=lambda d: (axes[d].count >= axes[d].n, -d))
        for d in order:
            outer, n, inner = around(tuple(shape), d)
            shape[d] = axes[d].count
            to = y if d == order[-1] else low.scratch(y.dtype, prod(shape))
            self._resample(low, self._taps(site, axes[d]), (outer, n, inner), x, to)
            x = to

    def _resample(self, low: Lowering, taps: _Taps, sizes: tuple[int, int, int], x: Place, y: Place) -> None:
        (outer, n, inner), (count, width) = sizes, taps.index.shape
        if taps.moves:
            word = _WORDS[y.dtype.size]
            source, target = (Place(p.buffer, word, p.offset) for p in (x, y))
            kernel = kernels.pick.typed(x=word.pointer, y=word.pointer)
            low.call(kernel, *sizes[:2], count, inner, low.weight(taps.index[:, 0]), source, target, work=outer * count * inner)
            return
        tables = low.weight(taps.index), *(low.weight(t.astype(np.float32)) for t in (taps.weight, taps.start))
        work = outer * count * inner * width
        if inner == 1:
            low.call(kernels.resample_rows, outer, n, count, width, *tables, x, y, work=work)
        else:
            low.call(kernels.resample, outer, n, count, inner, width, *tables, x, y, work=work)


def _keys(distance: Array, a: float) -> Array:
    """Keys' polynomial of the distance."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
