"""Pooling.

    MaxPool            the largest element of a sliding window; what pads is never the largest
    AveragePool        the mean of a sliding window; padding counts with count_include_pad = 1 only
    GlobalMaxPool, GlobalAveragePool   over all spatial axes

Input   X [N, C, spatial...]: one or two spatial dimensions are compiled (any number for the global pools).
Source  onnx.ai/onnx/operators/onnx__MaxPool.html, onnx__AveragePool.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, Tolerance, register, register_instance
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.kernels import reduce as kernels
from streamrnn.ops._spatial import Spatial, over_time, require_f32, spatial
from streamrnn.ops._time import only
from streamrnn.ops.reduce import ROWS, Row, lower_reduction


@register
class MaxPool(Op):
    """See the module's text."""

    name = "MaxPool"
    fill = -np.inf

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        require_f32(site, 0)
        if len(site.node.outputs) > 1 and site.node.outputs[1]:
            raise UnsupportedError(f"node '{site.node.name}' ({self.name}): its output Indices is not supported")
        x = site.type(0)
        return (x.with_shape((*x.shape[:2], *self._window(site).out)),)

    def _window(self, site: Site) -> Spatial:
        return spatial(site, site.attr_ints("kernel_shape", ()))

    def _counts_padding(self, site: Site) -> bool:
        return False

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, s = inputs[0], self._window(site)
        assert x is not None
        around = [(0, 0), (0, 0), *zip(s.begin, s.end, strict=True)]
        # what ceil_mode reaches behind the padding is never part of a window
        beyond = [(0, 0), (0, 0), *((0, k * d + step) for k, d, step in zip(s.kernel, s.dilations, s.strides, strict=True))]
        counted = np.pad(np.ones(x.shape, bool), around, constant_values=self._counts_padding(site))
        inside = np.pad(np.pad(np.ones(x.shape, bool), around) | counted, beyond)
        padded = np.pad(np.pad(x, around), beyond)
        taps = [seen for _, seen in s.taps()]
        return (self._combined(np.stack([padded[t] for t in taps]), np.stack([inside[t] for t in taps])),)

    def _combined(self, values: Array, inside: Array) -> Array:
        return np.asarray(np.where(inside, values, -np.inf).max(axis=0))

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is None or x.axis < 2:
            return Streamed((x,))
        window = self._window(site)
        self._check_time(site, window, x.axis - 2)
        return over_time(site, x, window, self.fill)

    def _check_time(self, site: Site, window: Spatial, d: int) -> None:
        pass

    def _row(self) -> Row:
        return ROWS["ReduceMax"]

    def lower(self, site: Site, low: Lowering) -> None:
        s, x = self._window(site), site.type(0)
        if len(s.kernel) > 2:
            raise UnsupportedError(
                f"node '{site.node.name}' ({self.name}): {len(s.kernel)} spatial dimensions; one and two are supported"
            )
        one = (1,) * (2 - len(s.kernel))
        zero = (0,) * len(one)
        counted = self._counts_padding(site)
        row = self._row()
        low.call(
            kernels.pool.bind(combine=row.combine, start=row.start, finish=row.finish),
            prod(x.shape[:2]), *one, *x.shape[2:], *one, *s.out, *one, *s.kernel, *one, *s.strides, *one, *s.dilations,
            *zero, *s.begin, *zero, *(s.end if counted else (0,) * len(s.end)), int(counted), low.input(0), low.output(0),
            work=prod(x.shape[:2]) * prod(s.out) * prod(s.kernel),
        )  # fmt: skip


@register
class AveragePool(MaxPool):
    """See the module's text."""

    name = "AveragePool"
    tolerance = Tolerance(2e-6, 2e-5)
    fill = 0.0

    def _counts_padding(self, site: Site) -> bool:
        return bool(site.attr_int("count_include_pad", 0))

    def _combined(self, values: Array, inside: Array) -> Array:
        return np.asarray(np.where(inside, values, 0).sum(axis=0) / inside.sum(axis=0))

    def _check_time(self, site: Site, window: Spatial, d: int) -> None:
        if not self._counts_padding(site) and (window.begin[d] or window.end[d]):
            raise site.not_streamable(
                "it averages over fewer frames at the ends of the clip (padding over time with count_include_pad 0)"
            )

    def _row(self) -> Row:
        return ROWS["ReduceMean"]


class GlobalPool(Op):
    """A reduction over all spatial axes that keeps them."""

    def __init__(self, name: str, row: Row) -> None:
        self.name = name  # type: ignore[misc]
        self.row = row

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        require_f32(site, 0)
        x = site.type(0)
        if x.rank < 3:
            raise site.shape_error(f"input {x} should be [N, C, spatial...]")
        return (x.with_shape((*x.shape[:2], *(1 for _ in x.shape[2:]))),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x = inputs[0]
        assert x is not None
        return (np.asarray(self.row.numpy(x, tuple(range(2, x.ndim)), True)),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is not None and x.axis >= 2:
            raise site.not_streamable("it pools over time, so it needs the whole clip")
        return Streamed((x,))

    def lower(self, site: Site, low: Lowering) -> None:
        shape = site.type(0).shape
        lower_reduction(self.row, low, [(prod(shape[:2]), prod(shape[2:]), 1)], low.input(0), low.output(0))


register_instance(GlobalPool("GlobalMaxPool", ROWS["ReduceMax"]), "GlobalMaxPool")
register_instance(GlobalPool("GlobalAveragePool", ROWS["ReduceMean"]), "GlobalAveragePool")
