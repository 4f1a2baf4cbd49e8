"""Pooling.

    MaxPool            the largest element of a sliding window; what pads is never the largest
    AveragePool        the mean of a sliding window; padding counts with count_include_pad = 1 only
    LpPool             (sum of |x|^p)^(1/p) over a sliding window
    GlobalMaxPool, GlobalAveragePool, GlobalLpPool   over all spatial axes

Input       X [N, C, spatial...]: one to three spatial dimensions are compiled (any number for the global pools).
Output      Y; MaxPool also gives Indices, int64: where in X, counted over all of its elements, each largest one lies.
Attributes  kernel_shape, strides, dilations, pads, auto_pad, ceil_mode; count_include_pad (0); p (2); storage_order (0; 1:
            Indices count the first spatial axis fastest).
Source      onnx.ai/onnx/operators/onnx__MaxPool.html, onnx__AveragePool.html, onnx__LpPool.html.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Apply, Lowering, Place, Register
from streamrnn.ir.op import Op, Site, Streamed, Tolerance, register, register_instance
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import pool as kernels
from streamrnn.kernels import scalar
from streamrnn.ops._moves import contiguous
from streamrnn.ops._spatial import Spatial, over_time, require_f32, spatial
from streamrnn.ops._time import only
from streamrnn.ops.reduce import ROWS, Row, lower_reduction

#: spatial dimensions that the kernels have
_DIMS = 3
#: elements that all windows of a node may meet
_MOST = 1 << 28
#: element types of MaxPool
_ORDERED = (DType.F32, DType.F64, DType.I8, DType.U8)


class Pool(Op):
    """A sliding window."""

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        require_f32(site, 0)
        return (self._shaped(site),)

    def _shaped(self, site: Site) -> TensorType:
        x, s = site.type(0), self._window(site)
        spans = [(k - 1) * d + 1 for k, d in zip(s.kernel, s.dilations, strict=True)]
        if any(max(pads) >= span for *pads, span in zip(s.begin, s.end, spans, strict=True)):
            raise site.shape_error(
                f"pads {s.begin + s.end} are as large as the window {s.kernel}, which would see nothing else"
            )
        y = x.with_shape((*x.shape[:2], *s.out))
        if y.size * prod(s.kernel) > _MOST:
            raise UnsupportedError(
                f"node '{site.node.name}' ({self.name}): its windows {s.kernel} meet more than {_MOST} elements"
            )
        return y

    def _window(self, site: Site) -> Spatial:
        return spatial(site, site.attr_ints("kernel_shape", ()))

    def _counts_padding(self, site: Site) -> bool:
        return False

    def _taps(self, site: Site, x: Array) -> tuple[Array, Array]:
        """[tap, ...]: what each window meets, and whether that counts."""
        s = self._window(site)
        around = [(0, 0), (0, 0), *zip(s.begin, s.end, strict=True)]
        # what ceil_mode reaches behind the padding is never part of a window
        beyond = [(0, 0), (0, 0), *((0, k * d + step) for k, d, step in zip(s.kernel, s.dilations, s.strides, strict=True))]
        counted = np.pad(np.ones(x.shape, bool), around, constant_values=self._counts_padding(site))
        inside = np.pad(counted, beyond)
        padded = np.pad(np.pad(x, around), beyond)
        taps = [seen for _, seen in s.taps()]
        return np.stack([padded[t] for t in taps]), np.stack([inside[t] for t in taps])

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is None or x.axis < 2:
            return Streamed((x,))
        window = self._window(site)
        self._check_time(site, window, x.axis - 2)
        return over_time(site, x, window, self._fill(site))

    def _fill(self, site: Site) -> float:
        """What a window meets before the first frame of a stream."""
        return 0.0

    def _check_time(self, site: Site, window: Spatial, d: int) -> None:
        """NotStreamableError where the window over spatial axis d has no counterpart in a stream."""

    @abstractmethod
    def lower(self, site: Site, low: Lowering) -> None: ...

    def _sizes(self, site: Site) -> tuple[int, ...]:
        """What the kernels take up to `left`. Raises UnsupportedError."""
        s, x = self._window(site), site.type(0)
        missing = _DIMS - len(s.kernel)
        if missing < 0:
            raise UnsupportedError(
                f"node '{site.node.name}' ({self.name}): {len(s.kernel)} spatial dimensions; up to {_DIMS} are supported"
            )
        rows = (x.shape[2:], s.out, s.kernel, s.strides, s.dilations)
        ones = [n for row in rows for n in (*(1,) * missing, *row)]
        return (prod(x.shape[:2]), *ones, *(0,) * missing, *s.begin)

    def _work(self, site: Site) -> int:
        return site.out(0).size * prod(self._window(site).kernel)

    def _lower_row(self, site: Site, low: Lowering, row: Row, x: Place, y: Place) -> None:
        s, counted = self._window(site), self._counts_padding(site)
        kernel = kernels.pool.bind(combine=row.combine, start=row.start, finish=row.finish)
        behind = [0] * (_DIMS - len(s.end)) + [n if counted else 0 for n in s.end]
        low.call(kernel, *self._sizes(site), *behind, int(counted), x, y, work=self._work(site))


@register
class MaxPool(Pool):
    """See the module's text."""

    name = "MaxPool"

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        if site.type(0).dtype not in _ORDERED:
            known = ", ".join(d.value for d in _ORDERED)
            raise UnsupportedError(
                f"node '{site.node.name}' (MaxPool): {site.type(0).dtype.value} is not supported, only {known}"
            )
        y = self._shaped(site)
        return y, TensorType(DType.I64, y.shape)

    def _indexed(self, site: Site) -> bool:
        return len(site.node.outputs) > 1 and bool(site.node.outputs[1])

    def _fill(self, site: Site) -> float:
        return float(self._lowest(site.type(0).dtype.numpy))

    def _lowest(self, dtype: np.dtype[Any]) -> Array:
        return np.array(-np.inf if dtype.kind == "f" else np.iinfo(dtype).min, dtype)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x = inputs[0]
        assert x is not None
        values, inside = self._taps(site, x)
        best = np.where(inside, values, self._lowest(x.dtype)).argmax(axis=0)[None]
        steps = contiguous(x.shape[2:]) if not site.attr_int("storage_order", 0) else contiguous(x.shape[:1:-1])[::-1]
        within = sum((np.indices(x.shape[2:])[d] * step for d, step in enumerate(steps)), np.zeros(x.shape[2:], np.int64))
        planes = np.arange(prod(x.shape[:2])).reshape(*x.shape[:2], *(1 for _ in x.shape[2:]))
        where, _ = self._taps(site, planes * prod(x.shape[2:]) + within)
        return np.take_along_axis(values, best, 0)[0], np.take_along_axis(where, best, 0)[0]

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        rule = super().stream(site, streams)
        x = only(site, streams)
        if self._indexed(site) and x.axis is not None:
            raise site.not_streamable("its Indices count the elements of the whole clip")
        return Streamed((*rule.outputs, x), rule.attrs, before=rule.before) if self._indexed(site) else rule

    def lower(self, site: Site, low: Lowering) -> None:
        x = site.type(0)
        if x.dtype is DType.F32 and not low.wanted(1):
            self._lower_row(site, low, ROWS["ReduceMax"], low.input(0), low.output(0))
            return
        pointer = x.dtype.pointer
        kernel = kernels.largest.typed(lowest=pointer, x=pointer, y=pointer)
        lowest = low.weight(self._lowest(x.dtype.numpy).reshape(1))
        turned = site.attr_int("storage_order", 0)
        places = lowest, low.input(0), low.output(0), low.output(1)
        low.call(kernel, *self._sizes(site), turned, *places, work=self._work(site))


