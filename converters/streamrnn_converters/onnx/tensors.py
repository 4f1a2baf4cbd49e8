"""TensorProto -> array, with every size checked against the data that is there before memory is taken."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, TensorProto

from streamrnn.errors import ModelFileError, UnsupportedError
from streamrnn.ir.graph import Array

#: no dimension in a file may be larger
MAX_DIM = 1 << 40

_NUMPY: dict[int, str] = {
    TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64", TensorProto.FLOAT16: "float16", TensorProto.BOOL: "bool",
    TensorProto.INT8: "int8", TensorProto.INT16: "int16", TensorProto.INT32: "int32", TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8", TensorProto.UINT16: "uint16", TensorProto.UINT32: "uint32", TensorProto.UINT64: "uint64",
}  # fmt: skip

#: the field that holds the elements where there is no raw_data
_FIELD: dict[int, str] = {
    TensorProto.FLOAT: "float_data", TensorProto.DOUBLE: "double_data", TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data", TensorProto.UINT64: "uint64_data",
}  # fmt: skip


def dtype_name(data_type: int) -> str:
    """ "float32" for TensorProto.FLOAT and so on; the lower-case ONNX name for types that NumPy does not have."""
    if data_type in _NUMPY:
        return _NUMPY[data_type]
    try:
        return str(TensorProto.DataType.Name(data_type)).lower()
    except ValueError:
        return f"data type {data_type}"


def read_tensor(tensor: TensorProto, name: str, path: Path) -> Array:
    """The elements of `tensor`, which `path` holds or points to. Read-only; may be of an element type that no step can hold.

    Raises ModelFileError where sizes and data do not fit, UnsupportedError for bfloat16 and rarer element types.
    """
    where = f"{path}: tensor '{name}'"
    shape = _shape(tensor, where)
    dtype = _dtype(tensor, where)
    count = math.prod(shape)
    if tensor.data_location == TensorProto.EXTERNAL:
        data = _external(tensor, where, path, count * dtype.itemsize)
    elif tensor.HasField("raw_data"):
        data = np.frombuffer(tensor.raw_data, np.uint8)
        if data.size != count * dtype.itemsize:
            raise ModelFileError(
                f"{where}: shape {list(shape)} of {dtype.name} takes {count * dtype.itemsize} bytes, the file has {data.size}; "
                f"the file is cut short or altered, get it again"
            )
    else:
        return _elements(tensor, where, dtype, count).reshape(shape)
    if dtype == np.bool_:
        array: Array = data != 0
    else:
        array = data.view(dtype.newbyteorder("<")).astype(dtype, copy=False)
    array.flags.writeable = False
    return array.reshape(shape)


def _shape(tensor: TensorProto, where: str) -> tuple[int, ...]:
    shape = tuple(int(n) for n in tensor.dims)
    if any(not 0 <= n <= MAX_DIM for n in shape):
        raise ModelFileError(f"{where}: shape {list(shape)} is not one; the file is altered, get it again")
    return shape


def _dtype(tensor: TensorProto, where: str) -> np.dtype[Any]:
    found = _NUMPY.get(tensor.data_type)
    if found is None:
        raise UnsupportedError(
            f"{where}: its elements are {dtype_name(tensor.data_type)}, which is not supported; export the model in float32"
        )
    return np.dtype(found)


def _elements(tensor: TensorProto, where: str, dtype: np.dtype[Any], count: int) -> Array:
    """From the typed fields: one number per element."""
    field = getattr(tensor, _FIELD.get(tensor.data_type, "int32_data"))
    if len(field) != count:
        raise ModelFileError(
            f"{where}: its shape asks for {count} elements, the file has {len(field)}; the file is cut short or altered, "
            f"get it again"
        )
    if dtype == np.float16:  # its bits
        array: Array = np.array(field).astype(np.uint16).view(dtype)
    else:
        array = np.array(field).astype(dtype)
    array.flags.writeable = False
    return array


def _external(tensor: TensorProto, where: str, path: Path, nbytes: int) -> Array:
    """The bytes of a tensor that lies in a file beside the model."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    folder = path.resolve().parent
    try:
        target = (folder / location).resolve()
        there = target.is_file()
    except (OSError, ValueError):
        raise ModelFileError(
            f"{where}: its data lies in {location[:40]!r}, which is no name of a file; the file is altered, get it again"
        ) from None
    if not location or Path(location).is_absolute() or not target.is_relative_to(folder):
        raise ModelFileError(
            f"{where}: its data lies at {location[:200]!r}, outside the model's folder; such a file is not read"
        )
    if not there:
        raise ModelFileError(f"{where}: its data lies in '{location}', which is not there; put that file beside the model")
    offset, length = (_number(entries.get(key, ""), default, where) for key, default in (("offset", 0), ("length", nbytes)))
    size = target.stat().st_size
    if length != nbytes or offset + length > size:
        raise ModelFileError(
            f"{where}: its shape takes {nbytes} bytes, the model points at {length} bytes from {offset} on in '{location}', "
            f"which has {size}; the two files do not belong together, get both again"
        )
    return np.fromfile(target, np.uint8, nbytes, offset=offset)


def external_files(graph: GraphProto) -> set[str]:
    """Files that hold initializers of a graph."""
    outside = (t for t in graph.initializer if t.data_location == TensorProto.EXTERNAL)
    return {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"}


def _number(text: str, default: int, where: str) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ModelFileError(f"{where}: {text[:40]!r} is not a size in bytes; the file is altered, get it again")
    return int(text)
