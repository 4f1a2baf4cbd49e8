"""Filters over rows and columns: what Conv and ConvTranspose lower to, and three ways to compute it.

A 1-D convolution is one of height 1. Where the input must be padded, or ordered otherwise for the kernel, it is copied first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.op import Site
from streamrnn.ir.types import DType
from streamrnn.kernels import conv
from streamrnn.kernels._jit import Device
from streamrnn.kernels.simd import LANES, tiles
from streamrnn.ops._bytes import ByteFilters
from streamrnn.ops._recurrent import pack_lanes
from streamrnn.ops._spatial import Spatial

Pair = tuple[int, int]


@dataclass(frozen=True)
class Filters:
    """A convolution over rows and columns. Pairs are (rows, columns).

    begin:   how far the first window begins before the input (less than 0: behind its first element).
    x_steps: distance in X between rows, between columns.
    y_steps: distance in Y between batch entries, channels, rows, columns; y_start: where the first element lies.
    W:       [groups, channels out per group, channels in per group, rows, columns]. bias: [channels out].
    stored:  type in which the kernel reads W, float32 or float16.
    """

    batch: int
    size: Pair
    out: Pair
    strides: Pair
    dilations: Pair
    begin: Pair
    x_steps: Pair
    y_steps: tuple[int, int, int, int]
    y_start: int
    W: Array
    bias: Array
    stored: DType = DType.F32

    def turned(self) -> Filters:
        """The same with rows and columns exchanged."""
        pairs = ("size", "out", "strides", "dilations", "begin", "x_steps")
        batch, channel, row, column = self.y_steps
        swapped = {name: getattr(self, name)[::-1] for name in pairs}
        return replace(self, W=self.W.swapaxes(3, 4), y_steps=(batch, channel, column, row), **swapped)

    def flat(self) -> Filters:
        """The same in one row, where every window is one element and Y is as dense as X."""
        area = self.out[0] * self.out[1]
        return replace(self, size=(1, area), out=(1, area), x_steps=(area, 1), y_steps=(*self.y_steps[:2], area, 1))

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
    def end(self) -> Pair:
        """How far the last window reaches behind the input; less than 0 where it ends before it."""
        rows = zip(self.out, self.strides, self.W.shape[3:], self.dilations, self.begin, self.size, strict=True)
        first, second = ((n - 1) * step + (taps - 1) * gap + 1 - begin - size for n, step, taps, gap, begin, size in rows)
        return first, second

    @property
    def work(self) -> int:
        """Multiply-adds."""
        return self.positions * self.channels * self.products

    def rows(self) -> Array:
        """[group, 1 + products, channel]: the bias, then one row for each product."""
        products = self.W.reshape(self.groups, self.per_group, -1)
        return np.concatenate([self.bias.reshape(self.groups, -1, 1), products], axis=2).swapaxes(1, 2)


def pair(values: Sequence[int], one: int) -> Pair:
    """(rows, columns): the last two values, or `one` for the rows of a 1-D convolution."""
    return (one, values[0]) if len(values) == 1 else (values[-2], values[-1])


def check_dimensions(site: Site, window: Spatial, most: int) -> None:
    """UnsupportedError where a node has more than `most` spatial dimensions."""
    if len(window.kernel) > most:
        raise UnsupportedError(
            f"node '{site.node.name}' ({site.node.op}): {len(window.kernel)} spatial dimensions; up to {most} are supported, "
            f"bring the others into the batch"
        )


def lower_filters(filters: Sequence[Filters], low: Lowering, x: Place) -> None:
    """Emit the calls that compute output 0 from x. The filters differ in W, begin, out, y_steps and y_start only; what
    they give are different elements of Y."""
    parts = _Parts(tuple(filters), x)
    first = parts.filters[0]
    if len(parts.filters) == 1 and first.W.shape[3:] == first.strides == (1, 1) and not parts.padded and parts.dense:
        parts = _Parts((first.flat(),), x)
    elif all(f.out[1] == 1 for f in parts.filters) and any(f.out[0] > 1 for f in parts.filters):
        parts = _Parts(tuple(f.turned() for f in parts.filters), x)
    # a vector of weights is a vector of channels
    ways = _WAYS if first.stored is DType.F32 else _WAYS[:1]
    _, way = min(ways, key=lambda way: way[0](parts))
    way(parts, low)


def lower_in_bytes(f: Filters, values: Array, scales: Array, low: Lowering, x: Place) -> None:
    """Emit the calls that compute output 0 from x, where W is values * scales: int8 in the file's shape, [channels out]."""
    parts = _Parts((f,), x)
    rows, columns = parts.full
    lay = _Layout(f.inputs * rows * columns, rows * columns, columns, 1, room=parts.room[0])
    x = _placed(parts, low, lay, f.inputs, 1) if parts.padded or f.x_steps != (columns, 1) else x
    steps = lay.batch, f.W.shape[2] * lay.channel, f.strides[0] * lay.row, f.strides[1] * lay.col
    offsets = (lay.start(f) + lay.offsets(f, lay.channel)).tolist()
    filters = ByteFilters((f.batch, *f.out), steps, offsets, values.reshape(f.groups, f.per_group, -1))
    filters.lower(low, scales.ravel(), f.bias, x, low.output(0))


