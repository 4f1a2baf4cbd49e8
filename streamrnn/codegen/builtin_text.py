"""The machine code behind `stream.step` and `stream.process`: LLVM IR of a CPython builtin that serves every model.

    PyObject *streamrnn_builtin(PyObject *self, PyObject *const *args, Py_ssize_t given, PyObject *names)

`self` is a tuple whose first item is an int64 array, the table of one stream (TABLE); its first entry points to the table of
the process (API). The builtin takes (x), (x, out), (x, out=...), (out=...) and () where x is an ndarray, or a dict of them by
name, of exactly the dtype and shape of the ports, C-contiguous and aligned. Then it calls `run` of the ABI straight from the
arrays' memory into new arrays (or into `out`, or from and into the views). Everything else goes to the Python function of the
table, which converts or refuses. Beyond the C API of CPython and NumPy it knows the fields of an ndarray and of a tuple.

Making an array takes as long as a small model's step. So the last arrays that `step` made are kept, and one that nobody else
refers to any more is as good as new: no weak reference, view or buffer of it is left, and it is as it was made.
"""

from __future__ import annotations

from streamrnn.codegen.builtin_layout import (
    API,
    BUILTIN,
    COUNT,
    DATA,
    DESCR,
    DIMS,
    FLAGS,
    KEPT,
    LENGTH,
    PORT,
    RANK,
    READABLE,
    TABLE,
    TYPE,
    WEAKREFS,
    WRITEABLE,
)  # fmt: skip


def _get(name: str, kind: str, base: str, offset: int) -> str:
    return f"  {name}.at = getelementptr i8, ptr {base}, i64 {offset}\n  {name} = load {kind}, ptr {name}.at\n"


def _api(name: str) -> str:
    """%name = the object or function of that name"""
    return _get(f"%{name}", "ptr", "%api", 8 * API.index(name))


def _table(name: str, kind: str = "i64") -> str:
    return _get(f"%{name}", kind, "%table", 8 * TABLE.index(name))


#: steps that an array holds, or -1 where it does not fit the port
_FITS = f"""
define internal i64 @fits(ptr %api, ptr %port, ptr %array, i64 %leading, i32 %flags) nounwind {{
{_api("ndarray")}{_get("%type", "ptr", "%array", TYPE)}  %exact = icmp eq ptr %type, %ndarray
  br i1 %exact, label %look, label %no
look:
{_get("%descr", "ptr", "%array", DESCR)}{_get("%dtype", "ptr", "%port", 8)}  %same = icmp eq ptr %descr, %dtype
{_get("%has", "i32", "%array", FLAGS)}  %these = and i32 %has, %flags
  %all = icmp eq i32 %these, %flags
{_get("%rank32", "i32", "%array", RANK)}  %rank = zext i32 %rank32 to i64
{_get("%inner", "i64", "%port", 16)}  %outer = sub i64 %rank, %leading
  %even = icmp eq i64 %outer, %inner
  %a = and i1 %same, %all
  br i1 %a, label %ranked, label %no
ranked:
{_get("%dims", "ptr", "%array", DIMS)}{_get("%wanted", "ptr", "%port", 24)}  br i1 %even, label %shape, label %other
other:
{_get("%flat", "i64", "%port", 32)}  %numbers = icmp eq i64 %rank, %flat
  br i1 %numbers, label %counted, label %no
counted:
  %many = load i64, ptr %dims
  ret i64 %many
shape:
  %block = icmp ne i64 %leading, 0
  br i1 %block, label %count, label %head
count:
  %rows = load i64, ptr %dims
  br label %head
head:
  %steps = phi i64 [1, %shape], [%rows, %count]
  br label %loop
loop:
  %d = phi i64 [0, %head], [%d1, %next]
  %more = icmp slt i64 %d, %inner
  br i1 %more, label %next, label %yes
next:
  %d1 = add i64 %d, 1
  %at = add i64 %d, %leading
  %here.at = getelementptr i64, ptr %dims, i64 %at
  %here = load i64, ptr %here.at
  %there.at = getelementptr i64, ptr %wanted, i64 %d1
  %there = load i64, ptr %there.at
  %equal = icmp eq i64 %here, %there
  br i1 %equal, label %loop, label %no
yes:
  ret i64 %steps
no:
  ret i64 -1
}}
"""

