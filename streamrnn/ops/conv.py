"""Conv.

    Y[b, m, p] = B[m] + sum over c, k of W[m, c, k] X[b, g C/G + c, p stride + k dilation - pad]     g = m / (M/G), zero outside

Inputs  X [N, C, spatial...], W [M, C/group, kernel...], B [M] (optional); constant W and B.
Output  Y [N, M, spatial...].
Source  onnx.ai/onnx/operators/onnx__Conv.html. One and two spatial dimensions are compiled, any number has a reference.

A 1-D convolution is one of height 1. Where the input must be padded, or ordered otherwise for the kernel, it is copied first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.op import Op, Site, Streamed, Tolerance, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import conv
from streamrnn.kernels._jit import Device
from streamrnn.kernels.simd import LANES, tiles
from streamrnn.ops._recurrent import pack_lanes
from streamrnn.ops._spatial import Spatial, over_time, require_f32, spatial
from streamrnn.ops._time import only


@register
class Conv(Op):
    """See the module's text."""

    name = "Conv"
    tolerance = Tolerance(2e-6, 2e-5)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        require_f32(site, 0, 1, 2)
        window = self._window(site)
        x, w, groups = site.type(0), site.type(1), site.attr_int("group", 1)
        if groups < 1 or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
            raise site.shape_error(f"W {w} does not fit {x.shape[1]} channels in {groups} groups")
        if site.has(2) and site.type(2).shape != w.shape[:1]:
            raise site.shape_error(f"B {site.type(2)} should have {w.shape[0]} elements")
        return (x.with_shape((x.shape[0], w.shape[0], *window.out)),)

    def _window(self, site: Site) -> Spatial:
        return spatial(site, site.type(1).shape[2:])

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, w, bias = (*inputs, None)[:3]
        assert x is not None
        assert w is not None
        s, groups = self._window(site), site.attr_int("group", 1)
        padded = np.pad(x, [(0, 0), (0, 0), *zip(s.begin, s.end, strict=True)])
        filters = w.reshape(groups, -1, *w.shape[1:])
        y = np.zeros((x.shape[0], groups, filters.shape[1], *s.out), x.dtype)
        for tap, seen in s.taps():
            met = padded[seen].reshape(x.shape[0], groups, w.shape[1], *s.out)
            here = filters.reshape(*filters.shape[:3], -1)[..., np.ravel_multi_index(tap, s.kernel)]
            y += np.einsum("bgc...,gmc->bgm...", met, here)
        y = y.reshape(x.shape[0], w.shape[0], *s.out)
        return (y if bias is None else y + bias.reshape(-1, *(1 for _ in s.out)),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis == 1:
            raise site.not_streamable("sums over time, which runs along its input channels")
        if x.axis is None or x.axis == 0:
            return Streamed((x,))
        return over_time(site, x, self._window(site), 0.0)

    def lower(self, site: Site, low: Lowering) -> None:
        W = site.need_const(1, "W")
        bias = site.need_const(2, "B") if site.has(2) else np.zeros(W.shape[0], np.float32)
        filters = _Filters.of(site, self._window(site), W, bias)
        _, lower = min(_WAYS, key=lambda way: way[0](filters))
        lower(filters, low)


@dataclass(frozen=True)
class _Filters:
    """A convolution over rows and columns. Pairs are (rows, columns).

    x_steps: distance in X between rows, between columns. y_steps: likewise in Y; neighbouring columns of Y are neighbours in
    memory unless there is one column. W is [groups, channels out per group, channels in per group, rows, columns].
    """

    batch: int
    size: tuple[int, int]
    out: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    begin: tuple[int, int]
    end: tuple[int, int]
    x_steps: tuple[int, int]
    W: Array
    bias: Array

    @staticmethod
    def of(site: Site, s: Spatial, W: Array, bias: Array) -> _Filters:
        """The filters of a node. Raises UnsupportedError where it has more than two spatial dimensions."""
        if len(s.kernel) > 2:
            raise UnsupportedError(
                f"node '{site.node.name}' (Conv): {len(s.kernel)} spatial dimensions; one and two are supported, "
                f"bring the others into the batch"
            )
        x, groups = site.type(0).shape, site.attr_int("group", 1)

        def pair(values: Sequence[int], one: int) -> tuple[int, int]:
            return (one, values[0]) if len(values) == 1 else (values[0], values[1])

        size, out = pair(x[2:], 1), pair(s.out, 1)
        found = _Filters(
            x[0], size, out, pair(s.strides, 1), pair(s.dilations, 1), pair(s.begin, 0), pair(s.end, 0), (size[1], 1),
            W.reshape(groups, W.shape[0] // groups, W.shape[1], *pair(s.kernel, 1)), bias,
        )  # fmt: skip
        if found.W.shape[3:] == found.strides == (1, 1) and not found.padded:
            area = found.area
            return replace(found, size=(1, area), out=(1, area), x_steps=(area, 1))
        return found.turned() if out[1] == 1 and out[0] > 1 else found

    def turned(self) -> _Filters:
        """The same with rows and columns exchanged."""
        pairs = ("size", "out", "strides", "dilations", "begin", "end", "x_steps")
        return replace(self, W=self.W.swapaxes(3, 4), **{name: getattr(self, name)[::-1] for name in pairs})

    @property
    def groups(self) -> int:
        return int(self.W.shape[0])

    @property
    def per_group(self) -> int:
        """Output channels of a group."""
        return int(self.W.shape[1])

    @property
    def inputs(self) -> int:
        """All input channels."""
        return self.groups * int(self.W.shape[2])

    @property
    def channels(self) -> int:
        """All output channels."""
        return self.groups * self.per_group

    @property
    def products(self) -> int:
        """Products that make one output element."""
        return int(self.W[0, 0].size)

    @property
    def positions(self) -> int:
        return self.batch * self.out[0] * self.out[1]

    @property
    def full(self) -> tuple[int, int]:
        """Rows and columns with padding."""
        return self.size[0] + self.begin[0] + self.end[0], self.size[1] + self.begin[1] + self.end[1]

    @property
    def area(self) -> int:
        """Positions of an input channel with padding."""
        return self.full[0] * self.full[1]

    @property
    def padded(self) -> bool:
        return self.full != self.size

    @property
    def work(self) -> int:
        """Multiply-adds."""
        return self.positions * self.channels * self.products

    @property
    def y_steps(self) -> tuple[int, int, int]:
        """Distance in Y between batch entries, channels, rows."""
        area = self.out[0] * self.out[1]
        return self.channels * area, area, self.out[1]

    def rows(self) -> Array:
        """[group, 1 + products, channel]: the bias, then one row for each product."""
        products = self.W.reshape(self.groups, self.per_group, -1)
        return np.concatenate([self.bias.reshape(self.groups, -1, 1), products], axis=2).swapaxes(1, 2)

    def offsets(self, lay: _Layout, channel: int) -> Array:
        """Distance of each product's input from that of the first, with `channel` elements between input channels."""
        c, i, j = np.indices(self.W.shape[2:])
        row, column = i * self.dilations[0], j * self.dilations[1]
        return np.asarray(c * channel + row * lay.row + column % lay.split * lay.phase + column // lay.split * lay.col).ravel()


@dataclass(frozen=True)
class _Layout:
    """How the input lies: element (batch, channel, row, column) at batch * self.batch + channel * self.channel + row *
    self.row + column % split * phase + column // split * col."""

    batch: int
    channel: int
    row: int
    col: int
    split: int = 1
    phase: int = 0

    @staticmethod
    def given(f: _Filters) -> _Layout:
        """As X comes."""
        area = f.size[0] * f.size[1]
        return _Layout(f.inputs * area, area, *f.x_steps)


def _placed(f: _Filters, low: Lowering, lay: _Layout, channels: int, share: int) -> Place:
    """A padded copy of X in another layout; `share` of its `channels` channels repeat one of X."""
    size = f.batch * lay.batch
    y = low.scratch(DType.F32, size)
    low.call(
        conv.place, f.batch, channels, share, *f.size, *f.begin, lay.split, size,
        *f.x_steps, lay.batch, lay.channel, lay.row, lay.phase, lay.col, low.input(0), y,
        work=f.batch * channels * f.area,
    )  # fmt: skip
    return y


# -- three ways: which kernel, on an input that lies how. Costs are in vector multiply-adds and elements moved one by one. ----


def _channels_cost(f: _Filters) -> float:
    moved = (f.channels * f.positions if f.out != (1, 1) else 0) + (f.batch * f.inputs * f.area if f.padded else 0)
    return f.groups * tiles(f.per_group) * f.positions * (f.products + _SUM) + moved


def _by_channels(f: _Filters, low: Lowering) -> None:
    """Lanes are output channels of one group."""
    if f.padded:
        rows, columns = f.full
        lay = _Layout(f.inputs * rows * columns, rows * columns, columns, 1)
        x = _placed(f, low, lay, f.inputs, 1)
    else:
        lay, x = _Layout.given(f), low.input(0)
    offsets = f.offsets(lay, lay.channel)
    read = conv.adjacent if np.array_equal(offsets, np.arange(f.products)) else conv.scattered
    w = np.concatenate([pack_lanes(group).ravel() for group in f.rows()])
    _call_channels(f, low, lay, (f.groups, f.per_group, f.W.shape[2] * lay.channel), (read, w, offsets, x))


def _depthwise_cost(f: _Filters) -> float:
    if f.W.shape[2] != 1:
        return math.inf
    moved = (f.channels * f.positions if f.out != (1, 1) else 0) + f.batch * f.channels * f.area
    return tiles(f.channels) * f.positions * (f.products + _SUM) + moved


def _by_own_channels(f: _Filters, low: Lowering) -> None:
    """Lanes are output channels, each with an input channel of its own: groups of one input channel."""
    rows, columns = f.full
    lanes = tiles(f.channels) * LANES
    lay = _Layout(rows * columns * lanes, 1, columns * lanes, lanes)
    x = _placed(f, low, lay, f.channels, f.per_group)
    w = pack_lanes(f.rows().swapaxes(0, 1).reshape(1 + f.products, f.channels)).ravel()
    _call_channels(f, low, lay, (tiles(f.channels), LANES, LANES), (conv.own_channel, w, f.offsets(lay, 0), x))


def _call_channels(
    f: _Filters, low: Lowering, lay: _Layout, group: tuple[int, int, int], data: tuple[Device, Array, Array, Place]
) -> None:
    """group: how many, output channels of one, elements of x between two. data: reader, weights, offsets, x."""
    read, w, offsets, x = data
    groups, per_group, x_group = group
    low.call(
        conv.conv_channels.bind(operand=read),
        f.batch, groups, per_group, f.channels, f.products, *f.out,
        lay.batch, x_group, f.strides[0] * lay.row, f.strides[1] * lay.col, *f.y_steps,
        low.weight(w), low.weight(offsets), x, low.output(0), low.scratch(DType.F32, LANES), work=f.work,
    )  # fmt: skip


def _positions_cost(f: _Filters) -> float:
    if f.out[1] < LANES:
        return math.inf
    moved = f.batch * f.inputs * f.area if f.padded or f.strides[1] > 1 or f.x_steps[1] > 1 else 0
    return f.channels * f.batch * f.out[0] * tiles(f.out[1]) * (f.products + _SUM) + moved


def _by_positions(f: _Filters, low: Lowering) -> None:
    """Lanes are neighbouring positions of a row."""
    lay, x = _Layout.given(f), low.input(0)
    if f.padded or f.strides[1] > 1 or f.x_steps[1] > 1:
        (rows, columns), split = f.full, f.strides[1]
        phase = -(-columns // split)
        lay = _Layout(f.inputs * rows * split * phase, rows * split * phase, split * phase, 1, split, phase)
        x = _placed(f, low, lay, f.inputs, 1)
    whole = f.per_group - f.per_group % 4
    packed: list[Array] = []
    for rows_ in f.rows():
        packed += [rows_[:, m : m + 4].ravel() for m in range(0, whole, 4)]
        packed += [rows_[:, m] for m in range(whole, f.per_group)]
    low.call(
        conv.conv_positions,
        f.batch, f.groups, f.per_group, f.products, *f.out,
        lay.batch, f.W.shape[2] * lay.channel, f.strides[0] * lay.row, *f.y_steps,
        low.weight(np.concatenate(packed)), low.weight(f.offsets(lay, lay.channel)), x, low.output(0), work=f.work,
    )  # fmt: skip


_WAYS = ((_channels_cost, _by_channels), (_depthwise_cost, _by_own_channels), (_positions_cost, _by_positions))
#: what an output vector costs besides its products, in multiply-adds
_SUM = 8