@dataclass(frozen=True)
class _Parts:
    """Filters that share one input, which lies at x."""

    filters: tuple[Filters, ...]
    x: Place

    @property
    def any(self) -> Filters:
        """One of them, for what they have in common."""
        return self.filters[0]

    @cached_property
    def room(self) -> tuple[Pair, Pair]:
        """(rows, columns) of zeros in front of the input and behind it."""
        begins, ends = zip(*((f.begin, f.end) for f in self.filters), strict=True)
        (top, left), (bottom, right) = ((max(0, *sides) for sides in zip(*pairs, strict=True)) for pairs in (begins, ends))
        return (top, left), (bottom, right)

    @cached_property
    def full(self) -> Pair:
        """Rows and columns with padding."""
        (top, left), (bottom, right) = self.room
        return self.any.size[0] + top + bottom, self.any.size[1] + left + right

    @property
    def area(self) -> int:
        """Positions of an input channel with padding."""
        return self.full[0] * self.full[1]

    @property
    def padded(self) -> bool:
        return self.full != self.any.size

    @property
    def dense(self) -> bool:
        """Whether each input element is met by a window of its own."""
        return self.any.out == self.any.size

    def stores(self) -> int:
        """Elements of Y that lanes of channels store one by one."""
        return sum(f.channels * f.positions for f in self.filters if f.y_steps[1] > 1)


@dataclass(frozen=True)
class _Layout:
    """How the input lies: element (batch, channel, row, column), counted from its padding, at batch * self.batch + channel *
    self.channel + row * self.row + column % split * phase + column // split * col. room: rows and columns of padding in front
    of it."""

    batch: int
    channel: int
    row: int
    col: int
    split: int = 1
    phase: int = 0
    room: Pair = (0, 0)

    @staticmethod
    def given(f: Filters) -> _Layout:
        """As X comes."""
        area = f.size[0] * f.size[1]
        return _Layout(f.inputs * area, area, *f.x_steps)

    def at(self, row: Any, column: Any) -> Any:
        return row * self.row + column % self.split * self.phase + column // self.split * self.col

    def start(self, f: Filters) -> int:
        """Where the first window of `f` begins; a layout with split has no more padding than its filters ask for."""
        return int(self.at(self.room[0] - f.begin[0], self.room[1] - f.begin[1]))

    def offsets(self, f: Filters, channel: int) -> Array:
        """Distance of each product's input from that of the first, with `channel` elements between input channels."""
        c, i, j = np.indices(f.W.shape[2:])
        return np.asarray(c * channel + self.at(i * f.dilations[0], j * f.dilations[1])).ravel()


def _placed(parts: _Parts, low: Lowering, lay: _Layout, channels: int, share: int) -> Place:
    """A padded copy of X in another layout; `share` of its `channels` channels repeat one of X."""
    f = parts.any
    size = f.batch * lay.batch
    y = low.scratch(DType.F32, size)
    low.call(
        conv.place, f.batch, channels, share, *f.size, *lay.room, lay.split, size,
        *f.x_steps, lay.batch, lay.channel, lay.row, lay.phase, lay.col, parts.x, y,
        work=f.batch * channels * parts.area,
    )  # fmt: skip
    return y


# -- three ways: which kernel, on an input that lies how. Costs are in vector multiply-adds and elements moved one by one. ----


def _channels_cost(parts: _Parts) -> float:
    moved = parts.stores() + (parts.any.batch * parts.any.inputs * parts.area if parts.padded else 0)
    return sum(f.groups * tiles(f.per_group) * f.positions * (f.products + _SUM) for f in parts.filters) + moved