#: a kept array that nobody else refers to, and that is as it was made; or null
_UNUSED = f"""
define internal ptr @unused(ptr %api, ptr %port, ptr %kept) nounwind {{
entry:
  br label %loop
loop:
  %k = phi i64 [0, %entry], [%k1, %next]
  %more = icmp slt i64 %k, {KEPT}
  br i1 %more, label %look, label %none
look:
  %at = getelementptr ptr, ptr %kept, i64 %k
  %array = load ptr, ptr %at
{_get("%count", "i32", "%array", COUNT)}  %alone = icmp eq i32 %count, 1
  br i1 %alone, label %check, label %next
check:
  %steps = call i64 @fits(ptr %api, ptr %port, ptr %array, i64 0, i32 {WRITEABLE})
  %fit = icmp eq i64 %steps, 1
  br i1 %fit, label %watched, label %next
watched:
{_get("%weak", "ptr", "%array", WEAKREFS)}  %free = icmp eq ptr %weak, null
  br i1 %free, label %found, label %next
next:
  %k1 = add i64 %k, 1
  br label %loop
found:
  ret ptr %array
none:
  ret ptr null
}}
"""

_EACH = """
define internal void @each(ptr %objects, i64 %count, ptr %function) nounwind {
entry:
  br label %loop
loop:
  %k = phi i64 [0, %entry], [%k1, %next]
  %more = icmp slt i64 %k, %count
  br i1 %more, label %next, label %end
next:
  %k1 = add i64 %k, 1
  %at = getelementptr ptr, ptr %objects, i64 %k
  %object = load ptr, ptr %at
  call void %function(ptr %object)
  br label %loop
end:
  ret void
}
"""


def _arguments(tuple_items: int) -> str:
    """%x and %out from the call, null where they are left out or None."""
    return f"""
{_get("%box", "ptr", "%self", tuple_items)}{_get("%table", "ptr", "%box", DATA)}{_table("api", "ptr")}
{_table("leading")}{_table("inputs")}{_table("outputs")}{_table("python", "ptr")}
  %ports = getelementptr i8, ptr %table, i64 {8 * len(TABLE)}
  %size = mul i64 %inputs, {8 * len(PORT)}
  %out.port = getelementptr i8, ptr %ports, i64 %size
  %sources = alloca ptr, i64 %inputs
  %values = alloca ptr, i64 %inputs
  %targets = alloca ptr, i64 %outputs
  %second.at = getelementptr ptr, ptr %args, i64 1
  %named = icmp ne ptr %names, null
  br i1 %named, label %keyword, label %positional
keyword:
{_get("%keywords", "i64", "%names", LENGTH)}  %lone = icmp eq i64 %keywords, 1
  %few = icmp slt i64 %given, 2
  %fine = and i1 %lone, %few
  br i1 %fine, label %name, label %slow
name:
{_get("%word", "ptr", "%names", tuple_items)}{_api("out")}  %right = icmp eq ptr %word, %out
  br i1 %right, label %outed, label %slow
outed:
  %last.at = getelementptr ptr, ptr %args, i64 %given
  %last = load ptr, ptr %last.at
  %first = load ptr, ptr %args
  %bare = icmp eq i64 %given, 0
  %front = select i1 %bare, ptr null, ptr %first
  br label %parsed
positional:
  switch i64 %given, label %slow [i64 0, label %parsed i64 1, label %one i64 2, label %two]
one:
  %only = load ptr, ptr %args
  br label %parsed
two:
  %former = load ptr, ptr %args
  %latter = load ptr, ptr %second.at
  br label %parsed
parsed:
  %x.given = phi ptr [%front, %outed], [null, %positional], [%only, %one], [%former, %two]
  %target.given = phi ptr [%last, %outed], [null, %positional], [null, %one], [%latter, %two]
{_api("None")}  %x.none = icmp eq ptr %x.given, %None
  %x = select i1 %x.none, ptr null, ptr %x.given
  %target.none = icmp eq ptr %target.given, %None
  %target = select i1 %target.none, ptr null, ptr %target.given
  %viewing = icmp eq ptr %x, null
  br i1 %viewing, label %views, label %taking
"""


