"""Arithmetic of 64-bit integers for 32-bit ARM, as LLVM IR: what the ABI of that CPU (RTABI, section 4.1) calls functions for.

Division goes bit by bit; conversions round to nearest, ties to even, or towards zero, as C does. float64 on CPUs whose FPU has
float32 alone is not here: a step made of such functions would be a hundred times slower than one in float32.
"""

from __future__ import annotations

from collections.abc import Iterable

#: registers instead of those of the FPU pass arguments, whatever the object's own convention is
_CALL = "arm_aapcscc"
_ATTRIBUTES = 'attributes #8 = { noinline nounwind optsize "no-builtins" }'

#: a conversion: both halves and the product are exact, so the sum is the only rounding
_DOUBLE = """
define internal {{cc}} double @{name}(i64 %x) #8 {{{{
  %h = lshr i64 %x, 32
  %h32 = trunc i64 %h to i32
  %l32 = trunc i64 %x to i32
  %hd = {kind} i32 %h32 to double
  %ld = uitofp i32 %l32 to double
  %up = fmul double %hd, 0x41F0000000000000
  %sum = fadd double %up, %ld
  ret double %sum
}}}}"""
_TEXTS = {
    "__aeabi_uldivmod": """
define internal {cc} {{ i64, i64 }} @__aeabi_uldivmod(i64 %n, i64 %d) #8 {{
entry:
  br label %bit
bit:
  %k = phi i32 [64, %entry], [%k1, %bit]
  %q = phi i64 [%n, %entry], [%q3, %bit]
  %r = phi i64 [0, %entry], [%r3, %bit]
  %top = lshr i64 %q, 63
  %r1 = shl i64 %r, 1
  %r2 = or i64 %r1, %top
  %over = icmp slt i64 %r, 0
  %large = icmp uge i64 %r2, %d
  %fits = or i1 %over, %large
  %less = sub i64 %r2, %d
  %r3 = select i1 %fits, i64 %less, i64 %r2
  %q1 = shl i64 %q, 1
  %q2 = or i64 %q1, 1
  %q3 = select i1 %fits, i64 %q2, i64 %q1
  %k1 = sub i32 %k, 1
  %more = icmp ne i32 %k1, 0
  br i1 %more, label %bit, label %end
end:
  %a = insertvalue {{ i64, i64 }} poison, i64 %q3, 0
  %b = insertvalue {{ i64, i64 }} %a, i64 %r3, 1
  ret {{ i64, i64 }} %b
}}""",
    "__aeabi_ldivmod": """
define internal {cc} {{ i64, i64 }} @__aeabi_ldivmod(i64 %n, i64 %d) #8 {{
  %ns = ashr i64 %n, 63
  %ds = ashr i64 %d, 63
  %nx = xor i64 %n, %ns
  %na = sub i64 %nx, %ns
  %dx = xor i64 %d, %ds
  %da = sub i64 %dx, %ds
  %both = call {cc} {{ i64, i64 }} @__aeabi_uldivmod(i64 %na, i64 %da)
  %q = extractvalue {{ i64, i64 }} %both, 0
  %r = extractvalue {{ i64, i64 }} %both, 1
  %s = xor i64 %ns, %ds
  %qx = xor i64 %q, %s
  %q1 = sub i64 %qx, %s
  %rx = xor i64 %r, %ns
  %r1 = sub i64 %rx, %ns
  %a = insertvalue {{ i64, i64 }} poison, i64 %q1, 0
  %b = insertvalue {{ i64, i64 }} %a, i64 %r1, 1
  ret {{ i64, i64 }} %b
}}""",
    # 24 bits from the highest one on; half of the last place, less one where it is even, carries into it
    "__aeabi_ul2f": """
declare i64 @llvm.ctlz.i64(i64, i1)
define internal {cc} float @__aeabi_ul2f(i64 %x) #8 {{
  %zero = icmp eq i64 %x, 0
  %n = call i64 @llvm.ctlz.i64(i64 %x, i1 false)
  %n63 = and i64 %n, 63
  %m = shl i64 %x, %n63
  %high = lshr i64 %m, 40
  %odd = and i64 %high, 1
  %half = add i64 %odd, 549755813887
  %rest = and i64 %m, 1099511627775
  %up = add i64 %rest, %half
  %carry = lshr i64 %up, 40
  %exp = sub i64 189, %n63
  %place = shl i64 %exp, 23
  %whole = add i64 %place, %high
  %bits = add i64 %whole, %carry
  %short = trunc i64 %bits to i32
  %chosen = select i1 %zero, i32 0, i32 %short
  %f = bitcast i32 %chosen to float
  ret float %f
}}""",
    "__aeabi_l2f": """
define internal {cc} float @__aeabi_l2f(i64 %x) #8 {{
  %s = ashr i64 %x, 63
  %f = xor i64 %x, %s
  %a = sub i64 %f, %s
  %size = call {cc} float @__aeabi_ul2f(i64 %a)
  %bits = bitcast float %size to i32
  %t = trunc i64 %s to i32
  %sign = and i32 %t, -2147483648
  %both = or i32 %bits, %sign
  %r = bitcast i32 %both to float
  ret float %r
}}""",
    **{name: _DOUBLE.format(name=name, kind=kind) for name, kind in (("__aeabi_l2d", "sitofp"), ("__aeabi_ul2d", "uitofp"))},
    "__aeabi_f2lz": """
define internal {cc} i64 @__aeabi_f2lz(float %x) #8 {{
  %short = bitcast float %x to i32
  %bits = zext i32 %short to i64
  %high = lshr i64 %bits, 23
  %low = and i64 %bits, 8388607
  %m = or i64 %low, 8388608
  %sb = shl i64 %bits, 32
  %s = ashr i64 %sb, 63
  %be = and i64 %high, 255
  %e = sub i64 %be, 127
  %left = sub i64 %e, 23
{rest}}}""",
    "__aeabi_d2lz": """
define internal {cc} i64 @__aeabi_d2lz(double %x) #8 {{
  %bits = bitcast double %x to i64
  %high = lshr i64 %bits, 52
  %low = and i64 %bits, 4503599627370495
  %m = or i64 %low, 4503599627370496
  %s = ashr i64 %bits, 63
  %be = and i64 %high, 2047
  %e = sub i64 %be, 1023
  %left = sub i64 %e, 52
{rest}}}""",
}
#: m * 2 ** left with the sign of s; zero below 1, the largest number of that sign where it does not fit
_SHIFTED = """  %right = sub i64 0, %left
  %la = and i64 %left, 63
  %ra = and i64 %right, 63
  %grown = shl i64 %m, %la
  %shrunk = lshr i64 %m, %ra
  %is = icmp sgt i64 %left, 0
  %size = select i1 %is, i64 %grown, i64 %shrunk
  %x1 = xor i64 %size, %s
  %value = sub i64 %x1, %s
  %tiny = icmp slt i64 %e, 0
  %huge = icmp sgt i64 %e, 62
  %most = xor i64 %s, 9223372036854775807
  %v1 = select i1 %huge, i64 %most, i64 %value
  %v2 = select i1 %tiny, i64 0, i64 %v1
  ret i64 %v2
"""
_NEEDS = {"__aeabi_ldivmod": "__aeabi_uldivmod", "__aeabi_l2f": "__aeabi_ul2f"}
NAMES = frozenset(_TEXTS)


def arithmetic_text(names: Iterable[str]) -> str:
    """Definitions of the functions `names`, which are some of NAMES, and what keeps them."""
    wanted = {*names, *(_NEEDS[name] for name in names if name in _NEEDS)}
    return "\n".join([*(_TEXTS[name].format(cc=_CALL, rest=_SHIFTED) for name in sorted(wanted)), _ATTRIBUTES])
