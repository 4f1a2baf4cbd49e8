"""Stream: one arena, one state."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from streamrnn.codegen.abi import HEADER_MENDED, HEADER_POLICY, HEADER_STEPS, Policy
from streamrnn.codegen.build import function
from streamrnn.engine import Engine, frame_shape
from streamrnn.errors import InputError, NonFiniteError
from streamrnn.ir.types import Array
from streamrnn.layout import Layout, Port, StateSlot
from streamrnn.memory import ALIGN, aligned_bytes
from streamrnn.snapshot import Snapshot, check_snapshot, make_snapshot

Frames: TypeAlias = npt.ArrayLike | Mapping[str, npt.ArrayLike]
Result: TypeAlias = Array | dict[str, Array]
OnNonFinite: TypeAlias = Literal["pass", "raise", "hold", "reset"]


def policy_of(name: str) -> Policy:
    """The Policy behind `on_nonfinite`. Raises InputError."""
    try:
        return Policy[name.upper()]
    except KeyError:
        raise InputError(f"on_nonfinite='{name}' is not one of {', '.join(p.name.lower() for p in Policy)}") from None


class _Layout:
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
        wanted = f"{self.dtype}{list(self.shape)}" + (" behind a leading axis of steps" if steps else "")
        if array.dtype != self.dtype:
            safe = np.can_cast(array.dtype, self.dtype, "same_kind") and array.dtype.kind == self.dtype.kind
            if not safe and not (array.dtype.kind in "iu" and self.dtype.kind == "f" and not isinstance(value, np.ndarray)):
                raise InputError(
                    f"input '{self.name}' is {array.dtype}, the model takes {wanted}; convert it with .astype('{self.dtype}')"
                )
            array = array.astype(self.dtype)
        given = array.shape[1:] if steps and array.ndim else array.shape
        if given != self.shape and steps and self.shape == (1,) and array.ndim == 1:
            return array.reshape(-1, 1)
        if given != self.shape and not steps and self.shape == (1,) and array.ndim == 0:
            return array.reshape(1)
        if given != self.shape or (steps and array.ndim == 0):
            raise InputError(f"input '{self.name}' has shape {array.shape}, the model takes {wanted}")
        return array


class Ports:
    """Layouts of an engine's inputs and outputs, and the checks on what the user hands over."""

    def __init__(self, engine: Engine) -> None:
        self.inputs = [_Layout(port) for port in engine.layout.inputs]
        self.outputs = [_Layout(port) for port in engine.layout.outputs]

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