@register
class AveragePool(Pool):
    """See the module's text."""

    name = "AveragePool"
    tolerance = Tolerance(2e-6, 2e-5)

    def _counts_padding(self, site: Site) -> bool:
        return bool(site.attr_int("count_include_pad", 0))

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        assert inputs[0] is not None
        values, inside = self._taps(site, inputs[0])
        return (np.asarray(np.where(inside, values, 0).sum(axis=0) / inside.sum(axis=0)),)

    def _check_time(self, site: Site, window: Spatial, d: int) -> None:
        if not self._counts_padding(site) and (window.begin[d] or window.end[d]):
            raise site.not_streamable(
                "it averages over fewer frames at the ends of the clip (padding over time with count_include_pad 0)"
            )

    def lower(self, site: Site, low: Lowering) -> None:
        self._lower_row(site, low, ROWS["ReduceMean"], low.input(0), low.output(0))


def _power(site: Site) -> float:
    """Attribute p. Raises UnsupportedError."""
    p = site.attr_float("p", 2.0)
    if not 1 <= p < np.inf:
        raise UnsupportedError(f"node '{site.node.name}' ({site.node.op}): p {p:g} is not 1 or more")
    return p


def _raised(p: float) -> list[Apply]:
    """|x|^p"""
    if p == 2:
        return [Apply(scalar.mul, (Register(0), Register(0)))]
    size = Apply(scalar.abs_real, (Register(0),))
    return [size] if p == 1 else [size, Apply(scalar.power, (Register(1), p))]


