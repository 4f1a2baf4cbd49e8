"""Gather, GatherElements, GatherND: elements of an array at given indices (int64 or int32; negative ones count from the end).

    Gather          Y[.., i.., ..] = X[.., indices[i..], ..]        the indices' axes take the place of attribute axis
    GatherElements  Y[i, j, ..] = X[indices[i, j, ..], j, ..]       likewise for any attribute axis
    GatherND        Y[b.., i..] = X[b.., indices[b.., i.., :], ..]  with attribute batch_dims leading axes b

A constant index out of range is an error. One that is computed at run time is clamped to the nearest element, because a
live stream may neither stop nor read foreign memory; onnxruntime stops with an error there.

In frame mode data pass on every axis but the gathered one, of which only the last frame can be asked for (the answer so
far); indices pass with constant data (an embedding).
Source  onnx.ai/onnx/operators, pages of Gather, GatherElements, GatherND.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.kernels import moves
from streamrnn.ops._moves import (
    EXACT,
    as_bytes,
    check_indices,
    contiguous,
    copy_box,
    evenly_spaced,
    ints,
    lower_strided,
    lower_take,
    wide_indices,
)
from streamrnn.ops._time import join, only


def clamped(indices: Array, sizes: Array | int) -> Array:
    """`indices` counted from the front and clamped to 0 .. sizes - 1, as the kernels do it."""
    wide = indices.astype(np.int64)
    kept: Array = np.clip(np.where(wide < 0, wide + sizes, wide), 0, np.maximum(np.asarray(sizes) - 1, 0))
    return kept


@register
class Gather(Op):
    """See the module's text."""

    name = "Gather"
    tolerance = EXACT

    def axis(self, site: Site) -> int:
        return site.axis(site.attr_int("axis", 0), site.type(0).rank)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x, axis = site.type(0), self.axis(site)
        check_indices(site, x.shape[axis : axis + 1])
        return (x.with_shape((*x.shape[:axis], *site.type(1).shape, *x.shape[axis + 1 :])),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, indices, axis = np.asarray(inputs[0]), np.asarray(inputs[1]), self.axis(site)
        return (np.asarray(np.take(x, clamped(indices, x.shape[axis]), axis)),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        axis, rank = self.axis(site), site.type(1).rank
        if streams[0] is None and site.const(0) is not None:
            indices = streams[1]
            assert indices is not None
            return Streamed((indices if indices.axis is None else replace(indices, axis=axis + indices.axis),))
        x = only(site, streams)
        if x.axis is None:
            return Streamed((x,))
        if x.axis != axis:
            return Streamed((replace(x, axis=x.axis + rank - 1 if x.axis > axis else x.axis),))
        value, frames = site.const(1), site.type(0).shape[axis]
        if value is None or value.size != 1 or clamped(value, frames).item() != frames - 1:
            raise site.not_streamable("picks frames at fixed places of the clip; only its last one has a meaning in a stream")
        return Streamed((replace(x, axis=None),), consts={1: np.full_like(value, -1)})

    def lower(self, site: Site, low: Lowering) -> None:
        shape, axis, value = site.type(0).shape, self.axis(site), site.const(1)
        count = site.type(1).size
        rows = None if value is None or not count else evenly_spaced(wanted := clamped(value, shape[axis]))
        if rows is not None:  # a strided read
            strides = contiguous(shape)
            sizes, steps = ([row[i] for row in rows] for i in (0, 1))
            steps = [*strides[:axis], *(step * strides[axis] for step in steps), *strides[axis + 1 :]]
            offset = int(wanted.flat[0]) * strides[axis]
            lower_strided(low, 0, (*shape[:axis], *sizes, *shape[axis + 1 :]), steps, offset)
            return
        lower_take(low, shape, axis, low.input(0), wide_indices(site, low), count, low.output(0))


@register
class GatherElements(Op):
    """See the module's text."""

    name = "GatherElements"
    tolerance = EXACT

    def axis(self, site: Site) -> int:
        return site.axis(site.attr_int("axis", 0), site.type(0).rank)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x, indices, axis = site.type(0), site.type(1), self.axis(site)
        fits = x.rank == indices.rank and all(d == axis or n <= x.shape[d] for d, n in enumerate(indices.shape))
        if not fits:
            raise site.shape_error(f"indices {indices} are larger than the data {x} beside axis {axis}, or of another rank")
        check_indices(site, x.shape[axis : axis + 1])
        return (x.with_shape(indices.shape),)

    def _box(self, site: Site) -> tuple[int, ...]:
        """The part of the data that the indices speak of: as large as they are, but for the axis."""
        box, axis = list(site.type(1).shape), self.axis(site)
        box[axis] = site.type(0).shape[axis]
        return tuple(box)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, indices, axis = np.asarray(inputs[0]), np.asarray(inputs[1]), self.axis(site)
        part = x[tuple(slice(n) for n in self._box(site))]
        return (np.take_along_axis(part, clamped(indices, x.shape[axis]), axis),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        rule = join(site, streams)
        y = rule.outputs[0]
        assert y is not None
        if y.axis == self.axis(site):
            raise site.not_streamable("picks frames at places of the clip")
        if y.axis is not None and site.type(0).shape[y.axis] != site.type(1).shape[y.axis]:
            raise site.not_streamable("leaves out the clip's last frames")
        return rule

    def lower(self, site: Site, low: Lowering) -> None:
        axis, box, y = self.axis(site), self._box(site), low.output(0)
        x, t = low.input(0), site.type(0)
        if 0 in site.type(1).shape:
            return
        if box != t.shape:
            part = low.scratch(t.dtype, math.prod(box))
            copy_box(low, box, x, contiguous(t.shape), part, contiguous(box))
            x = part
        outer, inner, count = math.prod(box[:axis]), math.prod(box[axis + 1 :]), site.type(1).shape[axis]
        low.call(
            moves.take_elements, outer, box[axis], count, inner, t.dtype.size, wide_indices(site, low), as_bytes(x),
            as_bytes(y), work=site.type(1).size,
        )  # fmt: skip


@register
class GatherND(Op):
    """See the module's text."""

    name = "GatherND"
    tolerance = EXACT

    def _depth(self, site: Site) -> tuple[int, int]:
        """(batch_dims, axes of the data that one index tuple addresses)."""
        x, indices, batch = site.type(0), site.type(1), site.attr_int("batch_dims", 0)
        if x.rank == 0 or indices.rank == 0 or not 0 <= batch < min(x.rank, indices.rank):
            raise site.shape_error(f"batch_dims {batch} does not fit data {x} and indices {indices}")
        depth = indices.shape[-1]
        if x.shape[:batch] != indices.shape[:batch] or not 1 <= depth <= x.rank - batch:
            raise site.shape_error(f"indices {indices} do not fit the data {x} with {batch} batch dimensions")
        return batch, depth

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x, (batch, depth) = site.type(0), self._depth(site)
        check_indices(site, x.shape[batch : batch + depth])
        return (x.with_shape((*site.type(1).shape[:-1], *x.shape[batch + depth :])),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, (batch, depth) = np.asarray(inputs[0]), self._depth(site)
        indices = clamped(np.asarray(inputs[1]), np.array(x.shape[batch : batch + depth]))
        rest, lead = x.shape[batch + depth :], x.shape[:batch]
        flat = x.reshape(math.prod(lead), *x.shape[batch:])
        tuples = indices.reshape(math.prod(lead), math.prod(indices.shape[batch:-1]), depth)
        entry = np.arange(len(flat))[:, None]
        return (flat[(entry, *np.moveaxis(tuples, -1, 0))].reshape(*indices.shape[:-1], *rest),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        indices = streams[1]
        if streams[0] is not None or indices is None or site.const(0) is None:
            raise site.not_streamable("gathers from data that change over time")
        if indices.axis is not None and (indices.axis < self._depth(site)[0] or indices.axis == site.type(1).rank - 1):
            raise site.not_streamable("time runs along the batch or within the index tuples")
        return Streamed((indices,))

    def lower(self, site: Site, low: Lowering) -> None:
        x, (batch, depth), y = site.type(0), self._depth(site), low.output(0)
        if site.out(0).size == 0:
            return
        dims = x.shape[batch : batch + depth]
        run = math.prod(x.shape[batch + depth :])
        entries, count = math.prod(x.shape[:batch]), math.prod(site.type(1).shape[batch:-1])
        low.call(
            moves.take_nd, entries, count, depth, math.prod(dims), run * x.dtype.size, low.weight(ints(dims)),
            wide_indices(site, low), as_bytes(low.input(0)), as_bytes(y), work=entries * count * run,
        )  # fmt: skip