_INPUTS = f"""
views:
{_table("view_inputs", "ptr")}  %frame = icmp eq i64 %leading, 0
  br i1 %frame, label %answering, label %slow
taking:
{_get("%type", "ptr", "%x", TYPE)}{_api("dict")}{_api("PyDict_Size")}{_api("PyDict_GetItem")}
  %by_name = icmp eq ptr %type, %dict
  br i1 %by_name, label %sized, label %single
sized:
  %entries = call i64 %PyDict_Size(ptr %x)
  %complete = icmp eq i64 %entries, %inputs
  br i1 %complete, label %input, label %slow
single:
  %alone = icmp eq i64 %inputs, 1
  br i1 %alone, label %input, label %slow
input:
  %k = phi i64 [0, %sized], [0, %single], [%k1, %fitted]
  %so_far = phi i64 [-1, %sized], [-1, %single], [%holds, %fitted]
  %k.more = icmp slt i64 %k, %inputs
  br i1 %k.more, label %get, label %answering
get:
  %k1 = add i64 %k, 1
  %port.offset = mul i64 %k, {8 * len(PORT)}
  %port = getelementptr i8, ptr %ports, i64 %port.offset
  br i1 %by_name, label %item, label %check
item:
  %port.name = load ptr, ptr %port
  %found = call ptr %PyDict_GetItem(ptr %x, ptr %port.name)
  %missing = icmp eq ptr %found, null
  br i1 %missing, label %slow, label %check
check:
  %value = phi ptr [%x, %get], [%found, %item]
  %holds = call i64 @fits(ptr %api, ptr %port, ptr %value, i64 %leading, i32 {READABLE})
  %bad = icmp slt i64 %holds, 0
  %first.one = icmp slt i64 %so_far, 0
  %as.others = icmp eq i64 %holds, %so_far
  %agrees = or i1 %first.one, %as.others
  %good = xor i1 %bad, true
  %taken = and i1 %good, %agrees
  br i1 %taken, label %fitted, label %slow
fitted:
{_get("%source", "ptr", "%value", DATA)}  %source.to = getelementptr ptr, ptr %sources, i64 %k
  store ptr %source, ptr %source.to
  %value.to = getelementptr ptr, ptr %values, i64 %k
  store ptr %value, ptr %value.to
  br label %input
"""

_OUTPUTS = f"""
answering:
  %ins = phi ptr [%view_inputs, %views], [%sources, %input]
  %n = phi i64 [1, %views], [%so_far, %input]
{_api("Py_IncRef")}{_api("Py_DecRef")}{_table("answer", "ptr")}{_table("view_outputs", "ptr")}{_api("PyDict_Copy")}
{_api("PyDict_New")}{_api("PyDict_SetItem")}{_api("PyArray_NewFromDescr")}{_api("ndarray")}
  %plain = icmp eq i64 %outputs, 1
  %into = icmp ne ptr %target, null
  br i1 %into, label %target.check, label %no.target
target.check:
  br i1 %plain, label %target.fits, label %slow
target.fits:
  %room = call i64 @fits(ptr %api, ptr %out.port, ptr %target, i64 %leading, i32 {WRITEABLE})
  %enough = icmp eq i64 %room, %n
  br i1 %enough, label %target.take, label %slow
target.take:
{_get("%target.data", "ptr", "%target", DATA)}  store ptr %target.data, ptr %targets
  call void %Py_IncRef(ptr %target)
  br label %go
no.target:
  br i1 %viewing, label %view, label %new
view:
  br i1 %plain, label %view.one, label %view.all
view.one:
  call void %Py_IncRef(ptr %answer)
  br label %go
view.all:
  %copied = call ptr %PyDict_Copy(ptr %answer)
  %not.copied = icmp eq ptr %copied, null
  br i1 %not.copied, label %failed, label %go
new:
{_table("kept", "ptr")}  %keeps = icmp ne ptr %kept, null
  br i1 %keeps, label %again, label %fresh
again:
  %unused = call ptr @unused(ptr %api, ptr %out.port, ptr %kept)
  %no.unused = icmp eq ptr %unused, null
  br i1 %no.unused, label %output, label %reuse
reuse:
{_get("%unused.data", "ptr", "%unused", DATA)}  store ptr %unused.data, ptr %targets
  call void %Py_IncRef(ptr %unused)
  br label %go
fresh:
  br i1 %plain, label %output, label %new.dict
new.dict:
  %collected = call ptr %PyDict_New()
  %not.made = icmp eq ptr %collected, null
  br i1 %not.made, label %failed, label %output
output:
  %o = phi i64 [0, %again], [0, %fresh], [0, %new.dict], [%o1, %next.output]
  %all = phi ptr [null, %again], [null, %fresh], [%collected, %new.dict], [%all.next, %next.output]
  %o.more = icmp slt i64 %o, %outputs
  br i1 %o.more, label %make, label %go
make:
  %o1 = add i64 %o, 1
  %o.offset = mul i64 %o, {8 * len(PORT)}
  %o.port = getelementptr i8, ptr %out.port, i64 %o.offset
  %o.name = load ptr, ptr %o.port
{_get("%o.dtype", "ptr", "%o.port", 8)}{_get("%o.inner", "i64", "%o.port", 16)}{_get("%o.dims", "ptr", "%o.port", 24)}
  store i64 %n, ptr %o.dims
  %o.skip = sub i64 1, %leading
  %o.shape = getelementptr i64, ptr %o.dims, i64 %o.skip
  %o.rank = add i64 %o.inner, %leading
  %o.rank32 = trunc i64 %o.rank to i32
  call void %Py_IncRef(ptr %o.dtype)
  %array = call ptr %PyArray_NewFromDescr(
    ptr %ndarray, ptr %o.dtype, i32 %o.rank32, ptr %o.shape, ptr null, ptr null, i32 0, ptr null)
  %no.array = icmp eq ptr %array, null
  br i1 %no.array, label %drop, label %placed
placed:
{_get("%o.data", "ptr", "%array", DATA)}  %o.to = getelementptr ptr, ptr %targets, i64 %o
  store ptr %o.data, ptr %o.to
  br i1 %keeps, label %keep, label %placed.new
keep:
  ; the newest takes the place of the oldest
  %newer.at = getelementptr ptr, ptr %kept, i64 1
  %oldest = load ptr, ptr %kept
  %newer = load ptr, ptr %newer.at
  store ptr %newer, ptr %kept
  store ptr %array, ptr %newer.at
  call void %Py_IncRef(ptr %array)
  call void %Py_DecRef(ptr %oldest)
  br label %next.output
placed.new:
  br i1 %plain, label %next.output, label %collect
collect:
  %put = call i32 %PyDict_SetItem(ptr %all, ptr %o.name, ptr %array)
  call void %Py_DecRef(ptr %array)
  %put.failed = icmp slt i32 %put, 0
  br i1 %put.failed, label %drop, label %next.output
next.output:
  %all.next = phi ptr [%array, %keep], [%array, %placed.new], [%all, %collect]
  br label %output
"""

