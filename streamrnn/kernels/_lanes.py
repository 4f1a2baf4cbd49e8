"""The primitives of `simd` as LLVM intrinsics for Numba. Imported only where Numba compiles."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from streamrnn.kernels._half import halved, widened
from streamrnn.kernels._linked import in_one_register, own_function
from streamrnn.kernels.simd import LANES, TWO_OVER_PI, WIDEN

_F32 = ir.FloatType()
_I8 = ir.IntType(8)
_I32 = ir.IntType(32)
_VF = ir.VectorType(_F32, LANES)
_VI = ir.VectorType(_I32, LANES)
_I64 = ir.IntType(64)
_VL = ir.VectorType(_I64, LANES)
_VH = ir.VectorType(ir.IntType(16), LANES)


class VecType(types.Type):
    """`<16 x float>` as a Numba type."""

    def __init__(self) -> None:
        super().__init__(name=f"f32x{LANES}")


V = VecType()


@register_model(VecType)
class _VecModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VF)


def _splat(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, scalar, _I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_VI, [0] * LANES))


def _is_vec(*args: Any) -> bool:
    return any(isinstance(a, VecType) for a in args)


def _widened(builder: Any, sig: Any, args: Any) -> list[Any]:
    """All operands as vectors if one of them is, else as float32."""
    if not _is_vec(*sig.args):
        return list(args)
    return [a if isinstance(t, VecType) else _splat(builder, a) for t, a in zip(sig.args, args, strict=True)]


def _llvm(builder: Any, name: str, vector: bool, args: list[Any]) -> Any:
    kind = _VF if vector else _F32
    suffix = f"v{LANES}f32" if vector else "f32"
    fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * len(args)), f"llvm.{name}.{suffix}")
    return builder.call(fn, args)


def _check(*args: Any) -> None:
    """Refuse a double that slipped in: it would widen a whole kernel."""
    for a in args:
        if not isinstance(a, VecType) and a != types.float32:
            raise TypeError(f"a simd primitive takes vectors and float32, not {a}")


_BINARY: dict[Any, str] = {operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv"}


def _install_operators() -> None:
    def install(op: Callable[..., Any], method: str) -> None:
        class Typing(ConcreteTemplate):
            cases = [signature(V, V, V), signature(V, V, types.float32), signature(V, types.float32, V)]  # noqa: RUF012

        infer_global(op)(Typing)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return getattr(builder, method)(*_widened(builder, sig, args))

        for pair in ((V, V), (V, types.float32), (types.float32, V)):
            lower_builtin(op, *pair)(generate)

    for op, method in _BINARY.items():
        install(op, method)

    class Negation(ConcreteTemplate):
        cases = [signature(V, V)]  # noqa: RUF012

    infer_global(operator.neg)(Negation)

    @lower_builtin(operator.neg, V)
    def negate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fneg(args[0])


_install_operators()


def element(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Address of element args[1] of the pointer args[0] (`sig`: a signature, or the types alone); `Kernel.njit` hands over
    arrays instead of pointers."""
    kind, base = getattr(sig, "args", sig)[0], args[0]
    if isinstance(kind, types.Array):
        base = context.make_array(kind)(context, builder, base).data
    return builder.gep(base, [args[1]])


def _lanes(builder: Any, at: Any) -> Any:
    return builder.bitcast(at, _VF.as_pointer())


@intrinsic
def one_register(typing: Any) -> Any:
    return types.boolean(), lambda context, builder, sig, args: in_one_register(builder)


