"""A step of a pool with the signature of `run` in `abi`, which is what a builtin calls: frames go to the pool's own memory and
results come from there, because a group reads and writes rows that a caller's array need not have.

Its `arena` is a table of int64, see TABLE; behind it the bytes of each input and of each output. It returns 1, or 0 where a
slot refuses its frame; the results are in the pool's memory alone then.
"""

from __future__ import annotations

from functools import cache

from streamrnn.codegen.build import load_for_ever, module_object
from streamrnn.codegen.cache import digest

#: function, memory, active, units: those of `pool` or `lanes` in `abi`; own_*: its tables of pointers; inputs, outputs: counts
TABLE = ("function", "memory", "active", "units", "own_inputs", "own_outputs", "inputs", "outputs")

_SYMBOL = "streamrnn_pool_step"
# nounwind: `elf` loads no unwinding tables
_MOVE = """
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
define internal void @move(i64 %n, ptr %sizes, ptr %to, ptr %from) nounwind {
entry:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %loop, label %end
loop:
  %i = phi i64 [0, %entry], [%i1, %next]
  %ts = getelementptr ptr, ptr %to, i64 %i
  %fs = getelementptr ptr, ptr %from, i64 %i
  %t = load ptr, ptr %ts
  %f = load ptr, ptr %fs
  %same = icmp eq ptr %t, %f
  br i1 %same, label %next, label %copy
copy:
  %ss = getelementptr i64, ptr %sizes, i64 %i
  %size = load i64, ptr %ss
  call void @llvm.memcpy.p0.p0.i64(ptr %t, ptr %f, i64 %size, i1 false)
  br label %next
next:
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}"""


@cache
def address() -> int:
    """Address of the function, the same for all pools."""
    text = _text()
    return load_for_ever(module_object(text, "pool" + digest(text).hex(), _SYMBOL), _SYMBOL)


def _text() -> str:
    fields = []
    for i, name in enumerate(TABLE):
        kind = "i64" if name in ("units", "inputs", "outputs") else "ptr"
        fields.append(f"  %{name}.at = getelementptr i64, ptr %table, i64 {i}\n  %{name} = load {kind}, ptr %{name}.at")
    loads = "\n".join(fields)
    return f"""{_MOVE}
define i64 @{_SYMBOL}(ptr %weights, ptr %table, ptr %given, ptr %results, i64 %steps) nounwind {{
{loads}
  %sizes = getelementptr i64, ptr %table, i64 {len(TABLE)}
  call void @move(i64 %inputs, ptr %sizes, ptr %own_inputs, ptr %given)
  %refused = call i64 %function(ptr %weights, ptr %memory, ptr %active, ptr %own_inputs, ptr %own_outputs, i64 %units)
  %made = icmp eq i64 %refused, 0
  br i1 %made, label %good, label %bad
good:
  %behind = getelementptr i64, ptr %sizes, i64 %inputs
  call void @move(i64 %outputs, ptr %behind, ptr %results, ptr %own_outputs)
  ret i64 1
bad:
  ret i64 0
}}"""
