"""Between floats and integers on a grid: x = scale * (q - zero).

    QuantizeLinear         q = round(x / scale) + zero, ties to even, cut to the range of its type; the quotient is a float32
    DequantizeLinear       x = (q - zero) * scale
    DynamicQuantizeLinear  to uint8, with the scale and zero point with which 0 .. 255 covers the elements and zero

Inputs      x or q, scale, zero point (optional: 0). Scale and zero point are scalars, or one for each index of `axis`, or for
            blocks of `block_size` elements along `axis`.
            Integers are int8, uint8, int16, uint16 (the type of the zero point, else output_dtype, else uint8);
            DequantizeLinear also takes int32, and so does QuantizeLinear for x.
Outputs     q; x; DynamicQuantizeLinear: q, scale, zero point.
Attributes  axis (1), block_size (0), output_dtype; `saturate` and `precision` concern float8 and wider floats.
Source      onnx.ai/onnx/operators, pages of QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear. NaN becomes the lowest
            integer, as in onnxruntime.

In a stream DynamicQuantizeLinear quantises the frames of a step together, where a call of the file does so with the whole clip.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Apply, Lowering, Place, Register
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import quantize
from streamrnn.ops._moves import ints, lower_take
from streamrnn.ops._time import join, only
from streamrnn.ops.pointwise import Pointwise, emit_lines, emit_loop, parsed
from streamrnn.ops.pointwise_table import QUANTIZED, ROWS, line
from streamrnn.ops.reduce import ROWS as REDUCTIONS
from streamrnn.ops.reduce import lower_reduction

_SCALE, _ZERO = 1, 2


class _Linear(Pointwise):
    """What QuantizeLinear and DequantizeLinear have in common: scales for the whole, for an axis, for blocks."""

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x, scale = site.type(0), site.type(_SCALE)
        zero = site.type(_ZERO) if site.has(_ZERO) else scale
        if zero.shape != scale.shape and not zero.size == scale.size == 1:  # onnxruntime's quantiser mixes [1] and scalars
            raise site.shape_error(f"scale {scale} and zero point {zero} should have the same shape")
        if scale.size != 1 and self.grid(site) is None:
            raise site.shape_error(
                f"scale {scale} fits neither axis {site.attr_int('axis', 1)} of {x} nor its blocks of "
                f"{site.attr_int('block_size', 0)}"
            )
        return (TensorType(parsed(site, self.lines(site))[-1].dtype, x.shape),)

    def plain(self, site: Site) -> bool:
        return all(site.type(k).rank == 0 for k in (_SCALE, _ZERO) if site.has(k))

    def grid(self, site: Site) -> tuple[int, int] | None:
        """(axis, elements of one scale along it); None where the shape of the scale fits neither."""
        x, scale, block = site.type(0).shape, site.type(_SCALE).shape, site.attr_int("block_size", 0)
        if not x:
            return None
        axis = site.axis(site.attr_int("axis", 1), len(x))
        if block <= 0:
            return (axis, 1) if scale == x[axis : axis + 1] else None
        blocks = -(-x[axis] // block)
        return (axis, block) if scale == (*x[:axis], blocks, *x[axis + 1 :]) else None

    def aligned(self, site: Site, value: Array | None) -> Array | None:
        """A scale or zero point in a shape that broadcasts."""
        if value is None or value.size == 1:
            return None if value is None else value.reshape(())
        grid = self.grid(site)
        assert grid is not None
        (axis, block), x = grid, site.type(0).shape
        if block == 1 and value.ndim == 1:
            return value.reshape(-1, *(1 for _ in x[axis + 1 :]))
        return np.repeat(value, block, axis).take(range(x[axis]), axis)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, scale, zero = (*inputs, None)[:3]
        return super().reference(site, x, self.aligned(site, scale), *([self.aligned(site, zero)] * site.has(_ZERO)))

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        if site.type(_SCALE).size == 1:
            return join(site, streams)
        x, grid = only(site, streams), self.grid(site)
        assert grid is not None
        if x.axis is not None and (x.axis == grid[0] or site.type(_SCALE).rank > 1):
            raise site.not_streamable("its scales differ from frame to frame")
        return Streamed((x,))

    def lower(self, site: Site, low: Lowering) -> None:
        shape = site.type(0).shape
        given = [(low.input(0), shape)]
        given += [self.operand(site, low, k) for k in (_SCALE, _ZERO) if site.has(k)]
        emit_loop(low, shape, given, parsed(site, self.lines(site)), low.output(0))

    def operand(self, site: Site, low: Lowering, index: int) -> tuple[Place, tuple[int, ...]]:
        """Where scale or zero point lies, and the shape in which it broadcasts."""
        x, own = site.type(0).shape, site.type(index)
        if own.size == 1:
            return low.input(index), ()
        grid = self.grid(site)
        assert grid is not None
        axis, block = grid
        if own.rank == 1 and block == 1:
            return low.input(index), (own.size, *(1 for _ in x[axis + 1 :]))
        whole = low.scratch(own.dtype, site.type(0).size)
        indices = low.weight(ints([i // block for i in range(x[axis])]))
        lower_take(low, own.shape, axis, low.input(index), indices, x[axis], whole)
        return whole, x


@register
class QuantizeLinear(_Linear):
    """See the module's text."""

    name = "QuantizeLinear"

    def lines(self, site: Site) -> Sequence[str]:
        wanted = site.type(_ZERO).dtype.value if site.has(_ZERO) else site.attr_str("output_dtype", "uint8")
        if wanted not in [dtype.value for dtype in QUANTIZED]:
            known = ", ".join(dtype.value for dtype in QUANTIZED)
            raise UnsupportedError(
                f"node '{site.node.name}' (QuantizeLinear): {wanted} is not supported, only {known}; quantise to 8 bits"
            )
        lines, x, n = list[str](), 0, len(site.types)
        if site.type(0).dtype is DType.I32:
            lines.append(line("Cast.float32", 0))
            x = n
        if not site.has(_ZERO):
            return [*lines, line(f"Quantize.{wanted}", x, _SCALE, 0.0)]
        lines.append(line("Cast.float32", _ZERO))
        return [*lines, line(f"Quantize.{wanted}", x, _SCALE, n + len(lines) - 1)]


