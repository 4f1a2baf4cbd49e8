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


def pack_bytes(M: Array) -> tuple[Array, Array]:
    """(weights, totals) for M int8 [outputs, n]."""
    outputs, n = M.shape
    vectors, quads = tiles(outputs), -(-n // 4)
    padded = np.zeros((vectors * LANES, 4 * quads), np.int8)
    padded[:outputs, :n] = M
    lanes = padded.reshape(vectors, LANES, quads, 4).transpose(0, 2, 1, 3)  # [vector][k / 4][16][4]
    whole = vectors // 4 * 4
    blocks = lanes[:whole].reshape(-1, 4, quads, LANES, 4).swapaxes(1, 2)
    return np.concatenate([blocks.ravel(), lanes[whole:].ravel()]), padded.sum(axis=1, dtype=np.int32)


def in_lanes(row: Array) -> Array:
    """[outputs] as whole vectors; what is behind the outputs is zero."""
    padded = np.zeros(tiles(row.size) * LANES, np.float32)
    padded[: row.size] = row
    return padded


def lower_bytes(low: Lowering, rows: int, M: Array, scales: Array, bias: Array, x: Place, y: Place) -> None:
    """y [rows][outputs] = x [rows][n] times (M [outputs, n] * scales [outputs]), plus bias [outputs]."""
    outputs, n = M.shape
    w, totals = pack_bytes(M)
    low.call(
        byte_products.dense, rows, n, outputs, grid_steps(n),
        low.weight(w), low.weight(totals), low.weight(in_lanes(scales)), low.weight(in_lanes(bias)), x, y,
        low.scratch(DType.U8, row_bytes(n)), low.scratch(DType.I32, tiles(outputs) * LANES), work=rows * n * outputs,
    )  # fmt: skip
