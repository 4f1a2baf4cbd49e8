"""Recurrent nodes whose W and R are int8: what the kernels of `cells_bytes` take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.op import Site
from streamrnn.ir.types import DType
from streamrnn.kernels.simd import LANES, tiles
from streamrnn.ops._bytes import grid_steps, lower_bytes, pack_bytes, row_bytes
from streamrnn.ops._recurrent import Cell, Run


@dataclass(frozen=True)
class Bytes:
    """Weights of a recurrent node: values int8 [D, gates, H, n] and scales [D, gates, H], gates in the kernel's order."""

    values: Array
    scales: Array

    @staticmethod
    def of(site: Site, index: int, gates: Sequence[int]) -> Bytes | None:
        """Input `index`, [D, gates * H, n] with one scale for each row, its gates in the order given; None where it is not
        stored in 8 bits."""
        stored = site.store(index, "int8")
        if stored is None or stored.scales is None:
            return None
        (D, rows, n), order = stored.values.shape, list(gates)
        scales = np.broadcast_to(stored.scales, (D, rows, 1)) if stored.scales.shape[2] == 1 else None
        if scales is None:
            return None
        H = rows // len(order)
        return Bytes(stored.values.reshape(D, -1, H, n)[:, order], scales.reshape(D, -1, H)[:, order])

    def lanes(self) -> tuple[Array, Array]:
        """(values [D][tile][gate][16][n], scales [D][tile][gate][16]); zero behind H."""
        return rows_in_lanes(self.values), rows_in_lanes(self.scales)


def rows_in_lanes(rows: Array) -> Array:
    """[D][tile][gate][16, ...] from [D, gates, H, ...]; lanes behind H are zero."""
    D, gates, H, *rest = rows.shape
    padded = np.zeros((D, gates, tiles(H) * LANES, *rest), rows.dtype)
    padded[:, :, :H] = rows
    return padded.reshape(D, gates, tiles(H), LANES, *rest).swapaxes(1, 2)


@dataclass(frozen=True)
class ByteCell(Cell):
    """A `Cell` whose input is multiplied before, in 8 bits, and whose kernel multiplies the state by `R`."""

    R: Bytes

    @staticmethod
    def given(site: Site, low: Lowering, bias: Array, w_gates: Sequence[int], r_gates: Sequence[int]) -> ByteCell | None:
        """Emits the product of the input; None where W or R is not stored in 8 bits. w_gates, r_gates: the kernel's gates in
        `start` and in the weights, as gates of the operator. bias [D, gates, H], in the order of w_gates."""
        W, R = Bytes.of(site, 1, w_gates), Bytes.of(site, 2, r_gates)
        if W is None or R is None:
            return None
        S, batch, n_in = site.type(0).shape
        values, scales = W.lanes()
        starts = rows_in_lanes(bias)
        start = low.scratch(DType.F32, S * batch * scales.size)
        lower_bytes(low, S * batch, values.reshape(-1, n_in), scales.ravel(), starts.ravel(), low.input(0), start)
        return ByteCell(site, low, W.values, bias, start, False, R)

    def products(self, run: Run, gates: slice = slice(None)) -> tuple[float | Place, ...]:
        """steps, w, totals, scales of the kernels, of some of the gates in their order."""
        own = slice(run.first, run.first + run.count), gates
        values, scales = Bytes(self.R.values[own], self.R.scales[own]).lanes()
        packed = [pack_bytes(rows.reshape(-1, self.hidden)) for rows in values]
        w, totals = (self.low.weight(np.concatenate(parts)) for parts in list(zip(*packed, strict=True))[:2])
        return grid_steps(self.hidden), w, totals, self.low.weight(scales)

    def held(self) -> tuple[Place, Place, Place]:
        """seen, units, sums of the kernels."""
        return (
            self.low.scratch(DType.U8, self.batch * row_bytes(self.hidden)),
            self.low.scratch(DType.F32, self.batch),
            self.low.scratch(DType.I32, self.batch * self.lanes(self.gates)),
        )