def _root(p: float) -> list[Apply]:
    """x^(1/p)"""
    if p == 2:
        return [Apply(scalar.sqrt, (Register(0),))]
    return [] if p == 1 else [Apply(scalar.power, (Register(0), 1 / p))]


@register
class LpPool(Pool):
    """See the module's text."""

    name = "LpPool"
    tolerance = Tolerance(2e-6, 2e-5)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        _power(site)
        return super().infer(site)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        assert inputs[0] is not None
        values, inside = self._taps(site, inputs[0])
        p = _power(site)
        return (np.asarray(np.where(inside, np.abs(values) ** p, 0).sum(axis=0) ** (1 / p)),)

    def lower(self, site: Site, low: Lowering) -> None:
        x, y, p = site.type(0), site.out(0), _power(site)
        raised, total = (low.scratch(DType.F32, n) for n in (x.size, y.size))
        low.loop((x.size,), [(low.input(0), (1,))], _raised(p), raised)
        self._lower_row(site, low, ROWS["ReduceSum"], raised, total)
        low.loop((y.size,), [(total, (1,))], _root(p), low.output(0))


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


class GlobalLpPool(GlobalPool):
    """The sum of |x|^p, then the root."""

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        _power(site)
        return super().infer(site)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, p = inputs[0], _power(site)
        assert x is not None
        return (np.asarray((np.abs(x) ** p).sum(axis=tuple(range(2, x.ndim)), keepdims=True) ** (1 / p)),)

    def lower(self, site: Site, low: Lowering) -> None:
        x, y, p = site.type(0), site.out(0), _power(site)
        raised, total = (low.scratch(DType.F32, n) for n in (x.size, y.size))
        low.loop((x.size,), [(low.input(0), (1,))], _raised(p), raised)
        lower_reduction(self.row, low, [(y.size, prod(x.shape[2:]), 1)], raised, total)
        low.loop((y.size,), [(total, (1,))], _root(p), low.output(0))


register_instance(GlobalPool("GlobalMaxPool", ROWS["ReduceMax"]), "GlobalMaxPool")
register_instance(GlobalPool("GlobalAveragePool", ROWS["ReduceMean"]), "GlobalAveragePool")
register_instance(GlobalLpPool("GlobalLpPool", ROWS["ReduceSum"]), "GlobalLpPool")
