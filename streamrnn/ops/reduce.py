"""Reductions over axes: ReduceSum and its family.

    ReduceSum, Mean, Max, Min, Prod, L1 (of |x|), L2 (root of the sum of x²), SumSquare, LogSum, LogSumExp

Inputs      data, axes (constant; left out or empty: all, or none with noop_with_empty_axes = 1). Integers wrap around, their
            means are rounded toward zero. Roots and logarithms are of float32 and float64; Max and Min also take bool.
Attributes  keepdims (1), noop_with_empty_axes (0).
Source      onnx.ai/onnx/operators/onnx__ReduceSum.html and its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Apply, Lowering, Place, Register
from streamrnn.ir.op import Op, Site, Streamed, register_instance
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import double
from streamrnn.kernels import reduce as kernels
from streamrnn.kernels._jit import Binding, Device, Kernel
from streamrnn.kernels.simd import LANES
from streamrnn.ops._moves import as_numbers, fill, pointer_of
from streamrnn.ops._time import only


@dataclass(frozen=True)
class Plain:
    """How numbers are reduced that are no float32: term, combine, finish, by what they are; see `kernels.reduce_plain`.

    integers, unsigned: None where there is no such function.
    """

    combine: Device
    term: Device = kernels.value
    floats: Device = kernels.result
    integers: Device | None = kernels.result
    unsigned: Device | None = kernels.result

    def supports(self, dtype: DType) -> bool:
        return dtype is DType.F64 or (not dtype.is_float and self.integers is not None)

    def kernel(self, dtype: DType, *, first: bool, last: bool) -> Kernel:
        """The kernel of one pass, the first and last of which have more to do."""
        kind = dtype.numpy.kind
        finish = {"f": self.floats, "i": self.integers}.get(kind, self.unsigned)
        assert finish is not None
        term = self.term if first else kernels.value
        if kind == "u" and self.term is kernels.size_of:
            term = kernels.value  # their size is themselves
        pointer = pointer_of(dtype)
        typed = kernels.reduce_plain.typed(x=pointer, y=pointer)
        return typed.bind(term=term, combine=self.combine, finish=finish if last else kernels.result)


@dataclass(frozen=True)
class Row:
    """term, then combine from start, then finish: device functions of `kernels.reduce`.

    plain: the same for other numbers than float32.
    empty: what comes of no elements.
    """

    name: str
    numpy: Callable[[Any, tuple[int, ...], bool], Array]
    term: Device = kernels.value
    combine: Device = kernels.add
    start: float = 0.0
    finish: Device = kernels.result
    plain: Plain = field(default_factory=lambda: Plain(kernels.add))
    empty: float = 0.0

    def supports(self, dtype: DType) -> bool:
        if dtype is DType.BOOL:  # or, and
            return self.name in ("ReduceMax", "ReduceMin")
        return dtype is DType.F32 or self.plain.supports(dtype)

    def nothing(self, dtype: DType) -> Array:
        """What comes of no elements, in this type."""
        if dtype.is_float or np.isfinite(self.empty):
            return np.array(self.empty, dtype.numpy)
        if dtype is DType.BOOL:
            return np.array(self.empty > 0)
        info = np.iinfo(dtype.value)
        return np.array(info.max if self.empty > 0 else info.min if self.empty < 0 else 0, dtype.numpy)


def kept(site: Site, shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` after a reduction over `axes`."""
    if site.attr_int("keepdims", 1):
        return tuple(1 if d in axes else n for d, n in enumerate(shape))
    return tuple(n for d, n in enumerate(shape) if d not in axes)


def kept_stream(site: Site, x: StreamType, axes: tuple[int, ...]) -> StreamType:
    """The stream of a reduction over `axes`. Raises NotStreamableError where time is one of them."""
    if x.axis is None:
        return x
    if x.axis in axes:
        raise site.not_streamable("it reduces over time, so it needs the whole clip")
    gone = 0 if site.attr_int("keepdims", 1) else sum(a < x.axis for a in axes)
    return StreamType(x.axis - gone, x.delay, x.stride)


