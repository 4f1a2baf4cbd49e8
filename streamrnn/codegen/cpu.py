"""What primitives of the kernels are on a CPU of given features, as LLVM IR: linked in place of what serves every CPU.

An instruction that the CPU lacks ends the process, so only features that are stated are used; what is computed is the same.
"""

from __future__ import annotations

from streamrnn.kernels.narrow import DOT4
from streamrnn.kernels.simd import ONE_REGISTER, WIDEN


def primitives(features: str) -> str:
    """Definitions for `features` ("+avx2,-avx512f,..."): `simd.one_register`, `simd.vload` of float16, `narrow.dot4`."""
    has = {name[1:] for name in features.split(",") if name.startswith("+")}
    parts = [f'@"{ONE_REGISTER}" = constant i8 {int("avx512f" in has)}']
    if has & {"f16c", "avx512f", "neon"}:
        parts.append(_WIDEN)
    dot = next((text for needed, text in _DOTS if needed <= has), None)
    return "\n".join([*parts, dot] if dot else parts)


_WIDEN = f"""
define <16 x float> @"{WIDEN}"(<16 x i16> %bits) alwaysinline {{
  %half = bitcast <16 x i16> %bits to <16 x half>
  %wide = fpext <16 x half> %half to <16 x float>
  ret <16 x float> %wide
}}"""


def _in_pieces(name: str, lanes: int, body: str, result: str) -> str:
    """`dot4` on registers of `lanes` lanes: `body` makes `result` of %s (sums), %x and %w (bytes), all of one piece."""
    count, lines = 16 // lanes, []
    declared, body = body.split("---\n")
    for p in range(count):
        for source, kind, n in (("sums", "i32", lanes), ("x", "i8", 4 * lanes), ("w", "i8", 4 * lanes)):
            mask = ", ".join(f"i32 {p * n + k}" for k in range(n))
            whole = f"<{n * count} x {kind}>"
            lines.append(f"  %{source[0]}{p} = shufflevector {whole} %{source}, {whole} poison, <{n} x i32> <{mask}>")
        lines.append(body.replace("$", str(p)).rstrip())
    found, width = [f"%{result}{p}" for p in range(count)], lanes
    while len(found) > 1:
        mask, pairs = ", ".join(f"i32 {k}" for k in range(2 * width)), []
        for a, b in zip(found[::2], found[1::2], strict=True):
            pairs.append(f"%j{len(lines)}")
            kind = f"<{width} x i32>"
            lines.append(f"  {pairs[-1]} = shufflevector {kind} {a}, {kind} {b}, <{2 * width} x i32> <{mask}>")
        found, width = pairs, 2 * width
    head = f'define <16 x i32> @"{name}"(<16 x i32> %sums, <64 x i8> %x, <64 x i8> %w) alwaysinline {{'
    return "\n".join([declared, head, *lines, f"  ret <16 x i32> {found[0]}", "}"])


def _one_call(intrinsic: str, lanes: int) -> str:
    """By an instruction that does it all."""
    s, b = f"<{lanes} x i32>", f"<{4 * lanes} x i8>"
    body = f"declare {s} @{intrinsic}({s}, {b}, {b})\n---\n  %r$ = call {s} @{intrinsic}({s} %s$, {b} %x$, {b} %w$)\n"
    return _in_pieces(DOT4, lanes, body, "r")


def _by_words(intrinsic: str, lanes: int) -> str:
    """By products of 16 bits that are added in pairs: those of the even bytes, then those of the odd ones."""
    s, h, b = f"<{lanes} x i32>", f"<{2 * lanes} x i16>", f"<{4 * lanes} x i8>"
    eight, low = (f"<{', '.join([f'i16 {value}'] * (2 * lanes))}>" for value in (8, 255))
    body = f"""declare {s} @{intrinsic}({h}, {h})
---
  %xh$ = bitcast {b} %x$ to {h}
  %wh$ = bitcast {b} %w$ to {h}
  %xe$ = and {h} %xh$, {low}
  %xo$ = lshr {h} %xh$, {eight}
  %wl$ = shl {h} %wh$, {eight}
  %we$ = ashr {h} %wl$, {eight}
  %wo$ = ashr {h} %wh$, {eight}
  %e$ = call {s} @{intrinsic}({h} %xe$, {h} %we$)
  %o$ = call {s} @{intrinsic}({h} %xo$, {h} %wo$)
  %p$ = add {s} %e$, %o$
  %r$ = add {s} %s$, %p$
"""
    return _in_pieces(DOT4, lanes, body, "r")


def _signed(intrinsic: str) -> str:
    """By an instruction for signed bytes: x w = (x - 128) w + 128 w."""
    s, b = "<4 x i32>", "<16 x i8>"
    low = f"<{', '.join(['i8 -128'] * 16)}>"
    body = f"""declare {s} @{intrinsic}({s}, {b}, {b})
---
  %xs$ = xor {b} %x$, {low}
  %d$ = call {s} @{intrinsic}({s} %s$, {b} %xs$, {b} %w$)
  %c$ = call {s} @{intrinsic}({s} zeroinitializer, {b} {low}, {b} %w$)
  %r$ = sub {s} %d$, %c$
"""
    return _in_pieces(DOT4, 4, body, "r")


#: (features, definition), the best one first
_DOTS = (
    ({"avx512f", "avx512vnni"}, _one_call("llvm.x86.avx512.vpdpbusd.512", 16)),
    ({"avxvnni"}, _one_call("llvm.x86.avx512.vpdpbusd.256", 8)),
    ({"avx512bw"}, _by_words("llvm.x86.avx512.pmaddw.d.512", 16)),
    ({"avx2"}, _by_words("llvm.x86.avx2.pmadd.wd", 8)),
    ({"sse2"}, _by_words("llvm.x86.sse2.pmadd.wd", 4)),
    ({"neon", "i8mm"}, _one_call("llvm.aarch64.neon.usdot.v4i32.v16i8", 4)),
    ({"neon", "dotprod"}, _signed("llvm.aarch64.neon.sdot.v4i32.v16i8")),
)
