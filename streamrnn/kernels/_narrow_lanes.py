"""The primitives of `narrow` as LLVM intrinsics for Numba. Imported only where Numba compiles."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from streamrnn.kernels._lanes import V, element
from streamrnn.kernels._linked import own_function
from streamrnn.kernels.narrow import DOT4, OFFSET
from streamrnn.kernels.simd import LANES

_F32, _I8, _I32 = ir.FloatType(), ir.IntType(8), ir.IntType(32)
_VF, _VI = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_BYTES = ir.VectorType(_I8, LANES)
_QUADS = ir.VectorType(_I8, 4 * LANES)


class IntsType(types.Type):
    """`<16 x i32>` as a Numba type."""

    def __init__(self) -> None:
        super().__init__(name=f"i32x{LANES}")


N = IntsType()


@register_model(IntsType)
class _IntsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VI)


def _all(value: int) -> Any:
    return ir.Constant(_VI, [value] * LANES)


def _load(builder: Any, at: Any, kind: Any) -> Any:
    value = builder.load(builder.bitcast(at, kind.as_pointer()), typ=kind)
    value.align = 1
    return value


def _splat(builder: Any, number: Any) -> Any:
    undefined = ir.Constant(_VI, ir.Undefined)
    return builder.shuffle_vector(builder.insert_element(undefined, number, _I32(0)), undefined, _all(0))


@intrinsic
def no_ints(typing: Any) -> Any:
    return N(), lambda context, builder, sig, args: _all(0)


@intrinsic
def load_ints(typing: Any, p: Any, i: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = _load(builder, element(context, builder, sig, args), _VI)
        value.align = 4
        return value

    return N(p, types.intp), generate


@intrinsic
def store_ints(typing: Any, p: Any, i: Any, n: Any, v: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at, n = element(context, builder, sig, args), args[2]
        with builder.if_else(builder.icmp_signed(">=", n, ir.Constant(n.type, LANES))) as (whole, part):
            with whole:
                store = builder.store(args[3], builder.bitcast(at, _VI.as_pointer()))
                store.align = 4
            with part:
                lanes = builder.bitcast(cgutils.alloca_once_value(builder, args[3]), _I32.as_pointer())
                with cgutils.for_range(builder, n) as loop:
                    builder.store(builder.load(builder.gep(lanes, [loop.index])), builder.gep(at, [loop.index]))
        return context.get_dummy_value()

    return types.void(p, types.intp, types.intp, v), generate


def _byte(builder: Any, quads: Any, j: int, shift: str) -> Any:
    """Byte j of each lane, with its sign (`ashr`) or without (`lshr`)."""
    high = builder.shl(quads, _all(24 - 8 * j))
    return getattr(builder, shift)(high, _all(24))


def _dot4_of_any_cpu(builder: Any, sums: Any, x: Any, w: Any) -> Any:
    x, w = (builder.bitcast(v, _VI) for v in (x, w))
    for j in range(4):
        sums = builder.add(sums, builder.mul(_byte(builder, x, j, "lshr"), _byte(builder, w, j, "ashr")))
    return sums


@intrinsic
def dot4(typing: Any, sums: Any, x: Any, i: Any, w: Any, o: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        quad = _load(builder, element(context, builder, sig.args[1:3], args[1:3]), _I32)
        quads = _splat(builder, quad)
        weights = _load(builder, element(context, builder, sig.args[3:5], args[3:5]), _QUADS)
        function = own_function(builder.module, DOT4, _VI, (_VI, _QUADS, _QUADS), _dot4_of_any_cpu)
        return builder.call(function, [args[0], builder.bitcast(quads, _QUADS), weights])

    return N(N, x, types.intp, w, types.intp), generate


@intrinsic
def times(typing: Any, v: Any, factor: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.mul(args[0], _splat(builder, args[1]))

    return N(N, types.int32), generate


@intrinsic
def joined(typing: Any, upper: Any, lower: Any) -> Any:
    return N(N, N), lambda context, builder, sig, args: builder.add(builder.shl(args[0], _all(7)), args[1])


@intrinsic
def to_real(typing: Any, v: Any) -> Any:
    return V(N), lambda context, builder, sig, args: builder.sitofp(args[0], _VF)


def _magnitude(builder: Any, v: Any) -> Any:
    """The bits of |v|: as whole numbers they are in the order of the floats, and NaN is above all."""
    return builder.and_(builder.bitcast(v, _VI), _all(0x7FFFFFFF))


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed(">", a, b), a, b)


@intrinsic
def larger(typing: Any, a: Any, b: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(_larger(builder, *(_magnitude(builder, v) for v in args)), _VF)

    return V(V, V), generate


@intrinsic
def peak(typing: Any, v: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, width = _magnitude(builder, args[0]), LANES
        while width > 1:
            width //= 2
            undefined, half = ir.Constant(value.type, ir.Undefined), ir.VectorType(_I32, width)
            parts = (ir.Constant(half, list(range(k, k + width))) for k in (0, width))
            value = _larger(builder, *(builder.shuffle_vector(value, undefined, part) for part in parts))
        return builder.bitcast(builder.extract_element(value, _I32(0)), _F32)

    return types.float32(V), generate


@intrinsic
def store_grid(typing: Any, p: Any, upper: Any, lower: Any, v: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # 1.5 * 2**23 puts the whole number into the low mantissa bits, and rounds as it does so
        magic = ir.Constant(_VF, [float(12582912 + OFFSET)] * LANES)
        bits = builder.bitcast(builder.fadd(args[3], magic), _VI)
        for index, shifted in ((args[1], builder.lshr(bits, _all(7))), (args[2], bits)):
            value = builder.trunc(builder.and_(shifted, _all(127)), _BYTES)
            at = element(context, builder, (sig.args[0], types.intp), (args[0], index))
            store = builder.store(value, builder.bitcast(at, _BYTES.as_pointer()))
            store.align = 1
        return context.get_dummy_value()

    return types.void(p, types.intp, types.intp, V), generate