def _by_channels(parts: _Parts, low: Lowering) -> None:
    """Lanes are output channels of one group."""
    lay, x = _Layout.given(parts.any), parts.x
    if parts.padded:
        rows, columns = parts.full
        lay = _Layout(parts.any.inputs * rows * columns, rows * columns, columns, 1, room=parts.room[0])
        x = _placed(parts, low, lay, parts.any.inputs, 1)
    for f in parts.filters:
        offsets = lay.offsets(f, lay.channel)
        read = conv.adjacent if np.array_equal(offsets, np.arange(f.products)) else conv.scattered
        w = np.concatenate([pack_lanes(group).ravel() for group in f.rows()])
        _call_channels(f, low, lay, (f.groups, f.per_group, f.W.shape[2] * lay.channel), (read, w, offsets, x))


def _depthwise_cost(parts: _Parts) -> float:
    if parts.any.W.shape[2] != 1:
        return math.inf
    moved = parts.stores() + parts.any.batch * parts.any.channels * parts.area
    return sum(tiles(f.channels) * f.positions * (f.products + _SUM) for f in parts.filters) + moved


def _by_own_channels(parts: _Parts, low: Lowering) -> None:
    """Lanes are output channels, each with an input channel of its own: groups of one input channel."""
    rows, columns = parts.full
    lanes = tiles(parts.any.channels) * LANES
    lay = _Layout(rows * columns * lanes, 1, columns * lanes, lanes, room=parts.room[0])
    x = _placed(parts, low, lay, parts.any.channels, parts.any.per_group)
    for f in parts.filters:
        w = pack_lanes(f.rows().swapaxes(0, 1).reshape(1 + f.products, f.channels)).ravel()
        _call_channels(f, low, lay, (tiles(f.channels), LANES, LANES), (conv.own_channel, w, lay.offsets(f, 0), x))


def _call_channels(
    f: Filters, low: Lowering, lay: _Layout, group: tuple[int, int, int], data: tuple[Device, Array, Array, Place]
) -> None:
    """group: how many, output channels of one, elements of x between two. data: reader, weights, offsets, x."""
    read, w, offsets, x = data
    groups, per_group, x_group = group
    low.call(
        conv.conv_channels.bind(operand=read).typed(w=f.stored.pointer),
        f.batch, groups, per_group, f.channels, f.products, *f.out,
        lay.batch, x_group, f.strides[0] * lay.row, f.strides[1] * lay.col, *f.y_steps,
        low.weight(w.astype(f.stored.numpy)), low.weight(offsets), x.at(lay.start(f)), low.output(0).at(f.y_start),
        low.scratch(DType.F32, LANES),
        work=f.work,
    )  # fmt: skip


def _positions_cost(parts: _Parts) -> float:
    f = parts.any
    if any(f.out[1] < LANES for f in parts.filters):
        return math.inf
    moved = f.batch * f.inputs * parts.area if _reordered(parts) else 0
    moved += sum(f.channels * f.positions for f in parts.filters if f.y_steps[3] > 1)
    return sum(f.channels * f.batch * f.out[0] * tiles(f.out[1]) * (f.products + _SUM) for f in parts.filters) + moved


def _reordered(parts: _Parts) -> bool:
    return parts.padded or parts.any.strides[1] > 1 or parts.any.x_steps[1] > 1


def _by_positions(parts: _Parts, low: Lowering) -> None:
    """Lanes are neighbouring positions of a row."""
    lay, x = _Layout.given(parts.any), parts.x
    if _reordered(parts):
        (rows, columns), split = parts.full, parts.any.strides[1]
        phase = -(-columns // split)
        lay = _Layout(
            parts.any.inputs * rows * split * phase, rows * split * phase, split * phase, 1, split, phase, parts.room[0]
        )
        x = _placed(parts, low, lay, parts.any.inputs, 1)
    for f in parts.filters:
        whole = f.per_group - f.per_group % 4
        packed: list[Array] = []
        for rows_ in f.rows():
            packed += [rows_[:, m : m + 4].ravel() for m in range(0, whole, 4)]
            packed += [rows_[:, m] for m in range(whole, f.per_group)]
        low.call(
            conv.conv_positions,
            f.batch, f.groups, f.per_group, f.products, *f.out,
            lay.batch, f.W.shape[2] * lay.channel, f.strides[0] * lay.row, *f.y_steps,
            low.weight(np.concatenate(packed)), low.weight(lay.offsets(f, lay.channel)), x.at(lay.start(f)),
            low.output(0).at(f.y_start), low.scratch(DType.F32, LANES), work=f.work,
        )  # fmt: skip


_WAYS = ((_channels_cost, _by_channels), (_depthwise_cost, _by_own_channels), (_positions_cost, _by_positions))
#: what an output vector costs besides its products, in multiply-adds
_SUM = 8
