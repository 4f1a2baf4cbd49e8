"""Expand and Tile: the same elements several times.

    Expand  data broadcast with a target shape, both ways (a 1 in the target keeps the data's dimension)
    Tile    repeats[i] copies one behind the other on axis i

Source  onnx.ai/onnx/operators, pages of Expand and Tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ops._moves import EXACT, const_ints, contiguous, ints, lower_strided
from streamrnn.ops._time import only


@register
class Expand(Op):
    """See the module's text."""

    name = "Expand"
    tolerance = EXACT

    def _aligned(self, site: Site) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the data and of the target, brought to one rank with ones in front."""
        x, target = site.type(0).shape, const_ints(site, 1, "the target shape")
        rank = max(len(x), len(target))
        return (1,) * (rank - len(x)) + x, (1,) * (rank - len(target)) + target

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        shape = []
        for n, wanted in zip(*self._aligned(site), strict=True):
            if wanted < 0 or (n != wanted and n != 1 and wanted != 1):
                raise site.shape_error(f"{site.type(0)} does not expand to {const_ints(site, 1, 'the target shape')}")
            shape.append(wanted if n == 1 else n)
        return (site.type(0).with_shape(tuple(shape)),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.broadcast_to(np.asarray(inputs[0]), self.infer(site)[0].shape).copy(),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is None:
            return Streamed((x,))
        shape, target = self._aligned(site)
        axis = x.axis + len(shape) - site.type(0).rank
        return Streamed((replace(x, axis=axis),), consts={1: ints([*target[:axis], 1, *target[axis + 1 :]])})

    def lower(self, site: Site, low: Lowering) -> None:
        shape, _ = self._aligned(site)
        strides = [0 if n == 1 else s for n, s in zip(shape, contiguous(shape), strict=True)]
        lower_strided(low, 0, site.out(0).shape, strides)


@register
class Tile(Op):
    """See the module's text."""

    name = "Tile"
    tolerance = EXACT

    def repeats(self, site: Site) -> tuple[int, ...]:
        repeats = const_ints(site, 1, "the repeats")
        if len(repeats) != site.type(0).rank or min(repeats, default=0) < 0:
            raise site.shape_error(f"repeats {repeats} do not fit {site.type(0)}")
        return repeats

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x = site.type(0)
        return (x.with_shape(tuple(n * r for n, r in zip(x.shape, self.repeats(site), strict=True))),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.tile(np.asarray(inputs[0]), self.repeats(site)),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is not None and self.repeats(site)[x.axis] != 1:
            raise site.not_streamable("repeats the clip along time")
        return Streamed((x,))

    def lower(self, site: Site, low: Lowering) -> None:
        shape = site.type(0).shape
        sizes: list[int] = []
        strides: list[int] = []
        for n, r, s in zip(shape, self.repeats(site), contiguous(shape), strict=True):
            sizes += [r, n]
            strides += [0, s]
        lower_strided(low, 0, sizes, strides)
