"""MatMul and Gemm.

    MatMul       Y = A B, with NumPy's rules for stacks of matrices (onnx.ai/onnx/operators/onnx__MatMul.html)
    FusedMatMul  Y = alpha A' B', written by onnxruntime's optimiser. transA exchanges the last two axes; transBatchA first
                 moves axis 0 behind the axes of the stack; likewise for B (ContribOperators.md)
    Gemm         Y = alpha A' B' + beta C, A' and B' transposed on request (onnx.ai/onnx/operators/onnx__Gemm.html)

All elements are of one type: a float or integers, which wrap around; Gemm of integers has no alpha or beta.
A constant B is packed into tiles of 16 columns; C becomes the bias row where it is constant and one row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.op import Op, Site, Streamed, Tolerance, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import dense
from streamrnn.ops._bytes import lower_bytes
from streamrnn.ops._contract import MULTIPLIED, Named, contract
from streamrnn.ops._moves import fill
from streamrnn.ops._recurrent import pack_lanes, weight_type
from streamrnn.ops._time import joined, only
from streamrnn.ops.pointwise import emit_lines
from streamrnn.ops.pointwise_table import line


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


def check_numbers(site: Site) -> DType:
    """The element type of A and B. Raises UnsupportedError where they differ or are none that can be multiplied."""
    a, b = site.type(0), site.type(1)
    if a.dtype is not b.dtype or a.dtype not in MULTIPLIED:
        known = ", ".join(dtype.value for dtype in MULTIPLIED)
        raise UnsupportedError(
            f"node '{site.node.name}' ({site.node.op}): {a} times {b}; only tensors of one type, of {known}, are multiplied"
        )
    return a.dtype


def lower_dense(site: Site, low: Lowering, how: tuple[int, tuple[int, ...], float], B: Array, bias: Array, y: Place) -> None:
    """y = input 0, `rows` of it, times B [k, n] plus bias [n]; how: rows, and the order of axes and the factor by which input 1
    became B."""
    rows, order, alpha = how
    (k, n), stored = B.shape, site.store(1, "int8")
    if stored is not None and stored.scales is not None:
        scales = stored.scales.transpose(order)
        if scales.shape[0] == 1:
            units = np.broadcast_to(np.float32(alpha) * scales[0], (n,))
            lower_bytes(low, rows, stored.values.transpose(order).T, units, bias, low.input(0), y)
            return
    kind = weight_type(site, 1)
    packed = low.weight(pack_lanes(np.concatenate([bias[None], B]).astype(np.float32)).astype(kind.numpy))
    low.call(dense.dense.typed(w=kind.pointer), rows, k, n, packed, low.input(0), y, work=rows * k * n)


@register
class MatMul(Op):
    """See the module's text."""

    name = "MatMul"
    tolerance = Tolerance(2e-6, 2e-5)

    def order(self, site: Site, index: int) -> tuple[int, ...]:
        """The axes of an operand in the order stack, rows, columns."""
        return tuple(range(site.type(index).rank))

    def alpha(self, site: Site) -> float:
        """The factor before the product."""
        return 1.0

    def shape(self, site: Site, index: int) -> tuple[int, ...]:
        """The shape of an operand as it is multiplied."""
        return tuple(site.type(index).shape[axis] for axis in self.order(site, index))

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        dtype = check_numbers(site)
        return (TensorType(dtype, product_shape(site, self.shape(site, 0), self.shape(site, 1))),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        a, b = inputs
        assert a is not None
        assert b is not None
        y = np.matmul(a.transpose(self.order(site, 0)), b.transpose(self.order(site, 1)))
        alpha = self.alpha(site)
        return (np.asarray(y if alpha == 1.0 else alpha * y, a.dtype),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        seen = [
            s if s is None or s.axis is None else StreamType(self.order(site, i).index(s.axis), s.delay, s.stride)
            for i, s in enumerate(streams)
        ]
        types = tuple(site.type(i).with_shape(self.shape(site, i)) for i in range(2))
        return Streamed((product_stream(Site(site.node, types, site.constants, site.outputs), seen, (0, 1)),))

    def packs(self, site: Site) -> bool:
        """Whether a constant B is packed for its kernel."""
        a, b = site.type(0), site.type(1)
        return b.rank == 2 and a.dtype is DType.F32 and a.size * b.size > 0 and self.order(site, 0) == tuple(range(a.rank))

    def narrow_inputs(self, site: Site, dtype: str) -> Mapping[int, tuple[int, ...]] | str:
        if site.const(1) is None or site.type(1).dtype is not DType.F32:
            return {}
        return {1: (self.order(site, 1)[1],)} if self.packs(site) else "it is a stack of products or has its input turned"

    def lower(self, site: Site, low: Lowering) -> None:
        a, b = site.type(0), site.type(1)
        fixed, alpha, y = site.const(1), self.alpha(site), low.output(0)
        if 0 in (a.size, b.size):
            fill(low, np.zeros(1, a.dtype.numpy), site.out(0).size, y)
            return
        if fixed is not None and self.packs(site):
            B = np.float32(alpha) * fixed.transpose(self.order(site, 1))
            zeros = np.zeros(B.shape[1], np.float32)
            lower_dense(site, low, (a.size // B.shape[0], self.order(site, 1), alpha), B, zeros, y)
            return
        stack = [str(d) for d in range(max(a.rank, b.rank) - 2)]
        sizes = dict.fromkeys([*stack, "m", "k", "n"], 1)
        operands = []
        for i, (t, names) in enumerate(((a, [*stack, "m", "k"]), (b, [*stack, "k", "n"]))):
            inside = names[-t.rank :] if t.rank > 1 else ["k"]
            # the name of each axis as it lies
            own = {inside[self.order(site, i).index(axis)]: size for axis, size in enumerate(t.shape)}
            operands.append(Named.of(low.input(i), list(own), own, site.const(i)))
            sizes.update({name: size for name, size in own.items() if size > 1})
        product = y if alpha == 1.0 else low.scratch(a.dtype, site.out(0).size)
        contract(low, sizes, operands[0], operands[1], [*stack, "m", "n"], product)
        if alpha != 1.0:
            shape = site.out(0).shape
            emit_lines(site, low, shape, [(product, shape)], [line("Mul", 0, alpha)], y)


@register
class FusedMatMul(MatMul):
    """See the module's text."""

    name = "FusedMatMul"

    def order(self, site: Site, index: int) -> tuple[int, ...]:
        side, axes = "AB"[index], list(range(site.type(index).rank))
        if len(axes) < 2:
            return tuple(axes)
        if site.attr_int(f"transBatch{side}", 0):
            axes.insert(len(axes) - 2, axes.pop(0))
        if site.attr_int(f"trans{side}", 0):
            axes[-2:] = axes[:-3:-1]
        return tuple(axes)

    def alpha(self, site: Site) -> float:
        return site.attr_float("alpha", 1.0)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        if check_numbers(site).is_integer and self.alpha(site) != 1.0:
            raise UnsupportedError(f"node '{site.node.name}' ({self.name}): a factor before integers is not supported")
        return super().infer(site)


@register
class Gemm(Op):
    """See the module's text."""

    name = "Gemm"
    tolerance = Tolerance(2e-6, 2e-5)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        a, b = site.type(0), site.type(1)
        factors = site.attr_float("alpha", 1.0), site.attr_float("beta", 1.0)
        if check_numbers(site).is_integer and factors != (1.0, 1.0):
            raise UnsupportedError(f"node '{site.node.name}' (Gemm): alpha and beta before integers are not supported")
        if site.has(2) and site.type(2).dtype is not a.dtype:
            raise site.shape_error(f"C {site.type(2)} is not of the type of A and B, {a.dtype.value}")
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

    def _packs(self, site: Site) -> bool:
        """Whether a constant B is packed for its kernel."""
        (m, k), (_, n) = self._sizes(site)
        c = site.const(2)
        plain_c = not site.has(2) or (c is not None and c.size in (1, n) and c.shape[:-1] in ((), (1,)))
        return plain_c and site.type(0).dtype is DType.F32 and (not site.attr_int("transA", 0) or m == 1 or k == 1)

    def narrow_inputs(self, site: Site, dtype: str) -> Mapping[int, tuple[int, ...]] | str:
        if site.const(1) is None or site.type(1).dtype is not DType.F32:
            return {}
        if not self._packs(site):
            return "its C is no constant row, or its input is turned"
        return {1: (0 if site.attr_int("transB", 0) else 1,)}

    def lower(self, site: Site, low: Lowering) -> None:
        (m, k), (_, n) = self._sizes(site)
        fixed, c = site.const(1), site.const(2)
        alpha, beta = site.attr_float("alpha", 1.0), site.attr_float("beta", 1.0)
        y = low.output(0)
        if fixed is not None and self._packs(site):
            order = (1, 0) if site.attr_int("transB", 0) else (0, 1)
            bias = np.zeros(n) if c is None else np.broadcast_to(beta * c.reshape(-1), (n,))
            lower_dense(site, low, (m, order, alpha), alpha * fixed.transpose(order), bias, y)
            return
        sizes = {"m": m, "k": k, "n": n}
        names = ("km" if site.attr_int("transA", 0) else "mk", "nk" if site.attr_int("transB", 0) else "kn")
        left, right = (Named.of(low.input(i), own, sizes, site.const(i)) for i, own in enumerate(names))
        lines = [] if alpha == 1.0 else [line("Mul", 0, alpha)]
        given: list[tuple[Place, tuple[int, ...]]] = []
        if site.has(2):
            given.append((low.input(2), site.type(2).shape))
            scaled = 2 if lines else 0
            if beta != 1.0:
                lines.append(line("Mul", 1, beta))
            lines.append(line("Add", scaled, 1 if beta == 1.0 else 1 + len(lines)))
        product = low.scratch(site.type(0).dtype, m * n) if lines else y
        contract(low, sizes, left, right, "mn", product)
        if lines:
            emit_lines(site, low, (m, n), [(product, (m, n)), *given], lines, y)
