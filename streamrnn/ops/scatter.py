"""ScatterND, ScatterElements, TensorScatter: a copy of the data with elements changed at given indices (int64 or int32).

    ScatterND        Y = data; Y[indices[i.., :], ..] = updates[i.., ..]
    ScatterElements  Y = data; Y[indices[i, j, ..], j, ..] = updates[i, j, ..], likewise for any attribute axis
    TensorScatter    Y = cache; Y[b, .., write_indices[b] + s, ..] = update[b, .., s, ..] on attribute axis (-2), with mode
                     circular modulo its size. write_indices [batch] (int64) are 0 where left out

Attribute reduction (none, add, mul, max, min) says what becomes of an element and its update; updates are applied in order.
A constant index out of range is an error; an update whose index is computed at run time and out of range is left out.
Source  onnx.ai/onnx/operators, pages of ScatterND, ScatterElements and TensorScatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import scatter
from streamrnn.kernels._jit import Device, Kernel
from streamrnn.ops._casts import convert, converted
from streamrnn.ops._moves import (
    EXACT,
    as_bytes,
    as_numbers,
    check_indices,
    contiguous,
    copy_box,
    evenly_spaced,
    ints,
    merged,
    pointer_of,
    wide_indices,
)
from streamrnn.ops._time import join

_COMBINE: dict[str, tuple[Device, np.ufunc | None]] = {
    "none": (scatter.assigned, None),
    "add": (scatter.added, np.add),
    "mul": (scatter.multiplied, np.multiply),
    "max": (scatter.larger, np.maximum),
    "min": (scatter.smaller, np.minimum),
}


class _Scatter(Op):
    """What the two have in common. Inputs data, indices, updates."""

    def reduction(self, site: Site) -> str:
        name = site.attr_str("reduction", "none")
        if name not in _COMBINE or (name != "none" and site.type(0).dtype is DType.BOOL):
            raise UnsupportedError(
                f"node '{site.node.name}' ({self.name}): reduction '{name}' of {site.type(0).dtype.value} is not supported; "
                f"there are {', '.join(_COMBINE)}, for numbers"
            )
        return name

    def check(self, site: Site, sizes: Sequence[int], updates: tuple[int, ...]) -> tuple[TensorType, ...]:
        """The output's type, once indices into axes of `sizes` and updates, which should have the given shape, fit."""
        self.reduction(site)
        check_indices(site, sizes)
        if site.type(2) != site.type(0).with_shape(updates):
            raise site.shape_error(f"updates {site.type(2)} should be {site.type(0).with_shape(updates)}")
        return (site.type(0),)

    def write(self, site: Site, low: Lowering, kernel: Kernel, *sizes: int | Place) -> None:
        """Emit the copy of the data and `kernel` on it, for this element type and reduction; float16 is reduced in float32."""
        x, updates, name = site.type(0), site.type(2), self.reduction(site)
        y = low.update(0, 0)
        if updates.size == 0:
            return
        numbers = DType.F32 if x.dtype is DType.F16 and name != "none" else x.dtype
        target, given = converted(low, y, numbers, x.size), converted(low, low.input(2), numbers, updates.size)
        pointer = pointer_of(numbers)
        bound = kernel.typed(updates=pointer, y=pointer).bind(combine=_COMBINE[name][0])
        low.call(bound, *sizes, as_numbers(given), as_numbers(target), work=updates.size)
        if target != y:
            convert(low, target, y, x.size)

    def apply(self, site: Site, x: Array, at: tuple[Array, ...], updates: Array) -> Array:
        """`x` with `updates` taken up at index arrays `at`, in NumPy."""
        y, ufunc = x.copy(), _COMBINE[self.reduction(site)][1]
        if ufunc is None:
            y[at] = updates
        else:
            ufunc.at(y, at, updates)
        return y


