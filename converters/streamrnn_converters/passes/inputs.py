"""What the inputs of a model are once the caller has fixed shapes and values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamrnn.errors import BindingError, StreamRNNError, UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.types import DType, TensorType
from streamrnn_converters.onnx.raw import Dim, RawInput, RawModel

#: no dimension may be larger
MAX_DIM = 1 << 40


@dataclass
class Inputs:
    """declared: all inputs of the file. types: of those that stay inputs and are known. bound: values of those that do not.
    problems: why the rest has no type; an error only if an output needs that input."""

    declared: tuple[str, ...]
    types: dict[str, TensorType] = field(default_factory=dict)
    bound: dict[str, Array] = field(default_factory=dict)
    problems: dict[str, StreamRNNError] = field(default_factory=dict)


def bind_inputs(model: RawModel, shapes: Mapping[str, Sequence[int]], bind: Mapping[str, Array]) -> Inputs:
    """Types and values of the model's inputs. Raises BindingError where `shapes` or `bind` do not fit the file."""
    declared = {i.name: i for i in model.inputs}
    for option, given in (("shape", shapes), ("bind", bind)):
        for name in given:
            if name not in declared:
                raise BindingError(f"--{option} {name}: no input has that name; the model has {', '.join(declared) or 'none'}")
    found = Inputs(tuple(declared))
    symbols: dict[str, int] = {}
    for name, shape in shapes.items():
        _check_shape(declared[name], shape)
        for dim, size in zip(declared[name].dims, shape, strict=False):
            if isinstance(dim, str):
                symbols.setdefault(dim, size)
    for name, info in declared.items():
        if name in bind:
            found.bound[name] = _bound(info, bind[name], shapes.get(name))
            continue
        try:
            found.types[name] = _type(info, shapes.get(name), symbols)
        except (BindingError, UnsupportedError) as error:
            found.problems[name] = error
    return found


def _text(dims: Sequence[Dim] | None) -> str:
    return "without a shape" if dims is None else f"[{', '.join('?' if d is None else str(d) for d in dims)}]"


def _check_shape(info: RawInput, shape: Sequence[int]) -> None:
    """BindingError where `shape` contradicts the file."""
    if not all(isinstance(n, int | np.integer) and 0 <= n <= MAX_DIM for n in shape):
        raise BindingError(f"--shape {info.name}={','.join(map(str, shape))}: sizes are whole numbers from 0 on")
    dims = info.dims
    if not info.ranked:
        return
    if len(dims) != len(shape) or any(isinstance(d, int) and d != n for d, n in zip(dims, shape, strict=True)):
        given = ",".join(map(str, shape))
        raise BindingError(f"--shape {info.name}={given}: the model declares input '{info.name}' as {_text(dims)}")


def _type(info: RawInput, shape: Sequence[int] | None, symbols: Mapping[str, int]) -> TensorType:
    dims: Sequence[Dim] | None = shape
    if dims is None and info.ranked:
        dims = [symbols.get(d, d) if isinstance(d, str) else d for d in info.dims]
    try:
        dtype = DType(info.dtype)
    except ValueError:
        raise UnsupportedError(
            f"input '{info.name}' is of {info.dtype}, which a step cannot take; export the model in float32 and int64"
        ) from None
    if dims is None:
        raise BindingError(f"input '{info.name}' has no shape in the file; give it: --shape {info.name}=SIZE,...")
    sizes = tuple(int(d) for d in dims if isinstance(d, int | np.integer))
    if len(sizes) < len(dims):
        index = next(i for i, d in enumerate(dims) if not isinstance(d, int | np.integer))
        named = f" ('{dims[index]}')" if isinstance(dims[index], str) else ""
        example = ",".join(str(d) if isinstance(d, int) else "1" if i == 0 else "SIZE" for i, d in enumerate(dims))
        raise BindingError(
            f"input '{info.name}' is declared as {_text(info.dims)}: dimension {index}{named} is open; "
            f"give the shape of one call: --shape {info.name}={example}"
        )
    return TensorType(dtype, sizes)


def _bound(info: RawInput, value: Array, shape: Sequence[int] | None) -> Array:
    """`value` as an array of the input's element type and shape. A row of numbers fills an input of as many elements, row by
    row; one number fits wherever one element is declared."""
    given = np.asarray(value)
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            array = given.astype(np.dtype(info.dtype))
        fits = _kept(given, array)
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise BindingError(f"--bind {info.name}={value}: the value does not fit an input of {info.dtype}")
    dims: Sequence[Dim] | None = shape or (info.dims if info.ranked else None)
    sizes = [d if isinstance(d, int) else 1 for d in dims or ()]
    flat = array.size == 1 or (array.ndim == 1 and len(sizes) > 1)
    if dims is not None and flat and array.size == math.prod(sizes):
        array = array.reshape(sizes)
    fits = dims is None or (
        len(dims) == array.ndim and all(d == n or not isinstance(d, int) for d, n in zip(dims, array.shape, strict=True))
    )
    if not fits:
        raise BindingError(
            f"--bind {info.name}: an array of shape {list(array.shape)} does not fit input '{info.name}' {_text(dims)}"
        )
    array.flags.writeable = False
    return array


def _kept(given: Array, array: Array) -> bool:
    """Whether numbers are still the same in another element type, rounding of floats aside."""
    if given.dtype.kind not in "biuf":
        return False
    if array.dtype.kind == "f":
        return np.array_equal(np.isfinite(array), np.isfinite(given))
    return np.array_equal(array, given)
