"""What products with weights of 8 bits share: the packing for `kernels.byte_products`, and a product with floats."""

from __future__ import annotations

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.types import DType
from streamrnn.kernels import byte_products
from streamrnn.kernels.simd import LANES, tiles

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