class Stream:
    """One live stream: the hidden state of a model, carried from step to step.

    A stream belongs to one thread at a time; streams of one engine do not disturb each other.

    inputs, outputs   views of the arena by name: fill, call `step()` without arguments, read; nothing is copied or allocated
    """

    def __init__(self, engine: Engine, on_nonfinite: OnNonFinite = "pass") -> None:
        self.engine = engine
        layout = engine.layout
        self._ports = ports = Ports(engine)
        boxes = [port.nbytes for port in (*ports.inputs, *ports.outputs)]
        offsets = layout.arena_bytes + np.cumsum([0, *(-(-n // ALIGN) * ALIGN for n in boxes)])
        self._memory = aligned_bytes(int(offsets[-1]))
        self._weights = layout.weights
        views = [
            port.view(self._memory[int(at) : int(at) + port.nbytes])
            for port, at in zip((*ports.inputs, *ports.outputs), offsets, strict=False)
        ]
        n = len(ports.inputs)
        self.inputs: Mapping[str, Array] = MappingProxyType(dict(zip((p.name for p in ports.inputs), views[:n], strict=True)))
        self.outputs: Mapping[str, Array] = MappingProxyType(dict(zip((p.name for p in ports.outputs), views[n:], strict=True)))
        base = self._memory.ctypes.data
        self._in_views, self._out_views = views[:n], views[n:]
        self._frame = (views[0].dtype, views[0].shape) if n == 1 else None
        self._single = views[n] if len(views) == n + 1 else None
        self._answer = None if self._single is None else (self._single.dtype, self._single.shape)
        self._in_table = (ctypes.c_void_p * max(1, n))(*(base + int(at) for at in offsets[:n]))
        self._out_table = (ctypes.c_void_p * max(1, len(views) - n))(*(base + int(at) for at in offsets[n:-1]))
        self._header = self._memory[:64].view(np.int64)
        self._init = function(engine.step.init, release_gil=False, args=2)
        self._step = function(engine.step.step, release_gil=False, args=1)
        self._run_block = function(engine.step.run, release_gil=True, args=5)
        self._where = (self._weights.ctypes.data, base)
        self._once_table = (ctypes.c_void_p * 4)(
            *self._where, ctypes.addressof(self._in_table), ctypes.addressof(self._out_table)
        )
        self._once = ctypes.addressof(self._once_table)
        self._header[HEADER_POLICY] = policy_of(on_nonfinite)
        self.reset()
        self._warm_up()

    def _warm_up(self) -> None:
        """One step on zeros that is taken back. What it touches for the first time (machine code, weights, the pages of the
        arena, the paths through Python and NumPy) would make the first real step two to ten times as long."""
        zeros = {layout.name: np.zeros(layout.shape, layout.dtype) for layout in self._ports.inputs}
        self.step(next(iter(zeros.values())) if len(zeros) == 1 else zeros)
        self.reset()
        for view in self._out_views:
            view[...] = 0

    def reset(self) -> None:
        """Back to the initial state; the step count too."""
        self._init(*self._where)

    @property
    def steps(self) -> int:
        """Steps made since the last reset."""
        return int(self._header[HEADER_STEPS])

    @property
    def mended(self) -> int:
        """Input frames since the last reset that were not finite and that the policy refused or mended."""
        return int(self._header[HEADER_MENDED])

    def step(self, x: Frames | None = None, out: Array | None = None) -> Result:
        """One step.

        x:   one frame of the input's shape, or a dict of them by name; left out, the step reads `self.inputs`.
        out: where to put the single output; left out, the result is a new array (or a dict of arrays). With neither x nor
             out the result is the view `self.outputs`, which the next step overwrites.

        The first `engine.delay` outputs are zero. Raises InputError; NonFiniteError where the policy is "raise".
        """
        if out is not None and (self._answer is None or (out.dtype, out.shape) != self._answer):
            raise InputError(f"out is {out.dtype}{list(out.shape)}, which is not the model's single output")
        if x is not None:
            if type(x) is np.ndarray and (x.dtype, x.shape) == self._frame:
                self._in_views[0][...] = x
            else:
                self._take(x)
        if self._step(self._once) != 1:
            self._refuse(0)
        if out is not None:
            out[...] = self._single
            return out
        if x is None:
            return dict(self.outputs) if self._single is None else self._single
        if self._single is not None:
            return self._single.copy()
        return self._ports.result([view.copy() for view in self._out_views])

    def _take(self, x: Frames) -> None:
        """Fill the input views from a dict, or from an array that needs a conversion."""
        if isinstance(x, Mapping) and len(x) == len(self.inputs):
            for name, view in self.inputs.items():
                value = x.get(name)
                if type(value) is not np.ndarray or value.dtype != view.dtype or value.shape != view.shape:
                    break
                view[...] = value
            else:
                return
        for view, value in zip(self._in_views, self._ports.arrays(x, steps=False), strict=True):
            view[...] = value

    def process(self, X: Frames, out: Array | None = None) -> Result:
        """A block of steps in compiled code; the same bits as single steps, however the stream is cut into blocks.

        X:   [n, *frame shape], or a dict of such arrays by name.
        out: C-contiguous [n, *output shape] for a model with one output; may be X itself where shapes agree.

        The GIL is released. Raises InputError; NonFiniteError where the policy is "raise" (the steps before it were made).
        """
        given = self._ports.arrays(X, steps=True)
        n = len(given[0]) if given else 0
        blocks = [layout.to_memory(array) for layout, array in zip(self._ports.inputs, given, strict=True)]
        results = [np.empty((n, *layout.port.type.shape), layout.dtype) for layout in self._ports.outputs]
        if out is not None:
            layout = self._ports.outputs[0]
            if (
                len(results) != 1
                or layout.moved is not None
                or out.shape != (n, *layout.shape)
                or out.dtype != layout.dtype
                or not out.flags.c_contiguous
                or not out.flags.writeable
            ):
                wanted = f"C-contiguous, writeable {layout.dtype}{[n, *layout.shape]} of a model with one output"
                raise InputError(f"out is {out.dtype}{list(out.shape)}; it must be {wanted}")
            results = [out]
        ins = (ctypes.c_void_p * max(1, len(blocks)))(*(b.ctypes.data for b in blocks))
        outs = (ctypes.c_void_p * max(1, len(results)))(*(r.ctypes.data for r in results))
        made = self._run_block(*self._where, ctypes.addressof(ins), ctypes.addressof(outs), n)
        if made != n:
            self._refuse(made)
        if out is not None:
            return out
        return self._ports.result([lay.from_memory(r) for lay, r in zip(self._ports.outputs, results, strict=True)])

    def _refuse(self, frame: int) -> None:
        raise NonFiniteError(
            f"frame {frame} of the input holds NaN or Inf; the state is that of before it. Mend the input, or choose "
            f"on_nonfinite='hold' or 'reset'"
        )

    def state(self) -> dict[str, Array]:
        """A copy of every state by name."""
        return {slot.name: _state(self.engine.layout, slot, self._memory).copy() for slot in self.engine.layout.states}

    def snapshot(self) -> Snapshot:
        """The state as data: portable between machines, refused by any other model."""
        return make_snapshot(self.engine.fingerprint, self.steps, persistent(self.engine.layout, self._memory))

    def restore(self, snapshot: Snapshot) -> None:
        """Continue where `snapshot` was taken. Raises SnapshotError; the stream is unchanged then."""
        views = persistent(self.engine.layout, self._memory)
        for view, value in zip(views, check_snapshot(snapshot, self.engine.fingerprint, views), strict=True):
            view[...] = value
        self._header[HEADER_STEPS] = snapshot.steps


def _state(layout: Layout, slot: StateSlot, arena: npt.NDArray[np.uint8]) -> Array:
    _, offset = layout.place(slot.place)
    return arena[offset : offset + slot.type.nbytes].view(slot.type.dtype.numpy).reshape(slot.type.shape)


def persistent(layout: Layout, arena: npt.NDArray[np.uint8]) -> list[Array]:
    """Views of everything in an arena that a later step can depend on: held inputs, then states."""
    views: list[Array] = []
    for port in layout.inputs:
        _, offset = layout.place(port.place)
        views.append(arena[offset : offset + port.type.nbytes].view(port.type.dtype.numpy))
    return views + [_state(layout, slot, arena) for slot in layout.states]
