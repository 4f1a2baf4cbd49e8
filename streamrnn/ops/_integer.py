"""What products of quantised numbers share: zero points taken off, sums brought back to a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Apply, Lowering, Place, Register
from streamrnn.ir.op import Site
from streamrnn.ir.types import DType
from streamrnn.kernels import casts, scalar
from streamrnn.ops.pointwise import emit_lines
from streamrnn.ops.pointwise_table import ROWS, line

#: a place and the shape with which it broadcasts
Shaped = tuple[Place, tuple[int, ...]]

_EIGHT_BITS = (DType.I8, DType.U8)
_KEEP = casts.cast.typed(x="i64", result="i64")
_MINUS = scalar.sub.typed(a="i64", b="i64", result="i64")


def check_bytes(site: Site, operand: int, zero: int) -> None:
    """Raises UnsupportedError, ShapeError where an operand is not of 8 bits or its zero point (optional) is not of its type."""
    dtype = site.type(operand).dtype
    if dtype not in _EIGHT_BITS:
        raise UnsupportedError(
            f"node '{site.node.name}' ({site.node.op}): input {operand} is {dtype.value}; only int8 and uint8 are multiplied"
        )
    if site.has(zero) and site.type(zero).dtype is not dtype:
        raise site.shape_error(f"input {operand} is {dtype.value}, its zero point {site.type(zero).dtype.value}")


def check_scale(site: Site, *inputs: int) -> None:
    """UnsupportedError where one of these inputs is not float32."""
    for index in inputs:
        if site.type(index).dtype is not DType.F32:
            raise UnsupportedError(
                f"node '{site.node.name}' ({site.node.op}): scale (input {index}) is {site.type(index).dtype.value}; only "
                f"float32 is supported"
            )


def less_zero(
    low: Lowering, x: Place, shape: Sequence[int], strides: Sequence[int], zero: tuple[Place, Sequence[int]] | None
) -> Place:
    """Scratch of int16 [shape]: elements of x at `strides`, less the zero point at its own strides."""
    target = low.scratch(DType.I16, int(np.prod(shape, dtype=np.int64)))
    if zero is None:
        low.loop(shape, [(x, strides)], [Apply(_KEEP, (Register(0),), DType.I16)], target)
    else:
        low.loop(shape, [(x, strides), zero], [Apply(_MINUS, (Register(0), Register(1)), DType.I16)], target)
    return target


def packed(W: Array) -> Array:
    """Weights without their zero points, in 8 bits where they fit, else in 16."""
    W = W.astype(np.int64)
    narrow = W.size == 0 or (W.min() >= -128 and W.max() <= 127)
    return W.astype(np.int8 if narrow else np.int16)


def wrapped(sums: Array) -> Array:
    """Sums of int64 as int32, which wraps around."""
    return sums.astype(np.int32)


def emit_requantized(
    site: Site,
    low: Lowering,
    shape: tuple[int, ...],
    sums: Shaped,
    scales: tuple[Shaped, Shaped, Shaped],
    zero: Shaped,
    bias: Shaped | None = None,
) -> None:
    """Output 0 = the sums (int32), plus bias (int32), times a scale and b scale by y scale, on the grid with `zero`.

    All of it is float32 in this order, as in onnxruntime: sum * ((a * b) / y), rounded to even.
    """
    given = [sums, *scales, zero, *([] if bias is None else [bias])]
    n = len(given)
    lines = [line("Mul", 1, 2), line("Div", n, 3), line("Cast.float32", 4)]
    if bias is not None:
        lines.append(line("Add", 0, 5))
    lines.append(line("Cast.float32", 0 if bias is None else n + 3))
    lines.append(line("Mul", n + len(lines) - 1, n + 1))
    lines.append(line(f"Quantize.{zero[0].dtype.value}", n + len(lines) - 1, 1.0, n + 2))
    emit_lines(site, low, shape, given, lines, low.output(0))


def requantized(sums: Array, scales: Sequence[Array], zero: Array, dtype: DType) -> Array:
    """`emit_requantized` in NumPy; `sums` holds the bias already, scales are those of a, b and y."""
    a, b, y = (np.asarray(s, np.float32) for s in scales)
    value = sums.astype(np.float32) * (a * b / y)
    return np.asarray(ROWS[f"Quantize.{dtype.value}"].numpy(value, np.float32(1), zero))
