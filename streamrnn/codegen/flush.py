"""Denormals: how a CPU is told to take them for zero, as LLVM IR that is linked behind the driver.

A recurrence that decays into silence ends in denormal numbers, which many CPUs compute a hundred times slower. Models without
state have no such end: they keep denormals, as onnxruntime does. `flush_text` defines

    i64  @flush()            results and operands that are denormal count as zero from now on; returns the mode before
    void @unflush(i64 mode)  that mode again

for x86 (MXCSR: FTZ and DAZ), aarch64 (FPCR: FZ) and hard-float 32-bit ARM (FPSCR: FZ; NEON flushes there anyway). Elsewhere
(RISC-V, WebAssembly, soft floats) there is no such mode, and both do nothing.
"""

from __future__ import annotations

_X86 = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define internal i64 @flush() alwaysinline {
  %at = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %at)
  %old = load i32, ptr %at
  %new = or i32 %old, 32832
  store i32 %new, ptr %at
  call void @llvm.x86.sse.ldmxcsr(ptr %at)
  %mode = zext i32 %old to i64
  ret i64 %mode
}
define internal void @unflush(i64 %mode) alwaysinline {
  %at = alloca i32
  %old = trunc i64 %mode to i32
  store i32 %old, ptr %at
  call void @llvm.x86.sse.ldmxcsr(ptr %at)
  ret void
}"""

_ARM = """
declare {kind} @llvm.{get}()
declare void @llvm.{set}({kind})
define internal i64 @flush() alwaysinline {{
  %old = call {kind} @llvm.{get}()
  %new = or {kind} %old, 16777216
  call void @llvm.{set}({kind} %new)
  %mode = {widen}
  ret i64 %mode
}}
define internal void @unflush(i64 %mode) alwaysinline {{
  %old = {cut}
  call void @llvm.{set}({kind} %old)
  ret void
}}"""

_NONE = """
define internal i64 @flush() alwaysinline {
  ret i64 0
}
define internal void @unflush(i64 %mode) alwaysinline {
  ret void
}"""


def flush_text(triple: str) -> str:
    """The two functions for the CPUs of an LLVM target triple."""
    cpu = triple.split("-")[0]
    if cpu in ("x86_64", "i386", "i586", "i686"):
        return _X86
    if cpu in ("aarch64", "arm64"):
        same = {"widen": "add i64 %old, 0", "cut": "add i64 %mode, 0"}
        return _ARM.format(kind="i64", get="aarch64.get.fpcr", set="aarch64.set.fpcr", **same)
    if cpu.startswith(("arm", "thumb")) and triple.endswith("hf"):
        other = {"widen": "zext i32 %old to i64", "cut": "trunc i64 %mode to i32"}
        return _ARM.format(kind="i32", get="arm.get.fpscr", set="arm.set.fpscr", **other)
    return _NONE