class Reduce(Op):
    """A reduction made from a Row."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.name = row.name  # type: ignore[misc]

    def axes(self, site: Site) -> tuple[int, ...]:
        rank = site.type(0).rank
        given = site.need_const(1, "axes").ravel().tolist() if site.has(1) else []
        if not given and not site.attr_int("noop_with_empty_axes", 0):
            return tuple(range(rank))
        return tuple(sorted({site.axis(int(a), rank) for a in given}))

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x = site.type(0)
        if not self.row.supports(x.dtype):
            raise UnsupportedError(
                f"node '{site.node.name}' ({self.name}): {x.dtype.value} is not supported; put a Cast to float32 in front of it"
            )
        return (x.with_shape(kept(site, x.shape, self.axes(site))),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x = inputs[0]
        assert x is not None
        axes, keep = self.axes(site), bool(site.attr_int("keepdims", 1))
        if x.size == 0:
            return (np.full(kept(site, x.shape, axes), self.row.nothing(DType.of(x))),)
        return (np.asarray(self.row.numpy(x, axes, keep)).astype(x.dtype),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        return Streamed((kept_stream(site, only(site, streams), self.axes(site)),))

    def lower(self, site: Site, low: Lowering) -> None:
        x = site.type(0)
        if x.size == 0:
            fill(low, self.row.nothing(x.dtype), site.out(0).size, low.output(0))
            return
        lower_reduction(self.row, low, split_axes(x.shape, self.axes(site)), low.input(0), low.output(0))


def split_axes(shape: tuple[int, ...], axes: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """A reduction as passes over [outer][n][inner], one for each run of neighbouring axes, the last run first."""
    runs: list[tuple[bool, int]] = []
    for d, size in enumerate(shape):
        if size == 1:
            continue
        if runs and runs[-1][0] == (d in axes):
            runs[-1] = (d in axes, runs[-1][1] * size)
        else:
            runs.append((d in axes, size))
    passes, inner = [], 1
    while runs:
        reduced, size = runs.pop()
        if reduced:
            passes.append((prod(n for _, n in runs), size, inner))
        else:
            inner *= size
    return passes or [(1, 1, inner)]


def lower_reduction(row: Row, low: Lowering, passes: Sequence[tuple[int, int, int]], x: Place, y: Place) -> None:
    """Emit the passes of a reduction: `row.term` in the first, `row.finish` in the last."""
    if x.dtype is not DType.F32:
        _lower_plain(row.plain, low, passes, x, y)
        return
    count = float(prod(n for _, n, _ in passes))
    for i, (outer, n, inner) in enumerate(passes):
        first, last = i == 0, i == len(passes) - 1
        bound: dict[str, Binding] = {
            "term": row.term if first else kernels.value,
            "combine": row.combine,
            "start": row.start,
            "finish": row.finish if last else kernels.result,
        }
        target = y if last else low.scratch(DType.F32, outer * inner)
        if (n, inner) == (2, 1):
            # real and imaginary part, as a rule: lanes are rows
            pair = Apply(kernels.reduce_pair.bind(**bound), (Register(0), Register(1), count), DType.F32)
            low.loop((outer,), [(x, (2,)), (x.at(1), (2,))], [pair], target)
        elif inner == 1:
            lanes = low.scratch(DType.F32, LANES)
            low.call(kernels.reduce_rows.bind(**bound), outer, n, count, x, target, lanes, work=outer * n)
        else:
            lanes = low.scratch(DType.F32, LANES * LANES)
            low.call(kernels.reduce_columns.bind(**bound), outer, n, inner, count, x, target, lanes, work=outer * n * inner)
        x = target


def _lower_plain(plain: Plain, low: Lowering, passes: Sequence[tuple[int, int, int]], x: Place, y: Place) -> None:
    """Emit the passes for numbers that are no float32."""
    count, dtype = prod(n for _, n, _ in passes), x.dtype
    for i, (outer, n, inner) in enumerate(passes):
        last = i == len(passes) - 1
        target = y if last else low.scratch(dtype, outer * inner)
        kernel = plain.kernel(dtype, first=i == 0, last=last)
        low.call(kernel, outer, n, inner, count, as_numbers(x), as_numbers(target), work=outer * n * inner)
        x = target


def around(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """(elements before, along and behind `axis`)."""
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])


_OF_DOUBLE = {"top": "f64", "result": "f64"}
_SHIFTED_EXP = {
    DType.F32: kernels.shifted_exp,
    DType.F64: kernels.shifted_exp.typed(x="f64", **_OF_DOUBLE).bind(exp=double.exp),
}
_UNSHIFTED_LOG = {
    DType.F32: kernels.unshifted_log,
    DType.F64: kernels.unshifted_log.typed(s="f64", **_OF_DOUBLE).bind(log=double.log),
}


class LogSumExp(Reduce):
    """max + log(sum of exp(x - max)), the maximum over the same axes: nothing overflows."""

    def lower(self, site: Site, low: Lowering) -> None:
        shape, axes, dtype = site.type(0).shape, self.axes(site), site.type(0).dtype
        if site.type(0).size == 0:
            super().lower(site, low)
            return
        passes = split_axes(shape, axes)
        top, shifted = low.scratch(dtype, site.out(0).size), low.scratch(dtype, site.type(0).size)
        lower_reduction(ROWS["ReduceMax"], low, passes, low.input(0), top)
        strides, step = [0] * len(shape), 1
        whole = [1] * len(shape)
        for d in reversed(range(len(shape))):
            strides[d] = 0 if d in axes else step
            step *= 1 if d in axes else shape[d]
            whole[d] = prod(shape[d + 1 :])
        body = Apply(_SHIFTED_EXP[dtype], (Register(0), Register(1)), dtype)
        low.loop(shape or (1,), [(low.input(0), whole or (1,)), (top, strides or (0,))], [body], shifted)
        total = low.scratch(dtype, site.out(0).size)
        lower_reduction(ROWS["ReduceSum"], low, passes, shifted, total)
        body = Apply(_UNSHIFTED_LOG[dtype], (Register(0), Register(1)), dtype)
        low.loop((site.out(0).size,), [(total, (1,)), (top, (1,))], [body], low.output(0))


def _log_sum_exp(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    top = x.max(axis=axes, keepdims=True)
    total = np.log(np.exp(x - top).sum(axis=axes, keepdims=True)) + top
    return np.asarray(total if keep else total.squeeze(axes))


def _mean(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    """Integers are rounded toward zero."""
    if x.dtype.kind == "f":
        return np.asarray(x.mean(axis=axes, keepdims=keep))
    total, count = x.sum(axis=axes, keepdims=keep), prod(x.shape[a] for a in axes)
    return np.asarray(np.sign(total) * (np.abs(total) // total.dtype.type(count)))


_MEANS = Plain(kernels.add, kernels.value, kernels.mean_of_floats, kernels.mean_of_integers, kernels.mean_of_unsigned)

#: the reductions by name
ROWS = {
    row.name: row
    for row in (
        Row("ReduceSum", lambda x, a, k: x.sum(axis=a, keepdims=k)),
        Row("ReduceMean", _mean, finish=kernels.mean, plain=_MEANS, empty=np.nan),
        Row(
            "ReduceMax", lambda x, a, k: x.max(axis=a, keepdims=k),
            combine=kernels.maximum, start=-np.inf, plain=Plain(kernels.higher), empty=-np.inf,
        ),
        Row(
            "ReduceMin", lambda x, a, k: x.min(axis=a, keepdims=k),
            combine=kernels.minimum, start=np.inf, plain=Plain(kernels.lower), empty=np.inf,
        ),
        Row(
            "ReduceProd", lambda x, a, k: x.prod(axis=a, keepdims=k),
            combine=kernels.multiply, start=1.0, plain=Plain(kernels.multiply), empty=1.0,
        ),
        Row(
            "ReduceL1", lambda x, a, k: np.abs(x).sum(axis=a, keepdims=k),
            term=kernels.magnitude, plain=Plain(kernels.add, kernels.size_of),
        ),
        Row(
            "ReduceL2", lambda x, a, k: np.sqrt(np.square(x).sum(axis=a, keepdims=k)),
            term=kernels.square, finish=kernels.root,
            plain=Plain(kernels.add, kernels.square, kernels.root_of_double, None, None),
        ),
        Row(
            "ReduceSumSquare", lambda x, a, k: np.square(x).sum(axis=a, keepdims=k),
            term=kernels.square, plain=Plain(kernels.add, kernels.square),
        ),
        Row(
            "ReduceLogSum", lambda x, a, k: np.log(x.sum(axis=a, keepdims=k)),
            finish=kernels.logarithm, plain=Plain(kernels.add, kernels.value, kernels.logarithm_of_double, None, None),
            empty=-np.inf,
        ),
        # `LogSumExp` says how it is computed
        Row("ReduceLogSumExp", _log_sum_exp, plain=Plain(kernels.add, integers=None, unsigned=None), empty=-np.inf),
    )
}  # fmt: skip

for _row in ROWS.values():
    register_instance(LogSumExp(_row) if _row.name == "ReduceLogSumExp" else Reduce(_row), _row.name)
