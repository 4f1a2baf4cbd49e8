"""What the machine code of the builtin and its Python side agree on: tables, and fields of the objects of CPython and NumPy."""

from __future__ import annotations

BUILTIN = "streamrnn_builtin"

#: entries of the table of a process: addresses of objects and functions
API = (
    "ndarray",
    "dict",
    "None",
    "out",
    "PyArray_NewFromDescr",
    "Py_IncRef",
    "Py_DecRef",
    "PyDict_New",
    "PyDict_Copy",
    "PyDict_Size",
    "PyDict_GetItem",
    "PyDict_SetItem",
    "PyLong_FromLongLong",
    "PyObject_Vectorcall",
    "PyEval_SaveThread",
    "PyEval_RestoreThread",
)

#: entries of the table of a stream
#: leading: 1 where the arrays have an axis of steps in front
#: long:    from so many steps on the GIL is released
#: answer:  what () returns: the view of the single output, or a dict of views, which is copied
#: kept:    address of KEPT objects that were given away, where a call gives one array of always the same shape; else 0
TABLE = (
    "api", "run", "weights", "arena", "view_inputs", "view_outputs", "answer", "leading", "long", "inputs", "outputs",
    "python", "refuse", "kept",
)  # fmt: skip

#: behind the table, for each input and then each output
#: dims: address of a free int64 and behind it the dimensions of one step
#: flat: another rank that an array may have, with one number for each step; or NEVER
PORT = ("name", "dtype", "rank", "dims", "flat")
NEVER = -1

#: one is still the caller's `y` when `y = step(x)` asks for the next
KEPT = 2

#: fields of an ndarray (NumPy 2, 64-bit): offsets in bytes
DATA, RANK, DIMS, DESCR, FLAGS, WEAKREFS = 16, 24, 32, 56, 64, 72
#: C-contiguous and aligned; writeable as well
READABLE, WRITEABLE = 0x101, 0x501
#: fields of every object, the count in its lower 32 bits, and of what has a length
COUNT, TYPE, LENGTH = 0, 8, 16
