"""Convolutions of 8-bit integers.

    ConvInteger   Y = the convolution of X - x_zero with W - w_zero, int32
    QLinearConv   the same plus B, on the grid of y: round(sum * (x_scale * w_scale / y_scale)) + y_zero, ties to even

Inputs      X [N, C, spatial...], W [M, C/group, kernel...] (int8 or uint8, each its own), x_zero, w_zero (optional: 0).
            QLinearConv: x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, whose type is that of y, B (optional: [M],
            int32).
            Scale and zero point of W are scalars or [M]; what pads X is its zero point.
Output      int32, which wraps around; QLinearConv: int8 or uint8 [N, M, spatial...].
Source      onnx.ai/onnx/operators/onnx__ConvInteger.html, onnx__QLinearConv.html. One and two spatial dimensions are compiled,
            any number has a reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import integer
from streamrnn.ops._bytes import ByteFilters, lower_sums, lower_zero
from streamrnn.ops._filters import check_dimensions, pair
from streamrnn.ops._integer import check_bytes, check_scale, emit_requantized, less_zero, packed, requantized, wrapped
from streamrnn.ops._moves import contiguous, copy_box, fill, ints
from streamrnn.ops._spatial import Spatial, over_time, spatial
from streamrnn.ops._time import only
from streamrnn.ops.conv import convolved

#: channels of a group from which `byte_products`, which multiplies 16 at a time, is faster than plain loops
FEW = 4


class _Conv(Op):
    """What the two have in common. w, x_zero, w_zero: indices of inputs."""

    w, x_zero, w_zero = 1, 2, 3

    def shape(self, site: Site) -> tuple[int, ...]:
        """The shape of the result, once types, channels and zero points fit."""
        check_bytes(site, 0, self.x_zero)
        check_bytes(site, self.w, self.w_zero)
        window = self.window(site)
        x, w, groups = site.type(0), site.type(self.w), site.attr_int("group", 1)
        if groups < 1 or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
            raise site.shape_error(f"W {w} does not fit {x.shape[1]} channels in {groups} groups")
        if site.has(self.x_zero) and site.type(self.x_zero).size != 1:
            raise site.shape_error(f"zero point of X {site.type(self.x_zero)} should be a single number")
        self.check_channels(site, self.w_zero)
        return (x.shape[0], w.shape[0], *window.out)

    def check_channels(self, site: Site, index: int) -> None:
        """ShapeError where input `index` (optional) is neither one number nor one for each output channel."""
        M = site.type(self.w).shape[0]
        if site.has(index) and site.type(index).size != 1 and site.type(index).shape != (M,):
            raise site.shape_error(f"input {index} {site.type(index)} should be a single number or have {M} elements")

    def window(self, site: Site) -> Spatial:
        return spatial(site, site.type(self.w).shape[2:])

    def sums(self, site: Site, inputs: Sequence[Array | None]) -> Array:
        """int64"""
        x, w = inputs[0], inputs[self.w]
        x_zero, w_zero = (inputs[k] if k < len(inputs) else None for k in (self.x_zero, self.w_zero))
        assert x is not None
        assert w is not None
        wide = x.astype(np.int64) - (0 if x_zero is None else x_zero.astype(np.int64).reshape(()))
        return convolved(site, self.window(site), wide, self.filters(w, w_zero))

    def filters(self, w: Array, zero: Array | None) -> Array:
        """W without its zero points, int64."""
        wide = w.astype(np.int64)
        return wide if zero is None else wide - zero.astype(np.int64).reshape(-1, *(1 for _ in w.shape[1:]))

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis == 1:
            raise site.not_streamable("sums over time, which runs along its input channels")
        if x.axis is None or x.axis == 0:
            return Streamed((x,))
        zero = site.const(self.x_zero)
        if site.has(self.x_zero) and zero is None:
            raise site.not_streamable(
                "it remembers frames on the grid of X, whose zero point is computed at each step anew; quantise with fixed "
                "scales (quantize_static), or leave this node in floats (nodes_to_exclude of quantize_dynamic)"
            )
        return over_time(site, x, self.window(site), 0.0 if zero is None else float(zero.item()))

    def emit_sums(self, site: Site, low: Lowering, y: Place) -> None:
        """Emit the convolution into y (int32)."""
        s, x, w = self.window(site), site.type(0).shape, site.type(self.w).shape
        check_dimensions(site, s, 2)
        if site.type(0).size == 0:
            return
        place = low.input(0)
        full = [n + before + after for n, before, after in zip(x[2:], s.begin, s.end, strict=True)]
        whole = (*x[:2], *full)
        if whole != x:
            wide, steps = low.scratch(place.dtype, prod(whole)), contiguous(whole)
            fill(low, self.outside(site, low), prod(whole), wide)
            start = sum(before * step for before, step in zip(s.begin, steps[2:], strict=True))
            copy_box(low, x, place, contiguous(x), wide.at(start), steps)
            place = wide
        (rows, columns), groups, n = pair(full, 1), site.attr_int("group", 1), prod(w[1:])
        strides, dilations, area = pair(s.strides, 1), pair(s.dilations, 1), rows * columns
        c, i, j = np.indices((w[1], *pair(w[2:], 1)))
        offsets = (c * area + i * dilations[0] * columns + j * dilations[1]).ravel()
        distances = x[1] * area, w[1] * area, strides[0] * columns, strides[1]
        fixed, zero, per_group = self.fixed(site), lower_zero(site, low, self.x_zero), w[0] // groups
        alone = prod(s.out) == 1 and groups * n == prod(whole[1:])  # a filter meets all that its group has
        work = x[0] * prod(s.out) * w[0] * n
        if fixed is not None and groups == 1 and alone:
            lower_sums(low, x[0], fixed.reshape(-1, n), place, zero, y)
        elif fixed is not None and per_group >= FEW:
            filters = ByteFilters((x[0], *pair(s.out, 1)), distances, offsets.tolist(), fixed.reshape(groups, -1, n))
            filters.lower_sums(low, place, y, zero)
        elif fixed is not None and alone:
            weights = low.weight(np.ascontiguousarray(packed(fixed).reshape(groups, per_group, n).transpose(1, 2, 0)))
            kernel = integer.whole_filters.typed(w=weights.dtype.pointer, x=place.dtype.pointer)
            low.call(kernel, x[0], groups, per_group, n, weights, zero, place, y, work=work)
        else:
            weights = self.weights(site, low) if fixed is None else low.weight(packed(fixed))
            kernel = integer.conv.typed(w=weights.dtype.pointer, x=place.dtype.pointer)
            sizes = x[0], groups, per_group, n, *pair(s.out, 1), *distances
            low.call(kernel, *sizes, weights, low.weight(ints(offsets.tolist())), zero, place, y, work=work)

    def outside(self, site: Site, low: Lowering) -> Place:
        """What pads X: its zero point."""
        return low.input(self.x_zero) if site.has(self.x_zero) else low.weight(np.zeros(1, site.type(0).dtype.numpy))

    def fixed(self, site: Site) -> Array | None:
        """W less its zero points (int64), where it is known."""
        w = site.const(self.w)
        known = w is not None and (not site.has(self.w_zero) or site.const(self.w_zero) is not None)
        return self.filters(w, site.const(self.w_zero)) if w is not None and known else None

    def weights(self, site: Site, low: Lowering) -> Place:
        """W less its zero points, of which one is computed at run time."""
        w, zero = site.type(self.w).shape, None
        if site.has(self.w_zero):
            each = int(site.type(self.w_zero).size > 1)
            zero = low.input(self.w_zero), [each, *(0 for _ in w[1:])]
        return less_zero(low, low.input(self.w), w, contiguous(w), zero)


@register
class ConvInteger(_Conv):
    """See the module's text."""

    name = "ConvInteger"

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        return (TensorType(DType.I32, self.shape(site)),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        return (wrapped(self.sums(site, inputs)),)

    def lower(self, site: Site, low: Lowering) -> None:
        self.emit_sums(site, low, low.output(0))


@register
class QLinearConv(_Conv):
    """See the module's text."""

    name = "QLinearConv"
    w, x_zero, w_zero = 3, 2, 5
    x_scale, w_scale, y_scale, y_zero, bias = 1, 4, 6, 7, 8

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        shape = self.shape(site)
        check_scale(site, self.x_scale, self.w_scale, self.y_scale)
        check_bytes(site, self.y_zero, self.y_zero)
        self.check_channels(site, self.w_scale)
        if any(site.type(k).size != 1 for k in (self.x_scale, self.y_scale, self.y_zero)):
            raise site.shape_error("the scales of x and y and the zero point of y should be single numbers")
        bias = TensorType(DType.I32, shape[1:2])
        if site.has(self.bias) and site.type(self.bias) != bias:
            raise site.shape_error(f"B {site.type(self.bias)} should be {bias}")
        return (TensorType(site.type(self.y_zero).dtype, shape),)

    def channels(self, site: Site, index: int) -> tuple[int, ...]:
        """The shape in which one number for each output channel broadcasts against the result."""
        return (site.type(index).size, *(1 for _ in site.type(0).shape[2:]))

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        scales = []
        for index in (self.x_scale, self.w_scale, self.y_scale):
            value = inputs[index]
            assert value is not None
            scales.append(value.reshape(self.channels(site, index)))
        zero, bias = inputs[self.y_zero], inputs[self.bias] if len(inputs) > self.bias else None
        assert zero is not None
        sums = self.sums(site, inputs)
        if bias is not None:
            sums = sums + bias.reshape(self.channels(site, self.bias))
        return (requantized(wrapped(sums), scales, zero.reshape(()), site.type(self.y_zero).dtype),)

    def lower(self, site: Site, low: Lowering) -> None:
        shape = site.out(0).shape
        sums = low.scratch(DType.I32, site.out(0).size)
        self.emit_sums(site, low, sums)
        x, w, y = ((low.input(k), self.channels(site, k)) for k in (self.x_scale, self.w_scale, self.y_scale))
        bias = (low.input(self.bias), self.channels(site, self.bias)) if site.has(self.bias) else None
        emit_requantized(site, low, shape, (sums, shape), (x, w, y), (low.input(self.y_zero), ()), bias)
