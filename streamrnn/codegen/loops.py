"""One loop over elements as a function in LLVM IR, with scalar functions inside."""

from __future__ import annotations

import struct

from streamrnn.ir.lowering import Register
from streamrnn.ir.types import DType
from streamrnn.kernels._jit import llvm_type
from streamrnn.plan import Loop

#: stands for the name in the text of a loop function
LOOP = "@loop"
#: metadata of innermost loops. LLVM writes a short loop out, element by element, before it looks for vectors; two vectors
#: in flight are what the functions inside need
KEPT_LOOP = """!0 = distinct !{!0, !1, !2}
!1 = !{!"llvm.loop.unroll.disable"}
!2 = !{!"llvm.loop.interleave.count", i32 2}"""


#: an innermost loop of so few elements is written out, so that LLVM makes vectors of the loop around it
SHORT = 4


def real_constant(value: float, kind: str) -> str:
    """A float constant; LLVM wants the bits of the double, also for `float`."""
    if kind == "float":
        value = struct.unpack("f", struct.pack("f", value))[0]
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def loop_function(loop: Loop) -> str:
    """A loop nest over `loop.shape` with the scalar functions of the body inlined; loops alike give the same text."""
    n = len(loop.inputs)
    params = [f"ptr noalias %p{i}" for i in range(n)] + ["ptr noalias %out"]
    out: list[str] = [f"define internal void {LOOP}({', '.join(params)}) noinline {{", "entry:", "  br label %h0"]
    written_out = len(loop.shape) > 1 and loop.shape[-1] <= SHORT
    rank = len(loop.shape) - written_out
    for d in range(rank):
        before = "entry" if d == 0 else f"h{d - 1}"
        after = f"n{d}"
        out += [f"h{d}:", f"  %i{d} = phi i64 [0, %{before}], [%j{d}, %{after}]"]
        for k in range(n):
            out.append(f"  %s{d}x{k} = mul i64 %i{d}, {loop.inputs[k][1][d]}")
            if d:
                out.append(f"  %o{d}x{k} = add i64 %o{d - 1}x{k}, %s{d}x{k}")
            else:
                out.append(f"  %o{d}x{k} = add i64 0, %s{d}x{k}")
        out.append(f"  %y{d} = " + (f"add i64 %z{d - 1}, %i{d}" if d else "add i64 0, %i0"))
        if d < len(loop.shape) - 1:
            out.append(f"  %z{d} = mul i64 %y{d}, {loop.shape[d + 1]}")
        if d < rank - 1:
            out.append(f"  br label %h{d + 1}")
    if written_out:
        for i in range(loop.shape[-1]):
            out += [f"  %e{i}o{k} = add i64 %o{rank - 1}x{k}, {i * strides[-1]}" for k, (_, strides) in enumerate(loop.inputs)]
            out.append(f"  %e{i}y = add i64 %z{rank - 1}, {i}")
            out += _loop_body(loop, [f"%e{i}o{k}" for k in range(n)], f"%e{i}y", f"e{i}")
    else:
        out += _loop_body(loop, [f"%o{rank - 1}x{k}" for k in range(n)], f"%y{rank - 1}", "")
    out.append(f"  br label %n{rank - 1}")
    for d in reversed(range(rank)):
        done = "end" if d == 0 else f"n{d - 1}"
        out += [f"n{d}:", f"  %j{d} = add i64 %i{d}, 1", f"  %c{d} = icmp slt i64 %j{d}, {loop.shape[d]}"]
        out.append(f"  br i1 %c{d}, label %h{d}, label %{done}" + (", !llvm.loop !0" if d == rank - 1 else ""))
    return "\n".join([*out, "end:", "  ret void", "}"])


def _loop_body(loop: Loop, sources: list[str], target: str, own: str) -> list[str]:
    """One element: from offsets `sources` of the inputs to offset `target` of the output. own: what its names begin with."""
    lines: list[str] = []
    registers: list[tuple[str, DType]] = []
    for k, (place, _) in enumerate(loop.inputs):
        kind = llvm_type(place.dtype.ctype)
        lines.append(f"  %{own}a{k} = getelementptr {kind}, ptr %p{k}, i64 {sources[k]}")
        lines.append(f"  %{own}x{k} = load {kind}, ptr %{own}a{k}")
        registers.append((f"%{own}x{k}", place.dtype))
    for r, apply in enumerate(loop.body):
        function = apply.function
        args = []
        for a, (arg, (_, ctype)) in enumerate(zip(apply.args, function.params, strict=True)):
            kind = llvm_type(ctype)
            if isinstance(arg, Register):
                value, dtype = registers[arg.index]
                if dtype.ctype != ctype and dtype.size < 8:
                    way = "zext" if dtype.numpy.kind == "u" else "sext"
                    wide = f"%{own}w{r}x{a}"
                    lines.append(f"  {wide} = {way} {llvm_type(dtype.ctype)} {value} to {kind}")
                    value = wide
            else:
                value = real_constant(arg, kind)
            args.append(f"{kind} {value}")
        assert function.returns is not None
        given, wanted = llvm_type(function.returns), llvm_type(apply.dtype.ctype)
        result = f"%{own}r{r}"
        lines.append(f'  {result} = call {given} @"{function.symbol}"({", ".join(args)}) alwaysinline')
        if given != wanted:
            lines.append(f"  %{own}t{r} = trunc {given} {result} to {wanted}")
            result = f"%{own}t{r}"
        registers.append((result, apply.dtype))
    kind = llvm_type(loop.output.dtype.ctype)
    lines.append(f"  %{own}q = getelementptr {kind}, ptr %out, i64 {target}")
    lines.append(f"  store {kind} {registers[-1][0]}, ptr %{own}q")
    return lines