@register
class ScatterND(_Scatter):
    """See the module's text."""

    name = "ScatterND"

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x, indices = site.type(0), site.type(1)
        if indices.rank == 0 or not 1 <= indices.shape[-1] <= x.rank:
            raise site.shape_error(f"indices {indices} do not fit the data {x}")
        depth = indices.shape[-1]
        return self.check(site, x.shape[:depth], (*indices.shape[:-1], *x.shape[depth:]))

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, indices, updates = (np.asarray(a) for a in inputs)
        depth = indices.shape[-1]
        tuples, sizes = indices.reshape(-1, depth).astype(np.int64), np.array(x.shape[:depth])
        tuples = np.where(tuples < 0, tuples + sizes, tuples)
        inside = ((tuples >= 0) & (tuples < sizes)).all(axis=1)
        rows = updates.reshape(len(tuples), *x.shape[depth:])[inside]
        return (self.apply(site, x, tuple(tuples[inside].T), rows),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        if any(s is not None and s.axis is not None for s in streams):
            raise site.not_streamable("writes to places of the clip")
        return join(site, streams)

    def lower(self, site: Site, low: Lowering) -> None:
        x, indices = site.type(0), site.type(1)
        dims = x.shape[: indices.shape[-1]]
        count, run = math.prod(indices.shape[:-1]), math.prod(x.shape[len(dims) :])
        if self._copied_as_box(site, low):
            return
        places = low.weight(ints(dims)), wide_indices(site, low)
        self.write(site, low, scatter.scatter_nd, count, len(dims), run, *places)

    def _copied_as_box(self, site: Site, low: Lowering) -> bool:
        """Emit a plain copy where constant indices make a box of the data, each place once; whether they do."""
        found = self._box(site)
        if found is None:
            return False
        first, rows = found
        box, steps = zip(*rows, strict=True)
        copy_box(low, box, low.input(2), contiguous(box), low.update(0, 0).at(first), steps)
        return True

    def _box(self, site: Site) -> tuple[int, list[tuple[int, int]]] | None:
        """(first element, rows of (size, step)) of the box of the data that constant indices make, each place once, in order;
        None where they make none."""
        value, x = site.const(1), site.type(0)
        if value is None or not value.size or self.reduction(site) != "none":
            return None
        depth = value.shape[-1]
        tuples = value.reshape(-1, depth).astype(np.int64)
        places = np.where(tuples < 0, tuples + x.shape[:depth], tuples) @ np.array(contiguous(x.shape)[:depth])
        rows = evenly_spaced(places)
        if rows is None or min(step for _, step in rows) < 0 or not np.diff(np.sort(places)).all():
            return None
        return int(places[0]), [*rows, (math.prod(x.shape[depth:]), 1)]

    def replaced(self, site: Site) -> tuple[int, int] | None:
        first, rows = self._box(site) or (0, [])
        runs = merged(*zip(*rows, strict=True)) if rows else []
        return (first, runs[0][0]) if len(runs) == 1 and runs[0][1] == 1 else None


@register
class ScatterElements(_Scatter):
    """See the module's text."""

    name = "ScatterElements"

    def axis(self, site: Site) -> int:
        return site.axis(site.attr_int("axis", 0), site.type(0).rank)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x, indices, axis = site.type(0), site.type(1), self.axis(site)
        if x.rank != indices.rank or any(d != axis and n > x.shape[d] for d, n in enumerate(indices.shape)):
            raise site.shape_error(f"indices {indices} are larger than the data {x} beside axis {axis}, or of another rank")
        return self.check(site, x.shape[axis : axis + 1], indices.shape)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, indices, updates = (np.asarray(a) for a in inputs)
        axis, given = self.axis(site), indices.astype(np.int64)
        wide: Array = np.where(given < 0, given + x.shape[axis], given)
        inside = (wide >= 0) & (wide < x.shape[axis])
        at = list(np.nonzero(inside))
        at[axis] = wide[inside]
        return (self.apply(site, x, tuple(at), updates[inside]),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        rule = join(site, streams)
        axis = rule.outputs[0].axis if rule.outputs[0] else None
        if axis is None:
            return rule
        if axis == self.axis(site) or site.type(0).shape[axis] != site.type(1).shape[axis]:
            raise site.not_streamable("writes to places of the clip")
        return rule

    def lower(self, site: Site, low: Lowering) -> None:
        x, indices, axis = site.type(0), site.type(1), self.axis(site)
        places = low.weight(ints(indices.shape)), low.weight(ints(contiguous(x.shape))), wide_indices(site, low)
        self.write(site, low, scatter.scatter_elements, indices.size, x.rank, axis, x.shape[axis], *places)


@register
class TensorScatter(Op):
    """See the module's text. A cache that nothing else reads is written in place."""

    name = "TensorScatter"
    tolerance = EXACT

    def axis(self, site: Site) -> int:
        axis = site.axis(site.attr_int("axis", -2), site.type(0).rank)
        if axis == 0:
            raise site.shape_error("axis 0 is that of the batch, not of the sequence")
        return axis

    def circular(self, site: Site) -> bool:
        mode = site.attr_str("mode", "linear")
        if mode not in ("linear", "circular"):
            raise UnsupportedError(f"node '{site.node.name}' (TensorScatter): mode '{mode}' is not linear or circular")
        return mode == "circular"

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x, update, axis = site.type(0), site.type(1), self.axis(site)
        self.circular(site)
        fits = update.dtype is x.dtype and update.rank == x.rank and update.shape[axis] <= x.shape[axis]
        if not fits or any(n != x.shape[d] for d, n in enumerate(update.shape) if d != axis):
            raise site.shape_error(f"the update {update} does not fit the cache {x} along axis {axis}")
        if site.has(2) and site.type(2) != TensorType(DType.I64, x.shape[:1]):
            raise site.shape_error(f"write_indices {site.type(2)} are not one int64 for each of {x.shape[0]} rows")
        return (x,)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        y, update, axis = np.array(inputs[0]), np.asarray(inputs[1]), self.axis(site)
        first = inputs[2] if len(inputs) > 2 and inputs[2] is not None else np.zeros(len(y), np.int64)
        for b, start in enumerate(first):
            places = int(start) + np.arange(update.shape[axis])
            places = places % y.shape[axis] if self.circular(site) else places
            inside = (places >= 0) & (places < y.shape[axis])
            rows, given = np.moveaxis(y[b], axis - 1, 0), np.moveaxis(update[b], axis - 1, 0)
            rows[places[inside]] = given[inside]
        return (y,)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        if any(s is not None and s.axis is not None for s in streams):
            raise site.not_streamable("writes to places of the clip")
        return join(site, streams)

    def lower(self, site: Site, low: Lowering) -> None:
        x, update, axis = site.type(0), site.type(1), self.axis(site)
        y = low.update(0, 0)
        first = low.input(2) if site.has(2) else low.weight(np.zeros(x.shape[0], np.int64))
        run = math.prod(x.shape[axis + 1 :]) * x.dtype.size
        if update.size:
            low.call(
                scatter.write_rows, x.shape[0], math.prod(x.shape[1:axis]), x.shape[axis], update.shape[axis], run,
                int(self.circular(site)), first, as_bytes(low.input(1)), as_bytes(y), work=update.size,
            )  # fmt: skip