_RUN = f"""
go:
  %result = phi ptr [%target, %target.take], [%answer, %view.one], [%copied, %view.all], [%unused, %reuse], [%all, %output]
  %outs = phi ptr
    [%targets, %target.take], [%view_outputs, %view.one], [%view_outputs, %view.all], [%targets, %reuse], [%targets, %output]
{_table("run", "ptr")}{_table("weights", "ptr")}{_table("arena", "ptr")}{_table("long")}  %lengthy = icmp sge i64 %n, %long
  br i1 %lengthy, label %away, label %here
here:
  %made.here = call i64 %run(ptr %weights, ptr %arena, ptr %ins, ptr %outs, i64 %n)
  br label %ran
away:
  ; without the GIL another thread may take arrays out of the dict that they came in
{_api("PyEval_SaveThread")}{_api("PyEval_RestoreThread")}  %held = select i1 %viewing, i64 0, i64 %inputs
  call void @each(ptr %values, i64 %held, ptr %Py_IncRef)
  %thread = call ptr %PyEval_SaveThread()
  %made.away = call i64 %run(ptr %weights, ptr %arena, ptr %ins, ptr %outs, i64 %n)
  call void %PyEval_RestoreThread(ptr %thread)
  call void @each(ptr %values, i64 %held, ptr %Py_DecRef)
  br label %ran
ran:
  %made = phi i64 [%made.here, %here], [%made.away, %away]
  %whole = icmp eq i64 %made, %n
  br i1 %whole, label %done, label %refused
done:
  ret ptr %result
refused:
  call void %Py_DecRef(ptr %result)
{_api("PyLong_FromLongLong")}{_table("refuse", "ptr")}{_api("PyObject_Vectorcall")}
  %number = call ptr %PyLong_FromLongLong(i64 %made)
  store ptr %number, ptr %values
  %nothing = call ptr %PyObject_Vectorcall(ptr %refuse, ptr %values, i64 1, ptr null)
  call void %Py_DecRef(ptr %number)
  ret ptr %nothing
drop:
  %partial = icmp ne ptr %all, null
  br i1 %partial, label %drop.all, label %failed
drop.all:
  call void %Py_DecRef(ptr %all)
  br label %failed
failed:
  ret ptr null
slow:
{_get("%call", "ptr", "%api", 8 * API.index("PyObject_Vectorcall"))}
  %by.python = call ptr %call(ptr %python, ptr %args, i64 %given, ptr %names)
  ret ptr %by.python
}}
"""


def builtin_text(tuple_items: int) -> str:
    """The module; `tuple_items` is where the items of a tuple begin, in bytes."""
    head = f"define ptr @{BUILTIN}(ptr %self, ptr %args, i64 %given, ptr %names) nounwind {{\n"
    return "".join([_FITS, _UNUSED, _EACH, head, _arguments(tuple_items), _INPUTS, _OUTPUTS, _RUN])
