"""What products with weights of 8 bits share: the packing for `kernels.byte_products`, and a product with floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Apply, Lowering, Place, Register
from streamrnn.ir.op import Site
from streamrnn.ir.types import DType
from streamrnn.kernels import byte_conv, byte_products, casts
from streamrnn.kernels.simd import LANES, tiles
from streamrnn.ops._moves import ints

#: the largest number on the grid of activations
_MOST = 8191
_KEEP = casts.cast.typed(x="i64", result="i64")


def grid_steps(n: int) -> float:
    """The largest number on the grid of n activations, so that no sum of products leaves 32 bits."""
    return float(min(_MOST, (2**31 - 1) // (128 * max(1, n))))


def row_bytes(n: int) -> int:
    """Bytes of a row of n activations on their grid."""
    return 2 * tiles(n) * LANES


def pack_bytes(M: Array) -> tuple[Array, Array, Array]:
    """(weights, totals, lack) for M [outputs, n], integers that span at most 256 values in each output."""
    outputs, n = M.shape
    vectors, quads = tiles(outputs), -(-n // 4)
    padded, lack = np.zeros((vectors * LANES, 4 * quads), np.int8), np.zeros(vectors * LANES, np.int32)
    wide = M.astype(np.int64)
    least, most = wide.min(axis=1, initial=0), wide.max(axis=1, initial=0)
    lack[:outputs] = np.where((least < -128) | (most > 127), (least + most + 1) // 2, 0)
    padded[:outputs, :n] = wide - lack[:outputs, None]
    totals = np.zeros(vectors * LANES, np.int32)
    totals[:outputs] = wide.sum(axis=1)
    lanes = padded.reshape(vectors, LANES, quads, 4).transpose(0, 2, 1, 3)  # [vector][k / 4][16][4]
    whole = vectors // 4 * 4
    blocks = lanes[:whole].reshape(-1, 4, quads, LANES, 4).swapaxes(1, 2)
    return np.concatenate([blocks.ravel(), lanes[whole:].ravel()]), totals, lack


def in_lanes(row: Array) -> Array:
    """[outputs] as whole vectors; what is behind the outputs is zero."""
    padded = np.zeros(tiles(row.size) * LANES, np.float32)
    padded[: row.size] = row
    return padded


def lower_bytes(low: Lowering, rows: int, M: Array, scales: Array, bias: Array, x: Place, y: Place) -> None:
    """y [rows][outputs] = x [rows][n] times (M [outputs, n] * scales [outputs]), plus bias [outputs]."""
    outputs, n = M.shape
    w, totals, _ = pack_bytes(M)
    low.call(
        byte_products.dense, rows, n, outputs, grid_steps(n),
        low.weight(w), low.weight(totals), low.weight(in_lanes(scales)), low.weight(in_lanes(bias)), x, y,
        low.scratch(DType.U8, row_bytes(n)), low.scratch(DType.I32, tiles(outputs) * LANES), work=rows * n * outputs,
    )  # fmt: skip


def lower_sums(low: Lowering, rows: int, M: Array, x: Place, zero: Place, y: Place) -> None:
    """y [rows][outputs], int32, = (x [rows][n] less zero) times M [outputs, n]. x: bytes; zero: from `lower_zero`; M: integers
    of 9 bits."""
    (outputs, n), by = M.shape, raised_by(x)
    row = n
    if by or n % 4:
        row = tiles(n) * LANES
        seen = low.scratch(DType.U8, rows * row)
        low.call(byte_products.raised.typed(x=x.dtype.pointer), rows, n, row, by, x, seen, work=rows * n)
        x = seen
    w, totals, lack = pack_bytes(M)
    places = (low.weight(part) for part in (w, totals, lack))
    work = rows * n * outputs
    low.call(byte_products.product, rows, n, outputs, row, by, int(lack.any()), *places, zero, x, y, work=work)


def raised_by(x: Place) -> int:
    """What makes bytes uint8."""
    return 128 if x.dtype is DType.I8 else 0


def lower_zero(site: Site, low: Lowering, index: int) -> Place:
    """The single zero point in input `index`, 0 where that is left out, as an int32."""
    value = site.const(index) if site.has(index) else np.zeros(1, np.int32)
    if value is not None:
        return low.weight(value.astype(np.int32).reshape(1))
    zero = low.scratch(DType.I32, 1)
    low.loop((1,), [(low.input(index), (0,))], [Apply(_KEEP, (Register(0),), DType.I32)], zero)
    return zero


@dataclass(frozen=True)
class ByteFilters:
    """A convolution in 8 bits, over rows and columns. sizes: batch, height and width of the output; steps: distance in x of
    batch entries, groups, rows, columns; offsets: of the products' inputs; W [groups, channels out per group, n]."""

    sizes: tuple[int, int, int]
    steps: tuple[int, int, int, int]
    offsets: Sequence[int]
    W: Array

    def lower_sums(self, low: Lowering, x: Place, y: Place, zero: Place | None = None) -> None:
        """y, int32, = the sums of x, int16 in -8192 .. 8191; or of bytes less `zero`, from `lower_zero`."""
        (batch, height, width), (groups, c_out, n) = self.sizes, self.W.shape
        w, totals, lack = (np.concatenate(parts) for parts in zip(*map(pack_bytes, self.W), strict=True))
        sizes = batch, groups, c_out, n, height, width, *self.steps
        weights = *(low.weight(part) for part in (w, totals, lack)), low.weight(ints(self.offsets))
        scratch = low.scratch(DType.U8, width * row_bytes(n)), low.scratch(DType.I32, width * c_out)
        use_lack, work = int(lack.any()), batch * groups * c_out * n * height * width
        if zero is None:
            low.call(byte_conv.conv, *sizes, use_lack, *weights, x, y, *scratch, work=work)
        else:
            kernel = byte_conv.conv_of_bytes.typed(x=x.dtype.pointer)
            low.call(kernel, *sizes, raised_by(x), use_lack, *weights, zero, x, y, *scratch, work=work)

    def lower(self, low: Lowering, scales: Array, bias: Array, x: Place, y: Place) -> None:
        """y = the convolution of x, all floats, with W * scales, plus bias; both [channels]."""
        (batch, height, width), (groups, c_out, n) = self.sizes, self.W.shape
        size, area = self.steps[0], height * width
        q, units = low.scratch(DType.I16, batch * size), low.scratch(DType.F32, batch)
        sums = low.scratch(DType.I32, batch * groups * c_out * area)
        low.call(byte_conv.grid, batch, size, grid_steps(n), x, q, units, work=batch * size)
        self.lower_sums(low, q, sums)
        places = (low.weight(row.astype(np.float32)) for row in (scales, bias))
        low.call(byte_conv.scaled, batch, groups * c_out, area, sums, units, *places, y, work=batch * groups * c_out * area)
