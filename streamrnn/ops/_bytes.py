"""What products with weights of 8 bits share: the packing for `kernels.byte_products`, and a product with floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.types import DType
from streamrnn.kernels import byte_conv, byte_products
from streamrnn.kernels.simd import LANES, tiles
from streamrnn.ops._moves import ints

#: the largest number on the grid of activations
_MOST = 8191


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


def lower_sums(low: Lowering, rows: int, M: Array, x: Place, y: Place) -> None:
    """y [rows][outputs], int32, = x [rows][n], int16 in -8192 .. 8191, times M [outputs, n], integers of 9 bits."""
    (outputs, n), seen = M.shape, low.scratch(DType.U8, rows * row_bytes(M.shape[1]))
    w, totals, lack = pack_bytes(M)
    low.call(byte_products.small_grid, rows, n, x, seen, work=rows * n)
    places = (low.weight(part) for part in (w, totals, lack))
    low.call(byte_products.product, rows, n, outputs, int(lack.any()), *places, seen, y, work=rows * n * outputs)


@dataclass(frozen=True)
class ByteFilters:
    """A convolution in 8 bits, over rows and columns. sizes: batch, height and width of the output; steps: distance in x of
    batch entries, groups, rows, columns; offsets: of the products' inputs; W [groups, channels out per group, n]."""

    sizes: tuple[int, int, int]
    steps: tuple[int, int, int, int]
    offsets: Sequence[int]
    W: Array

    def lower_sums(self, low: Lowering, x: Place, y: Place) -> None:
        """y, int32, = the sums of x, int16 in -8192 .. 8191."""
        (batch, height, width), (groups, c_out, n) = self.sizes, self.W.shape
        w, totals, lack = (np.concatenate(parts) for parts in zip(*map(pack_bytes, self.W), strict=True))
        seen, sums = low.scratch(DType.U8, width * row_bytes(n)), low.scratch(DType.I32, width * c_out)
        low.call(
            byte_conv.conv, batch, groups, c_out, n, height, width, *self.steps, int(lack.any()),
            *(low.weight(part) for part in (w, totals, lack)), low.weight(ints(self.offsets)), x, y, seen, sums,
            work=batch * groups * c_out * n * height * width,
        )  # fmt: skip

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
