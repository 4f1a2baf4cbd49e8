"""MatMul and Gemm.

    MatMul  Y = A B, with NumPy's rules for stacks of matrices (onnx.ai/onnx/operators/onnx__MatMul.html)
    Gemm    Y = alpha A' B' + beta C, A' and B' transposed on request (onnx.ai/onnx/operators/onnx__Gemm.html)

A constant B is packed into tiles of 16 columns; C becomes the bias row where it is constant and one row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Apply, Lowering, Place, Register
from streamrnn.ir.op import Op, Site, Streamed, Tolerance, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import dense, scalar
from streamrnn.ops._contract import Named, contract
from streamrnn.ops._moves import fill
from streamrnn.ops._recurrent import pack_lanes
from streamrnn.ops._time import joined, only


def _stack(site: Site, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return tuple(int(n) for n in np.broadcast_shapes(a, b))
    except ValueError:
        raise site.shape_error(f"stacks of matrices {a} and {b} do not broadcast") from None


def product_shape(site: Site, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of stacks of matrices `a` times `b`; ShapeError where they do not fit."""
    if not a or not b:
        raise site.shape_error("a scalar cannot be multiplied as a matrix")
    left = a if len(a) > 1 else (1, *a)
    right = b if len(b) > 1 else (*b, 1)
    if left[-1] != right[-2]:
        raise site.shape_error(f"{list(a)} times {list(b)}: inner sizes {left[-1]} and {right[-2]} differ")
    rows = left[-2:-1] if len(a) > 1 else ()
    columns = right[-1:] if len(b) > 1 else ()
    return (*_stack(site, left[:-2], right[:-2]), *rows, *columns)


def product_stream(site: Site, streams: Sequence[StreamType | None], operands: tuple[int, int]) -> StreamType:
    """Time of a product of two inputs, given by their indices. Raises NotStreamableError."""
    axes: set[int | None] = set()
    for side, i in enumerate(operands):
        stream, rank = streams[i], site.type(i).rank
        if stream is None:
            continue
        if stream.axis is None:
            axes.add(None)
            continue
        if stream.axis == (rank - 1 if side == 0 else max(0, rank - 2)):
            raise site.not_streamable("sums over time")
        back = stream.axis - rank
        # the output has neither rows nor columns of a vector
        if site.type(operands[1 - side]).rank == 1 and (side == 0 or back < -1):
            back += 1
        axes.add(site.out(0).rank + back)
    if len(axes) > 1:
        raise site.not_streamable("joins wires with time on different axes")
    return joined(site, [streams[i] for i in operands], axes.pop())


