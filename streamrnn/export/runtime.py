"""Copying and clearing memory as LLVM IR: what the compiler calls by itself, so that an exported object needs no C library."""

from __future__ import annotations

from collections.abc import Iterable

from streamrnn.export.arithmetic import arithmetic_text
from streamrnn.export.targets import Target

#: copies and fills go 16 bytes at a time, by whatever loads the CPU has for unaligned memory, then byte by byte
_COPY = """
define internal ptr @memcpy(ptr %to, ptr %from, {size} %n) #9 {{
entry:
  %whole = and {size} %n, -16
  %any = icmp ne {size} %whole, 0
  br i1 %any, label %vectors, label %rest
vectors:
  %i = phi {size} [0, %entry], [%i1, %vectors]
  %a = getelementptr i8, ptr %from, {size} %i
  %v = load <16 x i8>, ptr %a, align 1
  %b = getelementptr i8, ptr %to, {size} %i
  store <16 x i8> %v, ptr %b, align 1
  %i1 = add {size} %i, 16
  %more = icmp ult {size} %i1, %whole
  br i1 %more, label %vectors, label %rest
rest:
  %done = icmp eq {size} %whole, %n
  br i1 %done, label %end, label %bytes
bytes:
  %j = phi {size} [%whole, %rest], [%j1, %bytes]
  %c = getelementptr i8, ptr %from, {size} %j
  %w = load i8, ptr %c
  %d = getelementptr i8, ptr %to, {size} %j
  store i8 %w, ptr %d
  %j1 = add {size} %j, 1
  %left = icmp ult {size} %j1, %n
  br i1 %left, label %bytes, label %end
end:
  ret ptr %to
}}
define internal ptr @memmove(ptr %to, ptr %from, {size} %n) #9 {{
entry:
  %before = icmp ule ptr %to, %from
  br i1 %before, label %forwards, label %backwards
forwards:
  %i = phi {size} [0, %entry], [%i1, %forth]
  %on = icmp ult {size} %i, %n
  br i1 %on, label %forth, label %end
forth:
  %a = getelementptr i8, ptr %from, {size} %i
  %v = load i8, ptr %a
  %b = getelementptr i8, ptr %to, {size} %i
  store i8 %v, ptr %b
  %i1 = add {size} %i, 1
  br label %forwards
backwards:
  %j = phi {size} [%n, %entry], [%j1, %back]
  %some = icmp ne {size} %j, 0
  br i1 %some, label %back, label %end
back:
  %j1 = sub {size} %j, 1
  %c = getelementptr i8, ptr %from, {size} %j1
  %w = load i8, ptr %c
  %d = getelementptr i8, ptr %to, {size} %j1
  store i8 %w, ptr %d
  br label %backwards
end:
  ret ptr %to
}}
define internal ptr @memset(ptr %to, i32 %value, {size} %n) #9 {{
entry:
  %byte = trunc i32 %value to i8
  %one = insertelement <16 x i8> poison, i8 %byte, i32 0
  %all = shufflevector <16 x i8> %one, <16 x i8> poison, <16 x i32> zeroinitializer
  %whole = and {size} %n, -16
  %any = icmp ne {size} %whole, 0
  br i1 %any, label %vectors, label %rest
vectors:
  %i = phi {size} [0, %entry], [%i1, %vectors]
  %b = getelementptr i8, ptr %to, {size} %i
  store <16 x i8> %all, ptr %b, align 1
  %i1 = add {size} %i, 16
  %more = icmp ult {size} %i1, %whole
  br i1 %more, label %vectors, label %rest
rest:
  %done = icmp eq {size} %whole, %n
  br i1 %done, label %end, label %bytes
bytes:
  %j = phi {size} [%whole, %rest], [%j1, %bytes]
  %d = getelementptr i8, ptr %to, {size} %j
  store i8 %byte, ptr %d
  %j1 = add {size} %j, 1
  %left = icmp ult {size} %j1, %n
  br i1 %left, label %bytes, label %end
end:
  ret ptr %to
}}
attributes #9 = {{ noinline nounwind optsize "no-builtins" }}"""

#: the names of the ABI of bare-metal ARM (RTABI, section 4.3.4): no result, and the value of a fill comes last
_AEABI = """
define internal void @__aeabi_memset(ptr %to, i32 %n, i32 %value) #9 {
  %r = call ptr @memset(ptr %to, i32 %value, i32 %n)
  ret void
}
define internal void @__aeabi_memclr(ptr %to, i32 %n) #9 {
  %r = call ptr @memset(ptr %to, i32 0, i32 %n)
  ret void
}"""


def runtime_text(target: Target, arithmetic: Iterable[str] = ()) -> str:
    """`memcpy`, `memmove` and `memset`, internal, under every name by which LLVM calls them for this target; and functions of
    `arithmetic`."""
    names = ["memcpy", "memmove", "memset"]
    parts = [_COPY.format(size="i64" if target.pointer_bytes == 8 else "i32")]
    if target.triple.endswith("eabihf") and not target.has_system:
        parts.append(_AEABI)
        names += ["__aeabi_memset", "__aeabi_memclr"]
        for alias, kind, aliased in (
            *((f"__aeabi_memcpy{n}", "ptr (ptr, ptr, i32)", "memcpy") for n in ("", 4, 8)),
            *((f"__aeabi_memmove{n}", "ptr (ptr, ptr, i32)", "memmove") for n in ("", 4, 8)),
            *((f"__aeabi_memset{n}", "void (ptr, i32, i32)", "__aeabi_memset") for n in (4, 8)),
            *((f"__aeabi_memclr{n}", "void (ptr, i32)", "__aeabi_memclr") for n in (4, 8)),
        ):
            parts.append(f"@{alias} = internal alias {kind}, ptr @{aliased}")
            names.append(alias)
    extra = sorted(arithmetic)
    if extra:
        parts.append(arithmetic_text(extra))
        names += extra
    # no call is in the IR: the calls come into being when machine code does
    parts.append(f"@llvm.compiler.used = appending global [{len(names)} x ptr] [{', '.join(f'ptr @{n}' for n in names)}]")
    return "\n".join(parts)
