"""What ops share that only move elements: their parameters, strided reads that are views where they can be, boxes, fills."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.op import Site, Tolerance
from streamrnn.ir.types import DType
from streamrnn.kernels import moves
from streamrnn.ops._casts import converted

#: elements are moved, never computed
EXACT = Tolerance(0.0, 0.0)
#: outer dimensions that `moves.copy_blocks` has
_BLOCK_DIMS = 3


def const_ints(site: Site, index: int, what: str) -> tuple[int, ...]:
    """The integers of constant input `index`. Raises UnsupportedError where it is computed at run time, ShapeError."""
    value = site.need_const(index, what)
    if value.dtype.kind != "i" or value.ndim > 1:
        raise site.shape_error(f"{what} (input {index}) is {value.dtype}{list(value.shape)}, not a list of integers")
    return tuple(int(n) for n in value.reshape(-1))


def distinct_axes(site: Site, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """`axes` counted from the front, in the order given. Raises ShapeError where one is out of range or comes twice."""
    found = tuple(site.axis(axis, rank) for axis in axes)
    if len(set(found)) != len(found):
        raise site.shape_error(f"axes {tuple(axes)} name one axis twice")
    return found


def check_indices(site: Site, sizes: Sequence[int]) -> None:
    """ShapeError where indices (input 1), one column for each of `sizes`, are no integers or, as constants, out of range."""
    t, value = site.type(1), site.const(1)
    if t.dtype not in (DType.I64, DType.I32):
        raise site.shape_error(f"indices are {t.dtype.value}, not int64 or int32")
    if t.size and 0 in sizes:
        raise site.shape_error("indexes an axis without elements")
    if value is not None and value.size:
        columns = value.reshape(-1, len(sizes))
        for size, low, high in zip(sizes, columns.min(axis=0), columns.max(axis=0), strict=True):
            if low < -size or high >= size:
                raise site.shape_error(f"indices {low} .. {high} are out of range for {size} elements")


def wide_indices(site: Site, low: Lowering) -> Place:
    """Input 1, the indices, as int64."""
    value = site.const(1)
    if value is not None:
        return low.weight(value.astype(np.int64))
    return converted(low, low.input(1), DType.I64, site.type(1).size)


def contiguous(shape: Sequence[int]) -> list[int]:
    """C-contiguous strides in elements."""
    return [math.prod(shape[d + 1 :]) for d in range(len(shape))]


def merged(shape: Sequence[int], *strides: Sequence[int]) -> list[tuple[int, ...]]:
    """Rows (size, stride in each of `strides`), outermost first: sizes of 1 dropped, neighbours merged where all strides
    allow it."""
    rows: list[tuple[int, ...]] = []
    for size, *steps in zip(shape, *strides, strict=True):
        if size == 1:
            continue
        if rows and all(outer == inner * size for outer, inner in zip(rows[-1][1:], steps, strict=True)):
            rows[-1] = (rows[-1][0] * size, *steps)
        else:
            rows.append((size, *steps))
    return rows


def evenly_spaced(places: Array, depth: int = 3) -> list[tuple[int, int]] | None:
    """Rows (size, step), outermost first, at most `depth`, where `places` are those of nested loops: their first element plus
    index times step, summed over the rows. None where they are not."""
    flat = places.reshape(-1)
    if flat.size < 2:
        return [(flat.size, 0)]
    steps = np.diff(flat)
    apart = np.nonzero(steps != steps[0])[0]
    run = int(apart[0]) + 1 if len(apart) else flat.size
    if depth == 0 or flat.size % run:
        return None
    rows = flat.reshape(-1, run)
    outer = evenly_spaced(rows[:, 0], depth - 1) if len(rows) > 1 else []
    if outer is None or (rows - rows[:, :1] != rows[0] - rows[0, 0]).any():
        return None
    return [*outer, (run, int(steps[0]))]


def lower_strided(low: Lowering, output: int, shape: Sequence[int], strides: Sequence[int], offset: int = 0) -> None:
    """Output `output` is input 0 read as `shape` with `strides` from element `offset` on: a view where that is one run."""
    rows = merged(shape, strides)
    if 0 in shape:
        low.output(output)
    elif rows in ([], [(math.prod(shape), 1)]):
        low.view(output, 0, offset)
    else:
        low.loop([n for n, _ in rows], [(low.input(0).at(offset), [s for _, s in rows])], [], low.output(output))


def fill(low: Lowering, value: Array | Place, elements: int, target: Place) -> None:
    """Emit `elements` times the single number `value`, or the one at that place, whose element type is that of `target`."""
    if elements:
        source = value if isinstance(value, Place) else low.weight(value.reshape(1))
        low.loop((elements,), [(source, (0,))], [], target)


def as_bytes(place: Place) -> Place:
    """The same place counted in bytes, for the kernels of `moves`."""
    return place.as_bytes()


def pointer_of(dtype: DType) -> str:
    """The pointer type of a kernel that is typed by element type; truth values go as bytes, see `as_numbers`."""
    return DType.U8.pointer if dtype is DType.BOOL else dtype.pointer


def as_numbers(place: Place) -> Place:
    """`place` as what `pointer_of` says: truth values are moved as bytes."""
    return as_bytes(place) if place.dtype is DType.BOOL else place


def copy_box(
    low: Lowering, shape: Sequence[int], source: Place, source_strides: Sequence[int], target: Place, strides: Sequence[int]
) -> None:
    """Emit a copy of a box of `shape` between two places with strides of their own (in elements)."""
    if 0 in shape:
        return
    size = target.dtype.size
    rows = merged(shape, source_strides, strides)
    run = size
    if rows and rows[-1][1:] == (1, 1):
        run *= rows.pop()[0]
    if not rows:
        low.copy(source, target, run // size)
        return
    rows = [(1, 0, 0)] * (_BLOCK_DIMS - len(rows)) + rows
    outer, inner = rows[:-_BLOCK_DIMS], rows[-_BLOCK_DIMS:]
    sizes, steps, to = zip(*inner, strict=True)
    work = math.prod(sizes) * run // size
    for index in itertools.product(*(range(n) for n, _, _ in outer)):
        at = [sum(i * row[side] for i, row in zip(index, outer, strict=True)) for side in (1, 2)]
        low.call(
            moves.copy_blocks, *sizes, run, *(s * size for s in steps), *(s * size for s in to),
            as_bytes(source.at(at[0])), as_bytes(target.at(at[1])), work=work,
        )  # fmt: skip


def lower_take(low: Lowering, shape: Sequence[int], axis: int, source: Place, indices: Place, count: int, to: Place) -> None:
    """Emit a gather of `count` indices (int64) along `axis` of an array of `shape`."""
    outer, run = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    if outer * count * run:
        low.call(
            moves.take, outer, shape[axis], count, run * to.dtype.size, indices, as_bytes(source), as_bytes(to),
            work=outer * count * run,
        )  # fmt: skip


def lower_constant(low: Lowering, value: Array) -> None:
    """Output 0 is `value`, for ops whose result does not depend on run-time data."""
    low.copy(low.weight(value), low.output(0), value.size)


def ints(values: Sequence[int]) -> Array:
    """`values` as a constant of a step graph."""
    return np.array(values, np.int64)