@intrinsic
def vload(typing: Any, p: Any, i: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at = element(context, builder, sig, args)
        if p.dtype == types.uint16:
            halves = builder.load(builder.bitcast(at, _VH.as_pointer()), typ=_VH)
            halves.align = 2
            widen = own_function(builder.module, WIDEN, _VF, (_VH,), widened)
            return builder.call(widen, [halves])
        value = builder.load(_lanes(builder, at), typ=_VF)
        value.align = 4
        return value

    return V(p, types.intp), generate


@intrinsic
def vstore(typing: Any, p: Any, i: Any, v: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        store = builder.store(args[2], _lanes(builder, element(context, builder, sig, args)))
        store.align = 4
        return context.get_dummy_value()

    return types.void(p, types.intp, v), generate


def _masked_load(builder: Any, lanes: Any, zero: Any, n: Any) -> Any:
    """The first n lanes from an address, zero in the others."""
    sixteen = ir.Constant(n.type, LANES)
    count = builder.trunc(builder.select(builder.icmp_signed("<", n, sixteen), n, sixteen), _I32)
    mask = builder.icmp_signed("<", ir.Constant(_VI, list(range(LANES))), _splat(builder, count))
    kind = ir.FunctionType(_VF, [lanes.type, _I32, mask.type, _VF])
    fn = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{LANES}f32.p0")
    return builder.call(fn, [lanes, _I32(4), mask, zero])


def _part_loop(builder: Any, n: Any, copy: Callable[[Any], None]) -> None:
    """Run `copy` for each i < min(n, 16)."""
    limit = ir.Constant(n.type, LANES)
    with cgutils.for_range(builder, builder.select(builder.icmp_signed("<", n, limit), n, limit)) as loop:
        copy(loop.index)


@intrinsic
def vload_part(typing: Any, p: Any, i: Any, n: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        base, zero = element(context, builder, sig, args), ir.Constant(_VF, [0.0] * LANES)
        slot = cgutils.alloca_once(builder, _VF)
        lanes = builder.bitcast(slot, _F32.as_pointer())
        with builder.if_else(in_one_register(builder)) as (masked, one_by_one):
            with masked:
                builder.store(_masked_load(builder, _lanes(builder, base), zero, args[2]), slot)
            with one_by_one:
                builder.store(zero, slot)
                _part_loop(
                    builder, args[2], lambda k: builder.store(builder.load(builder.gep(base, [k])), builder.gep(lanes, [k]))
                )
        return builder.load(slot)

    return V(p, types.intp, types.intp), generate


def _cut(builder: Any, v: Any, first: int, count: int) -> Any:
    """Lanes first .. first + count - 1 of a vector."""
    return builder.shuffle_vector(v, v, ir.Constant(ir.VectorType(_I32, count), list(range(first, first + count))))


# No mask here: what a masked store wrote cannot be read back before it has left the store buffer, and a state is read at once.
@intrinsic
def vstore_part(typing: Any, p: Any, i: Any, n: Any, v: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at, n, rest = element(context, builder, sig, args), args[2], args[3]
        none, whole = ir.Constant(n.type, 0), ir.Constant(n.type, LANES)
        n = builder.select(builder.icmp_signed("<", n, whole), n, whole)
        for size in (LANES, LANES // 2, LANES // 4, LANES // 8, 1):
            part = _cut(builder, rest, 0, size)
            count = builder.and_(n, ir.Constant(n.type, size))
            has = builder.icmp_signed("!=", count, none)
            with builder.if_then(has):
                builder.store(part, builder.bitcast(at, part.type.as_pointer())).align = 4
            if size < LANES:
                rest = builder.select(has, _cut(builder, rest, size, size), part)
            at = builder.gep(at, [count])
        return context.get_dummy_value()

    return types.void(p, types.intp, types.intp, v), generate


@intrinsic
def splat(typing: Any, x: Any) -> Any:
    _check(x)
    return V(types.float32), lambda context, builder, sig, args: _splat(builder, args[0])


def _generic(generate: Callable[[Any, bool, list[Any]], Any], arity: int) -> Any:
    """An intrinsic on float32 numbers and vectors mixed; `generate(builder, vector, operands)`."""

    def typed(*operands: Any) -> Any:
        _check(*operands)
        vector = _is_vec(*operands)
        result = V if vector else types.float32
        return result(*operands), lambda context, builder, sig, args: generate(builder, vector, _widened(builder, sig, args))

    # Numba reads the number of parameters off the function, so each arity needs a text of its own.
    if arity == 1:
        return intrinsic(lambda typing, a: typed(a))
    if arity == 2:
        return intrinsic(lambda typing, a, b: typed(a, b))
    if arity == 3:
        return intrinsic(lambda typing, a, b, c: typed(a, b, c))
    return intrinsic(lambda typing, a, b, c, d: typed(a, b, c, d))


def _int_type(vector: bool) -> Any:
    return _VI if vector else _I32


def _int(vector: bool, value: int) -> Any:
    return ir.Constant(_VI, [value] * LANES) if vector else ir.Constant(_I32, value)


def _real(vector: bool, value: float) -> Any:
    number = float(np.float32(value))
    return ir.Constant(_VF, [number] * LANES) if vector else ir.Constant(_F32, number)


def _nearest(builder: Any, vector: bool, args: list[Any]) -> Any:
    # adding 1.5 * 2**23 leaves no bit for a fraction; llvm.rint would be a libm call on CPUs without SSE4.1
    magic = _real(vector, 12582912.0)
    return builder.fsub(builder.fadd(args[0], magic), magic)


def _pow2(builder: Any, vector: bool, args: list[Any]) -> Any:
    # 1.5 * 2**23 puts the whole number n into the low mantissa bits; the shift drops everything above them
    bits = builder.bitcast(builder.fadd(args[0], _real(vector, 12582912.0)), _int_type(vector))
    bits = builder.shl(builder.add(bits, _int(vector, 127)), _int(vector, 23))
    return builder.bitcast(bits, _VF if vector else _F32)


def _exponent(builder: Any, vector: bool, args: list[Any]) -> Any:
    bits = builder.lshr(builder.bitcast(args[0], _int_type(vector)), _int(vector, 23))
    return builder.sitofp(builder.sub(bits, _int(vector, 127)), _VF if vector else _F32)


def _mantissa(builder: Any, vector: bool, args: list[Any]) -> Any:
    bits = builder.and_(builder.bitcast(args[0], _int_type(vector)), _int(vector, 0x007FFFFF))
    return builder.bitcast(builder.or_(bits, _int(vector, 0x3F800000)), _VF if vector else _F32)


def _head(builder: Any, vector: bool, args: list[Any]) -> Any:
    bits = builder.and_(builder.bitcast(args[0], _int_type(vector)), _int(vector, 0xFFFFF000))
    return builder.bitcast(bits, _VF if vector else _F32)


def _quarter_turns(builder: Any, vector: bool, x: Any) -> tuple[Any, Any]:
    """|x| * 2 / pi modulo 4 as (nearest whole number, what is left in units of 2 ** -62), both of 64 bits.

    Method of Payne and Hanek: of all the bits of 2 / pi, only the 96 that the exponent of x selects have a part in it.
    """
    narrow, wide = (_VI, _VL) if vector else (_I32, _I64)

    def long(value: int) -> Any:
        return ir.Constant(wide, [value] * LANES if vector else value)

    bits = builder.bitcast(x, narrow)
    exponent = builder.and_(builder.lshr(bits, _int(vector, 23)), _int(vector, 255))
    shift = builder.sub(exponent, _int(vector, 126))
    first = builder.lshr(shift, _int(vector, 5))
    words = [0, *(TWO_OVER_PI >> 2 >> 32 * (6 - k) & 0xFFFFFFFF for k in range(7))]

    def word(k: int) -> Any:
        value = _int(vector, words[k])
        for j in range(1, 5):
            value = builder.select(builder.icmp_unsigned("==", first, _int(vector, j)), _int(vector, words[k + j]), value)
        return value

    suffix = f"v{LANES}i32" if vector else "i32"
    funnel = cgutils.get_or_insert_function(builder.module, ir.FunctionType(narrow, [narrow] * 3), f"llvm.fshl.{suffix}")
    chosen = [word(k) for k in range(4)]
    high, middle, low = (builder.call(funnel, [chosen[k], chosen[k + 1], shift]) for k in range(3))
    mantissa = builder.or_(builder.shl(bits, _int(vector, 8)), _int(vector, 0x80000000))
    m = builder.zext(mantissa, wide)
    turns = builder.lshr(builder.mul(m, builder.zext(low, wide)), long(32))
    turns = builder.add(turns, builder.mul(m, builder.zext(middle, wide)))
    turns = builder.add(turns, builder.shl(builder.zext(builder.mul(mantissa, high), wide), long(32)))
    nearest = builder.lshr(builder.add(turns, long(1 << 61)), long(62))
    return nearest, builder.sub(turns, builder.shl(nearest, long(62)))


def _quadrant(builder: Any, vector: bool, args: list[Any]) -> Any:
    nearest, _ = _quarter_turns(builder, vector, args[0])
    return builder.sitofp(builder.trunc(nearest, _int_type(vector)), _VF if vector else _F32)


def _quadrant_rest(builder: Any, vector: bool, args: list[Any]) -> Any:
    narrow, wide, real = (_VI, _VL, _VF) if vector else (_I32, _I64, _F32)
    _, rest = _quarter_turns(builder, vector, args[0])
    zero = ir.Constant(wide, None)
    negative = builder.icmp_signed("<", rest, zero)
    size = builder.select(negative, builder.sub(zero, rest), rest)
    thirty_two = ir.Constant(wide, [32] * LANES if vector else 32)
    high = builder.sitofp(builder.trunc(builder.lshr(size, thirty_two), narrow), real)
    low = builder.uitofp(builder.trunc(size, narrow), real)
    value = builder.fadd(builder.fmul(high, _real(vector, 2.0**-30)), builder.fmul(low, _real(vector, 2.0**-62)))
    return builder.select(negative, builder.fneg(value), value)


def _pick(predicate: str) -> Callable[[Any, bool, list[Any]], Any]:
    return lambda b, vector, a: b.select(b.fcmp_ordered(predicate, a[0], a[1]), a[1], a[0])


@intrinsic
def from_half(typing: Any, bits: Any) -> Any:
    return types.float32(types.uint16), lambda context, builder, sig, args: widened(builder, args[0])


@intrinsic
def to_half(typing: Any, x: Any) -> Any:
    return types.uint16(types.float32), lambda context, builder, sig, args: halved(builder, args[0])


@intrinsic
def bits_of_double(typing: Any, x: Any) -> Any:
    return types.int64(types.float64), lambda context, builder, sig, args: builder.bitcast(args[0], _I64)


@intrinsic
def double_of_bits(typing: Any, bits: Any) -> Any:
    return types.float64(types.int64), lambda context, builder, sig, args: builder.bitcast(args[0], ir.DoubleType())


@intrinsic
def sqrt_double(typing: Any, x: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType()])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.sqrt.f64"), args)

    return types.float64(types.float64), generate


fma = _generic(lambda b, vector, a: _llvm(b, "fmuladd", vector, a), 3)
nearest = _generic(_nearest, 1)
copysign = _generic(lambda b, vector, a: _llvm(b, "copysign", vector, a), 2)
below = _generic(_pick(">"), 2)
above = _generic(_pick("<"), 2)
pick_less = _generic(lambda b, vector, a: b.select(b.fcmp_ordered("<", a[0], a[1]), a[2], a[3]), 4)
pick_equal = _generic(lambda b, vector, a: b.select(b.fcmp_ordered("==", a[0], a[1]), a[2], a[3]), 4)
sqrt = _generic(lambda b, vector, a: _llvm(b, "sqrt", vector, a), 1)
pow2 = _generic(_pow2, 1)
exponent = _generic(_exponent, 1)
mantissa = _generic(_mantissa, 1)
head = _generic(_head, 1)
quadrant = _generic(_quadrant, 1)
quadrant_rest = _generic(_quadrant_rest, 1)


@intrinsic
def vsum(typing: Any, v: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, width = args[0], LANES
        while width > 1:
            width //= 2
            undefined = ir.Constant(value.type, ir.Undefined)
            half = ir.VectorType(_I32, width)
            low = builder.shuffle_vector(value, undefined, ir.Constant(half, list(range(width))))
            high = builder.shuffle_vector(value, undefined, ir.Constant(half, list(range(width, 2 * width))))
            value = builder.fadd(low, high)
        return builder.extract_element(value, _I32(0))

    return types.float32(V), generate
