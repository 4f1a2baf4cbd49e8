"""Convolutions over three axes, as convolutions over the last two of them.

What a position of the first axis meets along it are input channels of its own: X [N, C, size, rows, columns] is copied to
[N, out, C taps, rows, columns], and W [M, C, taps, ...] reads as [M, C taps, ...]. So a position is a batch entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.op import Site
from streamrnn.ir.types import DType
from streamrnn.ops._filters import Filters, lower_filters
from streamrnn.ops._moves import contiguous, copy_box, fill

#: elements that the copy of an input may have
_MOST = 1 << 28


@dataclass(frozen=True)
class Depth:
    """The first of three axes: `out` positions, `stride` apart in X and `y_stride` in Y, whose first is `y_first`. Each meets
    `taps` elements `dilation` apart; those of the first position begin `begin` before X. whole: positions of Y."""

    size: int
    out: int
    stride: int
    taps: int
    dilation: int
    begin: int
    whole: int
    y_first: int = 0
    y_stride: int = 1


def lower_deep(site: Site, low: Lowering, depth: Depth, filters: Sequence[Filters]) -> None:
    """Emit the calls that compute the positions of `depth` from input 0. filters: over the last two axes, with channels times
    taps as input channels. Raises UnsupportedError."""
    first = filters[0]
    batch, inputs, area = first.batch, first.inputs // depth.taps, prod(first.size)
    if batch * depth.out * first.inputs * area > _MOST:
        raise UnsupportedError(
            f"node '{site.node.name}' ({site.node.op}): its windows over three dimensions meet more than {_MOST} elements"
        )
    x, plane = _gathered(low, depth, (batch, inputs, area)), prod(site.out(0).shape[-2:])
    entry = depth.out * first.inputs * area
    for b in range(batch):
        start = (b * first.channels * depth.whole + depth.y_first) * plane
        deep = [
            replace(
                f,
                batch=depth.out,
                y_steps=(depth.y_stride * plane, depth.whole * plane, *f.y_steps[2:]),
                y_start=start + f.y_start,
            )
            for f in filters
        ]
        lower_filters(deep, low, x.at(b * entry))


def _gathered(low: Lowering, depth: Depth, sizes: tuple[int, int, int]) -> Place:
    """Input 0, [batch][channels][size][area], as [batch][out][channels][taps][area], zero where a tap lies outside. sizes: of
    batch, channels and area."""
    batch, channels, area = sizes
    shape = (batch, depth.out, channels, depth.taps, area)
    by_batch, by_position, by_channel, by_tap, _ = contiguous(shape)
    y = low.scratch(DType.F32, prod(shape))
    fill(low, np.zeros(1, np.float32), prod(shape), y)
    for tap in range(depth.taps):
        at = tap * depth.dilation - depth.begin  # what the first position meets
        first = max(0, -(at // depth.stride))
        behind = min(depth.out, (depth.size - 1 - at) // depth.stride + 1)
        if first < behind:
            source = low.input(0).at((at + first * depth.stride) * area)
            strides = (channels * depth.size * area, depth.stride * area, depth.size * area, 1)
            target = y.at(first * by_position + tap * by_tap)
            copy_box(
                low, (batch, behind - first, channels, area), source, strides, target, (by_batch, by_position, by_channel, 1)
            )
    return y
