"""float16 as bits, in arithmetic that every CPU has. Imported only where Numba compiles."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

_F32, _I16, _I32 = ir.FloatType(), ir.IntType(16), ir.IntType(32)


def _like(value: Any, element: Any) -> Any:
    """The type of a value with other elements."""
    return ir.VectorType(element, value.type.count) if isinstance(value.type, ir.VectorType) else element


def _constant(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def widened(builder: Any, bits: Any) -> Any:
    """The float32 of the float16 with these bits (i16, a number or a vector)."""
    kind, real = _like(bits, _I32), _like(bits, _F32)

    def whole(value: int) -> Any:
        return _constant(kind, value)

    wide = builder.zext(bits, kind)
    size = builder.and_(wide, whole(0x7FFF))
    shifted = builder.shl(size, whole(13))
    # the exponent of a float32 is offset by 112 more, that of NaN and infinity by twice as much
    special = builder.icmp_unsigned(">=", size, whole(0x7C00))
    normal = builder.add(shifted, builder.select(special, whole(224 << 23), whole(112 << 23)))
    tiny = builder.fmul(builder.uitofp(size, real), _constant(real, 2.0**-24))
    small = builder.icmp_unsigned("<", size, whole(0x0400))
    found = builder.select(small, builder.bitcast(tiny, kind), normal)
    sign = builder.shl(builder.and_(wide, whole(0x8000)), whole(16))
    return builder.bitcast(builder.or_(found, sign), real)


def halved(builder: Any, x: Any) -> Any:
    """The bits (i16) of the float16 nearest to a float32, ties to even."""
    bits = builder.bitcast(x, _I32)
    size = builder.and_(bits, _I32(0x7FFFFFFF))
    # half of the last place that stays, less one where that place is even: the carry rounds
    odd = builder.and_(builder.lshr(size, _I32(13)), _I32(1))
    carried = builder.add(builder.add(size, _I32(0x0FFF)), odd)
    normal = builder.sub(builder.lshr(carried, _I32(13)), _I32(112 << 10))
    scaled = builder.fmul(builder.bitcast(size, _F32), _F32(2.0**24))
    # adding 2**23 leaves no bit for a fraction
    whole = builder.bitcast(builder.fadd(scaled, _F32(2.0**23)), _I32)
    tiny = builder.and_(whole, _I32(0x07FF))
    found = builder.select(builder.icmp_unsigned("<", size, _I32(0x38800000)), tiny, normal)
    found = builder.select(builder.icmp_unsigned(">=", size, _I32(0x47800000)), _I32(0x7C00), found)
    found = builder.select(builder.icmp_unsigned(">", size, _I32(0x7F800000)), _I32(0x7E00), found)
    sign = builder.and_(builder.lshr(bits, _I32(16)), _I32(0x8000))
    return builder.trunc(builder.or_(found, sign), _I16)