@register
class DequantizeLinear(_Linear):
    """See the module's text."""

    name = "DequantizeLinear"

    def lines(self, site: Site) -> Sequence[str]:
        q, n = site.type(0).dtype, len(site.types)
        if q not in (*QUANTIZED, DType.I32):
            raise UnsupportedError(
                f"node '{site.node.name}' (DequantizeLinear): {q.value} is not supported, only "
                f"{', '.join(dtype.value for dtype in (*QUANTIZED, DType.I32))}"
            )
        if not site.has(_ZERO):
            lines = [line("Cast.float32", 0)]
        elif q is DType.I32:  # the difference has more bits than a float32
            lines = [line("Sub", 0, _ZERO), line("Cast.float32", n)]
        else:
            lines = [line("Cast.float32", 0), line("Cast.float32", _ZERO), line("Sub", n, n + 1)]
        lines.append(line("Mul", n + len(lines) - 1, _SCALE))
        wanted = site.attr_str("output_dtype", "float32")
        return lines if wanted == "float32" else [*lines, line(f"Cast.{wanted}", n + len(lines) - 1)]


@register
class DynamicQuantizeLinear(Op):
    """See the module's text."""

    name = "DynamicQuantizeLinear"
    regrids = True

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x = site.type(0)
        if x.dtype is not DType.F32:
            raise UnsupportedError(
                f"node '{site.node.name}' (DynamicQuantizeLinear): {x.dtype.value} is not supported, only float32"
            )
        if x.size == 0:
            raise site.shape_error(f"input {x} has no elements")
        return TensorType(DType.U8, x.shape), TensorType(DType.F32, ()), TensorType(DType.U8, ())

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x = np.asarray(inputs[0], np.float32)
        low, high = np.minimum(x.min(), np.float32(0)), np.maximum(x.max(), np.float32(0))
        scale = np.float32(1) if low == high else (high - low) / np.float32(255)
        zero = np.rint(np.clip(-low / scale, 0, 255)).astype(np.uint8)
        return ROWS["Quantize.uint8"].numpy(x, scale, zero), np.asarray(scale), np.asarray(zero)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        return Streamed((x, x, x) if x.axis is None else (x, None, None))

    def lower(self, site: Site, low: Lowering) -> None:
        n, x = site.type(0).size, low.input(0)
        least, most = low.scratch(DType.F32, 1), low.scratch(DType.F32, 1)
        for name, target in (("ReduceMin", least), ("ReduceMax", most)):
            lower_reduction(REDUCTIONS[name], low, [(1, n, 1)], x, target)
        q, scale, zero = (low.output(i) for i in range(3))
        low.loop((1,), [(least, (1,)), (most, (1,))], [Apply(quantize.range_scale, (Register(0), Register(1)))], scale)
        low.loop((1,), [(least, (1,)), (scale, (1,))], [Apply(quantize.range_zero, (Register(0), Register(1)))], zero)
        lines = [line("Cast.float32", 2), line("Quantize.uint8", 0, 1, 3)]
        emit_lines(site, low, (n,), [(x, (n,)), (scale, ()), (zero, ())], lines, q)