@register
class MatMul(Op):
    """See the module's text."""

    name = "MatMul"
    tolerance = Tolerance(2e-6, 2e-5)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        a, b = site.type(0), site.type(1)
        if a.dtype is not DType.F32 or b.dtype is not DType.F32:
            raise UnsupportedError(f"node '{site.node.name}' (MatMul): {a} times {b}; only float32 is supported")
        return (a.with_shape(product_shape(site, a.shape, b.shape)),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        a, b = inputs
        assert a is not None
        assert b is not None
        return (np.asarray(np.matmul(a, b)),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        return Streamed((product_stream(site, streams, (0, 1)),))

    def lower(self, site: Site, low: Lowering) -> None:
        a, b = site.type(0), site.type(1)
        fixed = site.const(1)
        if 0 in (a.size, b.size):
            fill(low, np.zeros(1, np.float32), site.out(0).size, low.output(0))
            return
        if fixed is not None and b.rank == 2:
            rows, n_in, n_out = a.size // b.shape[0], *b.shape
            bias = np.zeros((1, n_out), np.float32)
            packed = low.weight(pack_lanes(np.concatenate([bias, fixed])))
            low.call(dense.dense, rows, n_in, n_out, packed, low.input(0), low.output(0), work=rows * n_in * n_out)
            return
        stack = [str(d) for d in range(max(a.rank, b.rank) - 2)]
        sizes = dict.fromkeys([*stack, "m", "k", "n"], 1)
        operands = []
        for i, (t, names) in enumerate(((a, [*stack, "m", "k"]), (b, [*stack, "k", "n"]))):
            own = dict(zip(names[-t.rank :] if t.rank > 1 else ["k"], t.shape, strict=True))
            operands.append(Named.of(low.input(i), list(own), own, site.const(i)))
            sizes.update({name: size for name, size in own.items() if size > 1})
        contract(low, sizes, operands[0], operands[1], [*stack, "m", "n"], low.output(0))


@register
class Gemm(Op):
    """See the module's text."""

    name = "Gemm"
    tolerance = Tolerance(2e-6, 2e-5)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        a, b = site.type(0), site.type(1)
        if a.dtype is not DType.F32 or b.dtype is not DType.F32:
            raise UnsupportedError(f"node '{site.node.name}' (Gemm): {a} times {b}; only float32 is supported")
        if a.rank != 2 or b.rank != 2:
            raise site.shape_error(f"takes matrices, not {a} and {b}")
        (m, k), (p, n) = self._sizes(site)
        if k != p:
            raise site.shape_error(f"inner sizes {k} and {p} differ")
        if site.has(2) and _stack(site, site.type(2).shape, (m, n)) != (m, n):
            raise site.shape_error(f"C {site.type(2)} does not broadcast to {(m, n)}")
        return (a.with_shape((m, n)),)

    def _sizes(self, site: Site) -> tuple[tuple[int, ...], tuple[int, ...]]:
        a, b = site.type(0).shape, site.type(1).shape
        return (
            a[::-1] if site.attr_int("transA", 0) else a,
            b[::-1] if site.attr_int("transB", 0) else b,
        )

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        a, b, c = (*inputs, None)[:3]
        assert a is not None
        assert b is not None
        a = a.T if site.attr_int("transA", 0) else a
        b = b.T if site.attr_int("transB", 0) else b
        y = site.attr_float("alpha", 1.0) * (a @ b)
        return ((y if c is None else y + site.attr_float("beta", 1.0) * c).astype(a.dtype),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        row = 1 if site.attr_int("transA", 0) else 0
        if x.axis is not None and x.axis != row:
            raise site.not_streamable("sums over time")
        consts = {}
        c = site.const(2)
        if x.axis is not None and c is not None and c.ndim == 2 and c.shape[0] > 1:
            if (c != c[:1]).any():
                raise site.not_streamable("C differs from frame to frame")
            consts[2] = c[:1]
        return Streamed((StreamType(None if x.axis is None else 0, x.delay, x.stride),), consts=consts)

    def lower(self, site: Site, low: Lowering) -> None:
        (m, k), (_, n) = self._sizes(site)
        fixed, c = site.const(1), site.const(2)
        alpha, beta = site.attr_float("alpha", 1.0), site.attr_float("beta", 1.0)
        plain_c = not site.has(2) or (c is not None and c.size in (1, n) and c.shape[:-1] in ((), (1,)))
        y = low.output(0)
        if fixed is not None and plain_c and (not site.attr_int("transA", 0) or m == 1 or k == 1):
            b = alpha * (fixed.T if site.attr_int("transB", 0) else fixed)
            bias = np.zeros((1, n)) if c is None else np.broadcast_to(beta * c.reshape(1, -1), (1, n))
            packed = low.weight(pack_lanes(np.concatenate([bias, b]).astype(np.float32)))
            low.call(dense.dense, m, k, n, packed, low.input(0), y, work=m * k * n)
            return
        product = low.scratch(DType.F32, m * n)
        sizes = {"m": m, "k": k, "n": n}
        names = ("km" if site.attr_int("transA", 0) else "mk", "nk" if site.attr_int("transB", 0) else "kn")
        left, right = (Named.of(low.input(i), own, sizes, site.const(i)) for i, own in enumerate(names))
        contract(low, sizes, left, right, "mn", product)
        self._finish(site, low, product, (m, n), (alpha, beta), y)

    def _finish(
        self, site: Site, low: Lowering, product: Place, shape: tuple[int, int], scale: tuple[float, float], y: Place
    ) -> None:
        """y = alpha * product + beta * C"""
        m, n = shape
        alpha, beta = scale
        scaled = Apply(scalar.mul, (Register(0), alpha))
        if not site.has(2):
            low.loop((m * n,), [(product, (1,))], [scaled], y)
            return
        c = (1,) * (2 - site.type(2).rank) + site.type(2).shape
        strides = (c[1] if c[0] != 1 else 0, 1 if c[1] != 1 else 0)
        body = [
            Apply(scalar.mul, (Register(0), alpha)),
            Apply(scalar.mul, (Register(1), beta)),
            Apply(scalar.add, (Register(2), Register(3))),
        ]
        low.loop((m, n), [(product, (n, 1)), (low.input(2), strides)], body, y)
