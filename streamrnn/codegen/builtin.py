"""`stream.step` and `stream.process` as builtins of CPython, made at run time without a C compiler.

The ctypes module costs half a microsecond a call, as much as a small model's step. A builtin costs a tenth of that; its
machine code is one LLVM module for all models (`builtin_text`). It relies on the layout of ndarray and tuple, so `capable`
looks whether this interpreter and this NumPy are what it was written for; where they are not, or where STREAMRNN_CALL=ctypes
says so, callers keep their Python functions.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streamrnn.codegen import builtin_layout as layout
from streamrnn.codegen.build import load_for_ever, module_object
from streamrnn.codegen.builtin_text import builtin_text
from streamrnn.codegen.cache import digest
from streamrnn.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy.typing as npt

#: places in NumPy's table of C functions, which no NumPy 2 may change
_ABI_VERSION, _NDARRAY, _NEW_FROM_DESCR = 0, 2, 94
_NUMPY_2 = 0x02000000
#: METH_FASTCALL | METH_KEYWORDS
_METHOD = 0x0080 | 0x0002


class Port(NamedTuple):
    """One input or output of a builtin: dtype and shape of one step. flat: whether a block of it may come as [steps]."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    flat: bool = False


class Call(NamedTuple):
    """What a builtin calls. The addresses are those of `codegen.abi.run` and its arguments; `keep` owns their memory.

    python: called with what the builtin does not take itself. refuse: called with the number of steps made where `run` refuses.
    Neither may know the object that holds the builtin: that would be a cycle.
    """

    run: int
    weights: int
    arena: int
    view_inputs: int
    view_outputs: int
    answer: object
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    python: Callable[..., object]
    refuse: Callable[[int], object]
    keep: tuple[object, ...]


class _Method(ctypes.Structure):
    """PyMethodDef"""

    _fields_ = (("name", ctypes.c_char_p), ("code", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


def capable() -> bool:
    """Whether this interpreter and this NumPy can run the builtin, its machine code is at hand or can be made, and
    STREAMRNN_CALL does not forbid it."""
    return os.environ.get("STREAMRNN_CALL") != "ctypes" and _known() and _made()


@cache
def _made() -> bool:
    try:
        _code()
    except MissingExtraError:  # a program that runs an exported library may have no LLVM
        return False
    return True


def builtin(name: str, doc: str, call: Call, *, leading: int, long: int) -> Callable[..., Any]:
    """A builtin over `call`. leading: 1 where arrays have an axis of steps; long: steps from which on the GIL is released."""
    kept = None if leading or len(call.outputs) > 1 else np.full(layout.KEPT, None, object)
    shapes = [np.array([0, *port.shape], np.int64) for port in (*call.inputs, *call.outputs)]
    fields = {
        "api": _api().ctypes.data,
        "run": call.run,
        "weights": call.weights,
        "arena": call.arena,
        "view_inputs": call.view_inputs,
        "view_outputs": call.view_outputs,
        "answer": id(call.answer),
        "leading": leading,
        "long": long,
        "inputs": len(call.inputs),
        "outputs": len(call.outputs),
        "python": id(call.python),
        "refuse": id(call.refuse),
        "kept": 0 if kept is None else kept.ctypes.data,
    }
    entries = [fields[entry] for entry in layout.TABLE]
    for port, shape in zip((*call.inputs, *call.outputs), shapes, strict=True):
        flat = leading if port.flat and leading else layout.NEVER
        entries += [id(port.name), id(port.dtype), len(port.shape), shape.ctypes.data, flat]
    owner = (np.array(entries, np.int64), shapes, kept, call)
    new = ctypes.pythonapi["PyCFunction_NewEx"]
    new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    made: Callable[..., Any] = new(ctypes.addressof(_method(name, doc)), owner, None)
    return made


@cache
def _method(name: str, doc: str) -> _Method:
    """Kept for ever: builtins point to it."""
    return _Method(name.encode(), _code(), _METHOD, doc.encode())


@cache
def _code() -> int:
    """Address of the machine code, loaded for ever. It is the same for all models, and for every CPU of this architecture."""
    text = builtin_text(tuple.__basicsize__)
    key = "builtin" + digest(text).hex()
    return load_for_ever(module_object(text, key, layout.BUILTIN), layout.BUILTIN)


@cache
def _api() -> npt.NDArray[np.int64]:
    """The table of the process."""
    numpy = _numpy_api()
    objects = {"ndarray": np.ndarray, "dict": dict, "None": None, "out": sys.intern("out")}
    places = {name: id(value) for name, value in objects.items()} | {"PyArray_NewFromDescr": numpy[_NEW_FROM_DESCR]}
    found = [places[n] if n in places else ctypes.cast(ctypes.pythonapi[n], ctypes.c_void_p).value for n in layout.API]
    return np.array(found, np.int64)


def _numpy_api() -> Any:
    """NumPy's table of C functions, from where its own header takes it."""
    get = ctypes.pythonapi["PyCapsule_GetPointer"]
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    capsule = np._core._multiarray_umath._ARRAY_API  # type: ignore[attr-defined]
    return (ctypes.c_size_t * (_NEW_FROM_DESCR + 1)).from_address(get(capsule, None))


@cache
def _known() -> bool:
    """Whether CPython and NumPy have the ABI that the builtin was written for."""
    if sys.implementation.name != "cpython" or struct.calcsize("P") != 8 or sys.byteorder != "little":
        return False
    if object.__basicsize__ != 16:  # a count and a type; an interpreter without GIL has more in every object
        return False
    if int(np.__version__.split(".")[0]) != 2:
        return False
    numpy = _numpy_api()
    version = ctypes.CFUNCTYPE(ctypes.c_uint)(numpy[_ABI_VERSION])()
    return version == _NUMPY_2 and numpy[_NDARRAY] == id(np.ndarray) and _as_expected(np.empty((2, 3), np.float32), (7, 8))


def _as_expected(array: npt.NDArray[Any], pair: tuple[int, int]) -> bool:
    """Whether the fields of an ndarray and of a tuple lie where the builtin reads them."""

    def word(of: object, offset: int, kind: Any = ctypes.c_int64) -> int:
        return int(kind.from_address(id(of) + offset).value)

    if np.ndarray.__weakrefoffset__ != layout.WEAKREFS or word(array, layout.DATA) != array.ctypes.data:
        return False
    found = (
        word(array, layout.TYPE),
        word(array, layout.RANK, ctypes.c_int32),
        word(array, layout.DESCR),
        word(array, layout.FLAGS, ctypes.c_int32),
        word(pair, layout.LENGTH),
        word(pair, tuple.__basicsize__ + 8),
    )
    if found != (id(np.ndarray), 2, id(array.dtype), array.flags.num, 2, id(pair[1])):
        return False
    return tuple((ctypes.c_int64 * 2).from_address(word(array, layout.DIMS))) == array.shape
