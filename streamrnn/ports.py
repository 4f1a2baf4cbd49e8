"""Inputs and outputs of a model as the user sees them: shapes of frames, checks, order in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from streamrnn.engine import Engine, frame_shape
from streamrnn.errors import InputError
from streamrnn.ir.types import Array
from streamrnn.layout import Port

if TYPE_CHECKING:
    import numpy.typing as npt

Frames: TypeAlias = "npt.ArrayLike | Mapping[str, npt.ArrayLike]"
Result: TypeAlias = "Array | dict[str, Array]"


class PortLayout:
    """How frames of one port go between the user's shape and the port's own memory."""

    def __init__(self, port: Port) -> None:
        self.name = port.name
        self.port = port
        self.dtype = port.type.dtype.numpy
        self.shape = frame_shape(port)
        self.nbytes = port.type.nbytes
        axis = port.stream.axis if port.stream else None
        outer = int(np.prod(port.type.shape[: axis or 0]))
        #: several frames a step behind an outer dimension: the user's frames-first order is not the memory order
        self.moved = axis if axis is not None and port.type.shape[axis] > 1 and outer > 1 else None

    def view(self, memory: npt.NDArray[np.uint8]) -> Array:
        """The user's view of one step in `memory`."""
        typed = memory.view(self.dtype).reshape(self.port.type.shape)
        if self.moved is not None:
            typed = np.moveaxis(typed, self.moved, 0)
        return typed.reshape(self.shape)

    def to_memory(self, frames: Array) -> Array:
        """Frames [n, *shape] in the order of the port's memory, contiguous."""
        if self.moved is None:
            return np.ascontiguousarray(frames)
        rest = [n for d, n in enumerate(self.port.type.shape) if d != self.moved]
        typed = frames.reshape(len(frames), self.port.type.shape[self.moved], *rest)
        return np.ascontiguousarray(np.moveaxis(typed, 1, 1 + self.moved))

    def from_memory(self, block: Array) -> Array:
        """The reverse of `to_memory`, on a block [n, *port shape]."""
        typed = block.reshape(len(block), *self.port.type.shape)
        if self.moved is not None:
            typed = np.moveaxis(typed, 1 + self.moved, 1)
        return typed.reshape(len(block), *self.shape)

    def checked(self, value: npt.ArrayLike, steps: bool) -> Array:
        """`value` as an array of this port's dtype and shape, [n, *shape] with `steps`. Raises InputError."""
        try:
            array = np.asarray(value)
        except ValueError:
            raise InputError(f"input '{self.name}' is no array: its rows have different lengths") from None
        if array.dtype != self.dtype:
            safe = np.can_cast(array.dtype, self.dtype, "same_kind") and array.dtype.kind == self.dtype.kind
            if not safe and not (array.dtype.kind in "iu" and self.dtype.kind == "f" and not isinstance(value, np.ndarray)):
                raise InputError(
                    f"input '{self.name}' is {array.dtype}, the model takes {self._wanted(steps)}; "
                    f"convert it with .astype('{self.dtype}')"
                )
            array = array.astype(self.dtype)
        given = array.shape[1:] if steps and array.ndim else array.shape
        if given != self.shape and steps and self.shape == (1,) and array.ndim == 1:
            return array.reshape(-1, 1)
        if given != self.shape and not steps and self.shape == (1,) and array.ndim == 0:
            return array.reshape(1)
        if given != self.shape or (steps and array.ndim == 0):
            raise InputError(f"input '{self.name}' has shape {array.shape}, the model takes {self._wanted(steps)}")
        return array

    def _wanted(self, steps: bool) -> str:
        return f"{self.dtype}{list(self.shape)}" + (" behind a leading axis of steps" if steps else "")


class Ports:
    """Layouts of an engine's inputs and outputs, and the checks on what the user hands over."""

    def __init__(self, engine: Engine) -> None:
        self.inputs = [PortLayout(port) for port in engine.layout.inputs]
        self.outputs = [PortLayout(port) for port in engine.layout.outputs]

    def arrays(self, frames: Frames, steps: bool) -> list[Array]:
        """One checked array per input, in order. Raises InputError."""
        names = [layout.name for layout in self.inputs]
        if isinstance(frames, Mapping):
            if set(frames) != set(names):
                raise InputError(f"inputs {sorted(frames)} were given, the model takes {names}")
            given = [frames[name] for name in names]
        elif len(names) == 1:
            given = [frames]
        else:
            raise InputError(f"the model takes the inputs {names}: hand them over as a dict of arrays")
        arrays = [layout.checked(value, steps) for layout, value in zip(self.inputs, given, strict=True)]
        if steps and len({len(a) for a in arrays}) > 1:
            lengths = {layout.name: len(a) for layout, a in zip(self.inputs, arrays, strict=True)}
            raise InputError(f"inputs have different numbers of steps: {lengths}")
        return arrays

    def result(self, arrays: list[Array]) -> Result:
        if len(arrays) == 1:
            return arrays[0]
        return {layout.name: array for layout, array in zip(self.outputs, arrays, strict=True)}
