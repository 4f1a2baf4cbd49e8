"""Products of matrices of 8-bit integers.

    MatMulInteger   Y = (A - a_zero) (B - b_zero), int32
    QLinearMatMul   the same on the grid of y: round(sum * (a_scale * b_scale / y_scale)) + y_zero, ties to even

Inputs      A, B (int8 or uint8, each its own; stacks of matrices by NumPy's rules), a_zero, b_zero (optional: 0).
            QLinearMatMul: a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero, whose type is that of y.
            Scales and zero points of A are scalars or one for each row ([M] or [.., M, 1]), those of B one for each column.
Output      int32, which wraps around; QLinearMatMul: int8 or uint8.
Source      onnx.ai/onnx/operators/onnx__MatMulInteger.html, onnx__QLinearMatMul.html.
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
from streamrnn.ops._bytes import lower_sums, lower_zero
from streamrnn.ops._integer import (
    Shaped,
    check_bytes,
    check_scale,
    emit_requantized,
    less_zero,
    packed,
    requantized,
    wrapped,
)
from streamrnn.ops._moves import contiguous, fill
from streamrnn.ops.matmul import product_shape, product_stream


class _Product(Op):
    """What the two have in common. a, b, a_zero, b_zero: indices of inputs."""

    a, b, a_zero, b_zero = 0, 1, 2, 3

    def shape(self, site: Site) -> tuple[int, ...]:
        """The shape of the product, once types and zero points fit."""
        check_bytes(site, self.a, self.a_zero)
        check_bytes(site, self.b, self.b_zero)
        shape = product_shape(site, site.type(self.a).shape, site.type(self.b).shape)
        for operand, index in ((self.a, self.a_zero), (self.b, self.b_zero)):
            if site.has(index):
                self.shaped(site, operand, index)
        return shape

    def shaped(self, site: Site, operand: int, index: int) -> tuple[int, ...]:
        """The shape in which a scale or zero point (input `index`) broadcasts against its operand. Raises ShapeError."""
        own, whole = site.type(index).shape, site.type(operand).shape
        if prod(own) == 1:
            return ()
        rows = operand == self.a and len(whole) > 1
        found = (*own, 1) if len(own) == 1 and rows else own
        summed = found[-1] if operand == self.a else found[-2] if len(found) > 1 else 1
        fits = len(found) <= len(whole) and all(m in (1, n) for m, n in zip(found[::-1], whole[::-1], strict=False))
        if not fits or summed != 1 or (operand == self.b and len(whole) == 1):
            raise site.shape_error(
                f"input {index} {site.type(index)} fits neither all of {site.type(operand)} nor its "
                f"{'rows' if operand == self.a else 'columns'}"
            )
        return found

    def centred(self, site: Site, inputs: Sequence[Array | None], operand: int, index: int) -> Array:
        """An operand as int64, less its zero point."""
        value = inputs[operand]
        zero = inputs[index] if index < len(inputs) else None
        assert value is not None
        wide = value.astype(np.int64)
        return wide if zero is None else wide - zero.astype(np.int64).reshape(self.shaped(site, operand, index))

    def sums(self, site: Site, inputs: Sequence[Array | None]) -> Array:
        a, b = self.centred(site, inputs, self.a, self.a_zero), self.centred(site, inputs, self.b, self.b_zero)
        return wrapped(np.matmul(a, b))

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        still = [s for k, s in enumerate(streams) if k not in (self.a, self.b) and s is not None]
        if any(s.axis is not None for s in still):
            raise site.not_streamable("its scales or zero points change over time")
        y = product_stream(site, streams, (self.a, self.b)) if streams[self.a] or streams[self.b] else still[0]
        if y.axis is not None:
            if still:
                raise site.not_streamable("joins one answer for the clip and its frames")
            self.check_rows(site, streams)
        return Streamed((StreamType(y.axis, max(s.delay for s in streams if s is not None), y.stride),))

    def check_rows(self, site: Site, streams: Sequence[StreamType | None]) -> None:
        """NotStreamableError where a scale or zero point has an element for each frame."""
        for operand, index in self.parameters():
            stream = streams[operand]
            if stream is None or stream.axis is None or not site.has(index):
                continue
            own, axis = self.shaped(site, operand, index), stream.axis - site.type(operand).rank
            if len(own) >= -axis and own[axis] != 1:
                raise site.not_streamable(f"input {index} differs from frame to frame")

    def parameters(self) -> tuple[tuple[int, int], ...]:
        """(operand, input that belongs to it)"""
        return (self.a, self.a_zero), (self.b, self.b_zero)

    def emit_sums(self, site: Site, low: Lowering, y: Place) -> None:
        """Emit the products into y (int32)."""
        a, b = site.type(self.a), site.type(self.b)
        left = a.shape if a.rank > 1 else (1, *a.shape)
        right = b.shape if b.rank > 1 else (*b.shape, 1)
        (m, k), n = left[-2:], right[-1]
        if 0 in (a.size, b.size):
            fill(low, np.zeros(1, np.int32), m * n * prod(np.broadcast_shapes(left[:-2], right[:-2])), y)
            return
        B = self.fixed(site)
        if B is not None and B.ndim < 3 and not (site.has(self.a_zero) and site.type(self.a_zero).size != 1):
            zero = lower_zero(site, low, self.a_zero)
            lower_sums(low, prod(left[:-1]), B.reshape(k, n).T, low.input(self.a), zero, y)
            return
        x = less_zero(low, low.input(self.a), left, contiguous(left), self.zero(site, low, self.a, self.a_zero, left))
        w = self.columns(site, low, right)
        kernel = integer.product.typed(w=w.dtype.pointer)
        if prod(right[:-2]) == 1:
            rows = prod(left[:-1])
            low.call(kernel, rows, k, n, w, x, y, work=rows * k * n)
            return
        stack = np.broadcast_shapes(left[:-2], right[:-2])
        places = [np.broadcast_to(np.arange(prod(s)).reshape(s), stack).ravel() for s in (left[:-2], right[:-2])]
        for i, (at, other) in enumerate(zip(*places, strict=True)):
            low.call(kernel, m, k, n, w.at(int(other) * k * n), x.at(int(at) * m * k), y.at(i * m * n), work=m * k * n)

    def fixed(self, site: Site) -> Array | None:
        """B less its zero points (int64), where it is known."""
        known = site.const(self.b) is not None and (not site.has(self.b_zero) or site.const(self.b_zero) is not None)
        return self.centred(site, site.constants, self.b, self.b_zero) if known else None

    def columns(self, site: Site, low: Lowering, shape: tuple[int, ...]) -> Place:
        """B [.., k, n] less its zero points, as [.., n, k]."""
        turned = (*shape[:-2], shape[-1], shape[-2])
        B = self.fixed(site)
        if B is not None:
            return low.weight(np.ascontiguousarray(packed(B.reshape(shape)).swapaxes(-1, -2)))
        steps = contiguous(shape)
        steps[-2:] = steps[:-3:-1]
        zero = self.zero(site, low, self.b, self.b_zero, shape)
        if zero is not None:
            place, own = zero
            zero = place, [*own[:-2], own[-1], own[-2]]
        return less_zero(low, low.input(self.b), turned, steps, zero)

    def zero(
        self, site: Site, low: Lowering, operand: int, index: int, shape: tuple[int, ...]
    ) -> tuple[Place, list[int]] | None:
        """Where the zero points of an operand of `shape` lie, and their strides."""
        if not site.has(index):
            return None
        own = self.shaped(site, operand, index)
        own = (1,) * (len(shape) - len(own)) + own
        return low.input(index), [0 if n == 1 else step for n, step in zip(own, contiguous(own), strict=True)]


@register
class MatMulInteger(_Product):
    """See the module's text."""

    name = "MatMulInteger"

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        return (TensorType(DType.I32, self.shape(site)),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        return (self.sums(site, inputs),)

    def lower(self, site: Site, low: Lowering) -> None:
        self.emit_sums(site, low, low.output(0))


@register
class QLinearMatMul(_Product):
    """See the module's text."""

    name = "QLinearMatMul"
    a, a_zero, b, b_zero = 0, 2, 3, 5
    a_scale, b_scale, y_scale, y_zero = 1, 4, 6, 7

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        shape = self.shape(site)
        check_scale(site, self.a_scale, self.b_scale, self.y_scale)
        y = site.type(self.y_zero)
        check_bytes(site, self.y_zero, self.y_zero)
        self.shaped(site, self.a, self.a_scale)
        self.shaped(site, self.b, self.b_scale)
        if y.size != 1 or site.type(self.y_scale).size != 1:
            raise site.shape_error(f"scale {site.type(self.y_scale)} and zero point {y} of y should be single numbers")
        return (TensorType(y.dtype, shape),)

    def parameters(self) -> tuple[tuple[int, int], ...]:
        return (*super().parameters(), (self.a, self.a_scale), (self.b, self.b_scale))

    def broadcast(self, site: Site, operand: int, index: int) -> tuple[int, ...]:
        """The shape in which a scale broadcasts against the product, which has neither rows nor columns of a vector."""
        own = self.shaped(site, operand, index)
        if operand == self.a and site.type(self.b).rank == 1:
            return own[:-1]
        return own

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        a, b, y, zero = (inputs[i] for i in (self.a_scale, self.b_scale, self.y_scale, self.y_zero))
        assert a is not None
        assert b is not None
        assert y is not None
        assert zero is not None
        scales = a.reshape(self.broadcast(site, self.a, self.a_scale)), b.reshape(self.broadcast(site, self.b, self.b_scale))
        value = requantized(self.sums(site, inputs), (*scales, y.reshape(())), zero.reshape(()), site.type(self.y_zero).dtype)
        return (value,)

    def lower(self, site: Site, low: Lowering) -> None:
        shape = site.out(0).shape
        sums = low.scratch(DType.I32, site.out(0).size)
        self.emit_sums(site, low, sums)
        scales: list[Shaped] = [
            (low.input(index), self.broadcast(site, operand, index))
            for operand, index in ((self.a, self.a_scale), (self.b, self.b_scale))
        ]
        emit_requantized(
            site, low, shape, (sums, shape), (scales[0], scales[1], (low.input(self.y_scale), ())), (low.input(self.y_zero), ())
        )
