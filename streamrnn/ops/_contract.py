"""Sums of products of two tensors whose axes have names: y[..] = sum of a[..] b[..] over every name that y does not have.

Names become the batch, the rows, the columns and the sum of a stack of matrix products. What does not lie evenly enough for
that is copied first; constants are laid out when the plan is made.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Apply, Lowering, Place, Register
from streamrnn.ir.types import DType
from streamrnn.kernels import contract as kernels
from streamrnn.kernels import dense, scalar
from streamrnn.ops._moves import contiguous, merged
from streamrnn.ops._recurrent import pack_lanes
from streamrnn.ops.reduce import ROWS, lower_reduction

#: the element types that can be multiplied
MULTIPLIED = tuple(dtype for dtype in DType if dtype not in (DType.F16, DType.BOOL))
#: rows from which on it pays to turn a matrix round before it is multiplied
_MANY_ROWS = 4
#: calls of a kernel for one contraction
_MOST_CALLS = 8


@dataclass(frozen=True)
class Named:
    """A tensor: element (i, j, ..) lies at i * strides[first name] + j * strides[second name] .. from `place`. Where it is
    repeated along a name, it does not have it. array: the elements of a constant."""

    place: Place
    strides: Mapping[str, int]
    array: Array | None = None

    @staticmethod
    def of(place: Place, names: Sequence[str], sizes: Mapping[str, int], array: Array | None = None) -> Named:
        """A C-contiguous tensor with these names."""
        steps = contiguous([sizes[name] for name in names])
        return Named(place, {name: step for name, step in zip(names, steps, strict=True) if sizes[name] > 1}, array)

    def ordered(self, low: Lowering, sizes: Mapping[str, int], names: Sequence[str]) -> Named:
        """The same, C-contiguous in this order of its names."""
        names = [name for name in names if name in self.strides]
        shape, steps = [sizes[name] for name in names], [self.strides[name] for name in names]
        if steps == contiguous(shape):
            return self
        if self.array is not None:
            flat = self.array.reshape(-1)
            array = np.lib.stride_tricks.as_strided(flat, shape, [s * flat.itemsize for s in steps]).copy()
            return Named.of(low.weight(array), names, sizes, array)
        copy = low.scratch(self.place.dtype, prod(shape))
        rows = merged(shape, steps) or [(1, 1)]
        low.loop([n for n, _ in rows], [(self.place, [s for _, s in rows])], [], copy)
        return Named.of(copy, names, sizes)


def contract(low: Lowering, sizes: Mapping[str, int], a: Named, b: Named, out: Sequence[str], y: Place) -> None:
    """Emit y, C-contiguous with the names `out`. No size is 0."""
    out = [name for name in out if sizes[name] > 1]
    a, b = _summed_alone(low, sizes, a, b, out), _summed_alone(low, sizes, b, a, out)
    inner = sorted((name for name in a.strides if name in b.strides and name not in out), key=lambda name: -a.strides[name])
    if not inner:
        _multiplied(low, sizes, a, b, out, y)
        return
    shared = [name for name in out if name in a.strides and name in b.strides]
    if out and shared == out and y.dtype is DType.F32 and 1 in (a.strides[out[-1]], b.strides[out[-1]]):
        # no matrix: all products, then sums over the middle
        *before, last = out
        order = [*before, *inner, last]
        every = low.scratch(y.dtype, prod(sizes[name] for name in order))
        _multiplied(low, sizes, a, b, order, every)
        outer, n = prod(sizes[name] for name in before), prod(sizes[name] for name in inner)
        lower_reduction(ROWS["ReduceSum"], low, [(outer, n, sizes[last])], every, y)
        return
    if out and out[-1] in shared and len(shared) < len(out):
        # neighbours in y are one matrix each: first the products, then the order
        _turned(low, sizes, a, b, [*shared, *(name for name in out if name not in shared)], out, y)
        return
    if out and out[-1] not in b.strides:
        a, b = b, a
        inner.sort(key=lambda name: -a.strides[name])
    if _packed(low, sizes, a, b, inner, out, y) or _Product(low, sizes, a, b, inner, out, y).emitted():
        return
    # names too interleaved for a stack: everything in an order that is one
    left, right = [[name for name in out if name in t.strides and name not in shared] for t in (a, b)]
    a, b = a.ordered(low, sizes, [*shared, *left, *inner]), b.ordered(low, sizes, [*shared, *inner, *right])
    _turned(low, sizes, a, b, [*shared, *left, *right], out, y)


def _turned(
    low: Lowering, sizes: Mapping[str, int], a: Named, b: Named, order: Sequence[str], out: Sequence[str], y: Place
) -> None:
    """Emit the contraction with its names in `order`, then the one with the names in `out`."""
    turned = low.scratch(y.dtype, prod(sizes[name] for name in out))
    contract(low, sizes, a, b, order, turned)
    steps = dict(zip(order, contiguous([sizes[name] for name in order]), strict=True))
    low.loop([sizes[name] for name in out], [(turned, [steps[name] for name in out])], [], y)


def _summed_alone(low: Lowering, sizes: Mapping[str, int], a: Named, b: Named, out: Sequence[str]) -> Named:
    """`a` summed over the names that only it has: a product with ones."""
    alone = [name for name in a.strides if name not in b.strides and name not in out]
    if not alone:
        return a
    kept = [name for name in a.strides if name not in alone]
    ones = np.ones([sizes[name] for name in alone], a.place.dtype.numpy)
    y = low.scratch(a.place.dtype, prod(sizes[name] for name in kept))
    contract(low, sizes, a, Named.of(low.weight(ones), alone, sizes, ones), kept, y)
    return Named.of(y, kept, sizes)


def _multiplied(low: Lowering, sizes: Mapping[str, int], a: Named, b: Named, out: Sequence[str], y: Place) -> None:
    """Nothing is summed: one loop over y."""
    ctype = y.dtype.wide
    body = Apply(scalar.mul.typed(a=ctype, b=ctype, result=ctype), (Register(0), Register(1)), y.dtype)
    shape = [sizes[name] for name in out]
    rows = merged(shape, *([t.strides.get(name, 0) for name in out] for t in (a, b))) or [(1, 0, 0)]
    low.loop([row[0] for row in rows], [(a.place, [r[1] for r in rows]), (b.place, [r[2] for r in rows])], [body], y)


def _packed(
    low: Lowering, sizes: Mapping[str, int], a: Named, b: Named, inner: Sequence[str], out: Sequence[str], y: Place
) -> bool:
    """The dense kernel, where b is a constant matrix and y is [names of a][names of b]."""
    left, right = [[name for name in out if name in t.strides] for t in (a, b)]
    if b.array is None or y.dtype is not DType.F32 or not right or [*left, *right] != list(out):
        return False
    x = a.ordered(low, sizes, [*left, *inner])
    m, k, n = (prod(sizes[name] for name in names) for names in (left, inner, right))
    found = b.ordered(low, sizes, [*inner, *right]).array
    assert found is not None
    weights = np.concatenate([np.zeros((1, n), np.float32), found.reshape(-1)[: k * n].reshape(k, n)])
    low.call(dense.dense, m, k, n, low.weight(pack_lanes(weights)), x.place, y, work=m * k * n)
    return True


@dataclass
class _Product:
    """A stack of matrix products: a [batch, rows, inner] times b [batch, inner, columns]."""

    low: Lowering
    sizes: Mapping[str, int]
    a: Named
    b: Named
    inner: list[str]
    out: list[str]
    y: Place

    def emitted(self) -> bool:
        """Emit the calls; False, and none emitted, where it would take many."""
        steps = dict(zip(self.out, contiguous([self.sizes[name] for name in self.out]), strict=True))
        columns = self._group(self.b, self.a, steps, self.out)
        rest = self.out[: len(self.out) - len(columns)]
        ends = [name for name in rest if name in self.a.strides and name not in self.b.strides]
        rows = self._group(self.a, self.b, steps, rest[: rest.index(ends[-1]) + 1]) if ends else []
        self._even(columns)
        m, k, n = (prod(self.sizes[name] for name in names) for names in (rows, self.inner, columns))
        along = self._last(self.a, self.inner) == self._last(self.b, self.inner) == 1 and m < _MANY_ROWS
        turned = bool(columns) and self._last(self.b, columns) != 1
        if turned and self.y.dtype is DType.F32 and not along:
            self.b, turned = self._laid_out(self.b, columns), False
        a_row, a_col = (self._last(self.a, names) for names in (rows, self.inner))
        b_row, b_col = (self._last(self.b, names) for names in (self.inner, columns))
        y_row = steps[rows[-1]] if rows else 0
        if self.y.dtype is not DType.F32:
            pointer = self.y.dtype.pointer
            kernel = kernels.scalars.typed(a=pointer, b=pointer, y=pointer)
            own = [[a_row, a_col], [b_row, b_col], [y_row]]
        elif turned or (n == 1 and along):
            kernel, own = kernels.dots, [[a_row], [b_col], [y_row]]
        else:
            kernel, own = kernels.products, [[a_row, a_col], [b_row], [y_row]]
        stack = [name for name in rest if name not in rows]
        strides = [[t.get(name, 0) for name in stack] for t in (self.a.strides, self.b.strides, steps)]
        *around, outer, batch = [(1, 0, 0, 0)] * 2 + merged([self.sizes[name] for name in stack], *strides)
        if prod(row[0] for row in around) > _MOST_CALLS:
            return False
        sizes = [x for side, last in enumerate(own, start=1) for x in (outer[side], batch[side], *last)]
        for index in itertools.product(*(range(row[0]) for row in around)):
            places = [
                place.at(sum(i * row[side] for i, row in zip(index, around, strict=True)))
                for side, place in enumerate((self.a.place, self.b.place, self.y), start=1)
            ]
            work = outer[0] * batch[0] * m * k * n
            self.low.call(kernel, outer[0], batch[0], m, k, n, *sizes, *places, work=work)
        return True

    def _last(self, t: Named, names: Sequence[str]) -> int:
        """Distance in `t` along names that are one even axis."""
        return t.strides[names[-1]] if names else 0

    def _group(self, own: Named, other: Named, steps: Mapping[str, int], names: Sequence[str]) -> list[str]:
        """The names at the end of `names` that only `own` has and that are one even axis in it and in y."""
        found: list[str] = []
        for name in reversed(names):
            if name not in own.strides or name in other.strides:
                break
            if found and any(s[name] != s[found[0]] * self.sizes[found[0]] for s in (own.strides, steps)):
                break
            found.insert(0, name)
        return found

    def _even(self, columns: Sequence[str]) -> None:
        """Make the summed names one even axis in both."""
        shape = [self.sizes[name] for name in self.inner]

        def rows(t: Named) -> int:
            return len(merged(shape, [t.strides[name] for name in self.inner]))

        if rows(self.a) > 1:
            self.a = self.a.ordered(self.low, self.sizes, [*(n for n in self.a.strides if n not in self.inner), *self.inner])
        if rows(self.b) > 1:
            self.b = self._laid_out(self.b, columns)

    def _laid_out(self, b: Named, columns: Sequence[str]) -> Named:
        first = [name for name in b.strides if name not in self.inner and name not in columns]
        return b.ordered(self.low, self.sizes, [*first, *self.inner, *columns])
