"""ConvTranspose.

    Y[b, m, p] = B[m] + sum over c, i, k with i stride + k dilation - pad = p of X[b, g C/G + c, i] W[g C/G + c, m - g M/G, k]

Inputs  X [N, C, spatial...], W [C, M/group, kernel...], B [M] (optional); constant W and B.
Output  Y [N, M, spatial...]; (size - 1) stride + output_padding + (kernel - 1) dilation + 1 - both pads along an axis.
Source  onnx.ai/onnx/operators/onnx__ConvTranspose.html. Up to three spatial dimensions are compiled, any number has
        a reference.

The outputs `stride` apart along an axis (a phase) meet the same taps of the filter, so each combination of phases is an
ordinary convolution of stride 1 by those taps, backwards: every output is gathered once, nothing is scattered or stuffed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array, Attr
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, Tolerance, register
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ops._depth import Depth, lower_deep
from streamrnn.ops._filters import Filters, check_dimensions, lower_filters, pair
from streamrnn.ops._spatial import Spatial, require_f32, window_attrs
from streamrnn.ops._time import only


@register
class ConvTranspose(Op):
    """See the module's text."""

    name = "ConvTranspose"
    tolerance = Tolerance(2e-6, 2e-5)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        require_f32(site, 0, 1, 2)
        window = self._window(site)
        x, w, groups = site.type(0), site.type(1), site.attr_int("group", 1)
        if groups < 1 or x.shape[1] != w.shape[0] or w.shape[0] % groups:
            raise site.shape_error(f"W {w} does not fit {x.shape[1]} channels in {groups} groups")
        if site.has(2) and site.type(2).shape != (w.shape[1] * groups,):
            raise site.shape_error(f"B {site.type(2)} should have {w.shape[1] * groups} elements")
        return (x.with_shape((x.shape[0], w.shape[1] * groups, *window.out)),)

    def _window(self, site: Site) -> Spatial:
        """Sizes and pads, auto_pad and output_shape resolved. An end below 0 adds elements that no window meets."""
        kernel, strides, dilations, pads = window_attrs(site, site.type(1).shape[2:])
        rank = len(kernel)
        extra = site.attr_ints("output_padding", (0,) * rank)
        wanted = site.attr_ints("output_shape", ())
        if len(extra) != rank or min(extra) < 0 or len(wanted) not in (0, rank):
            raise site.shape_error(f"output_padding {extra} and output_shape {wanted} do not fit {rank} spatial dimensions")
        mode = site.attr_str("auto_pad", "NOTSET")
        if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
            raise UnsupportedError(f"node '{site.node.name}' ({self.name}): auto_pad '{mode}' is not a mode of ONNX")
        begin, end, out = [], [], []
        for d, size in enumerate(site.type(0).shape[2:]):
            full = (size - 1) * strides[d] + (kernel[d] - 1) * dilations[d] + 1
            if wanted or mode.startswith("SAME"):
                count = wanted[d] if wanted else size * strides[d]
                total = max(0, full + extra[d] - count)
                first = total // 2 if mode == "SAME_UPPER" else total - total // 2
            else:
                first, last = (0, 0) if mode == "VALID" else (pads[d], pads[rank + d])
                count = full + extra[d] - first - last
            if count < 1 or size < 1:
                raise site.shape_error(f"axis {d + 2} has {size} elements before and {count} after; at least 1 is needed")
            begin.append(first)
            end.append(full - first - count)
            out.append(count)
        return Spatial(kernel, strides, dilations, tuple(begin), tuple(end), tuple(out))

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, w, bias = (*inputs, None)[:3]
        assert x is not None
        assert w is not None
        s, groups = self._window(site), site.attr_int("group", 1)
        sizes = x.shape[2:]
        spans = [
            (n - 1) * step + (k - 1) * d + 1 for n, step, k, d in zip(sizes, s.strides, s.kernel, s.dilations, strict=True)
        ]
        whole = slice(None)
        full = np.zeros((x.shape[0], groups, w.shape[1], *spans), x.dtype)
        grouped = x.reshape(x.shape[0], groups, -1, *sizes)
        filters = w.reshape(groups, -1, w.shape[1], *s.kernel)
        for tap in np.ndindex(*s.kernel):
            first = [k * d for k, d in zip(tap, s.dilations, strict=True)]
            met = tuple(slice(f, f + (n - 1) * g + 1, g) for f, n, g in zip(first, sizes, s.strides, strict=True))
            full[(whole, whole, whole, *met)] += np.einsum("bgc...,gcm->bgm...", grouped, filters[(..., *tap)])
        full = np.pad(full, [(0, 0)] * 3 + [(0, max(0, -e)) for e in s.end])
        cut = full[(whole, whole, whole, *(slice(b, b + n) for b, n in zip(s.begin, s.out, strict=True)))]
        y = cut.reshape(x.shape[0], -1, *s.out)
        return (y if bias is None else y + bias.reshape(-1, *(1 for _ in s.out)),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis == 1:
            raise site.not_streamable("sums over time, which runs along its input channels")
        if x.axis is None or x.axis == 0:
            return Streamed((x,))
        s, d = self._window(site), x.axis - 2
        stride, span = s.strides[d], (s.kernel[d] - 1) * s.dilations[d] + 1
        if "output_shape" in site.node.attrs:
            raise site.not_streamable("output_shape fixes the length of the whole clip")
        if x.stride % stride:
            raise site.not_streamable(
                f"gives {stride} frames of output for each frame of input, which come once in {x.stride} frames of the clip"
            )
        # frame u = i stride + phase, counted before the pads are cut off, meets input frames i - history .. i
        history = (span - 1) // stride
        y = StreamType(x.axis, x.delay * stride + s.begin[d], x.stride // stride)

        def changed(values: tuple[int, ...], value: int) -> tuple[int, ...]:
            return (*values[:d], value, *values[d + 1 :])

        end = changed(s.end, span - stride)
        attrs: Mapping[str, Attr] = {
            "auto_pad": "NOTSET",
            "pads": changed(s.begin, history * stride) + tuple(max(0, n) for n in end),
            "output_padding": tuple(max(0, -n) for n in end),
        }
        if history == 0:
            return Streamed((y,), attrs)
        window = {"axis": x.axis, "taps": history + 1, "dilation": 1, "stride": 0, "history": history, "fill": 0.0}
        return Streamed((y,), attrs, before=("Window", window))

    def lower(self, site: Site, low: Lowering) -> None:
        W, window, groups = site.need_const(1, "W"), self._window(site), site.attr_int("group", 1)
        check_dimensions(site, window, 3)
        channels = W.shape[1] * groups
        bias = site.need_const(2, "B") if site.has(2) else np.zeros(channels, np.float32)
        x = site.type(0).shape
        size, out = pair(x[2:], 1), pair(window.out, 1)
        area = out[0] * out[1]
        taps = W.reshape(groups, -1, *W.shape[1:]).swapaxes(1, 2)
        whole = Filters(
            x[0], size, out, (1, 1), (1, 1), (0, 0), (size[1], 1), (channels * area, area, out[1], 1), 0,
            taps.reshape(*taps.shape[:2], -1, *pair(window.kernel, 1)), bias,
        )  # fmt: skip
        axes = zip(
            pair(window.kernel, 1), pair(window.strides, 1), pair(window.dilations, 1), pair(window.begin, 0), out, strict=True
        )
        phases = [list(_phases(*axis)) for axis in axes]
        if len(window.kernel) < 3:
            lower_filters([_part(whole, *row_column) for row_column in itertools.product(*phases)], low, low.input(0))
            return
        for p in _phases(*(s[0] for s in (window.kernel, window.strides, window.dilations, window.begin, window.out))):
            # where no tap meets anything, one that is zero does
            met = taps[:, :, :, list(p.taps)] if p.taps else np.zeros_like(taps[:, :, :, :1])
            flat = replace(whole, W=met.reshape(*met.shape[:2], -1, *met.shape[4:]))
            depth = Depth(x[2], p.count, 1, met.shape[3], p.dilation, p.begin, window.out[0], p.first, p.stride)
            lower_deep(site, low, depth, [_part(flat, *row_column) for row_column in itertools.product(*phases)])


@dataclass(frozen=True)
class _Phase:
    """The outputs first, first + stride, ... along an axis (`count` of them): a convolution of stride 1 by `taps` of the
    filter, in order of the input they meet, `dilation` apart, the first of them `begin` before the input."""

    first: int
    stride: int
    count: int
    taps: tuple[int, ...]
    dilation: int
    begin: int


def _phases(kernel: int, stride: int, dilation: int, pad: int, out: int) -> Iterator[_Phase]:
    for first in range(min(stride, out)):
        at, phase = divmod(first + pad, stride)
        taps = [k for k in reversed(range(kernel)) if k * dilation % stride == phase]
        begin = (taps[0] * dilation - phase) // stride - at if taps else 0
        count = (out - 1 - first) // stride + 1
        yield _Phase(first, stride, count, tuple(taps), dilation // math.gcd(dilation, stride), begin)


def _part(whole: Filters, row: _Phase, column: _Phase) -> Filters:
    """The part of a transposed convolution that one phase of the rows and one of the columns make."""
    batch, channel, y_row, y_column = whole.y_steps
    return replace(
        whole,
        out=(row.count, column.count),
        dilations=(row.dilation, column.dilation),
        begin=(row.begin, column.begin),
        y_steps=(batch, channel, y_row * row.stride, y_column * column.stride),
        y_start=row.first * y_row + column.first * y_column,
        W=whole.W[:, :, :, list(row.taps)][..., list(column.taps)],
    )
