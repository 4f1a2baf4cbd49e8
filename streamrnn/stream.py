"""Stream: one arena, one state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

import numpy as np

from streamrnn.calls import Calls
from streamrnn.codegen.abi import HEADER_MENDED, HEADER_POLICY, HEADER_STEPS, Policy
from streamrnn.codegen.build import function
from streamrnn.engine import Engine
from streamrnn.errors import InputError
from streamrnn.ir.types import Array
from streamrnn.layout import Layout, StateSlot
from streamrnn.ports import Frames, Result

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamrnn.snapshot import Snapshot

OnNonFinite: TypeAlias = Literal["pass", "raise", "hold", "reset"]


def policy_of(name: str) -> Policy:
    """The Policy behind `on_nonfinite`. Raises InputError."""
    try:
        return Policy[name.upper()]
    except KeyError:
        raise InputError(f"on_nonfinite='{name}' is not one of {', '.join(p.name.lower() for p in Policy)}") from None


class Stream:
    """One live stream: the hidden state of a model, carried from step to step.

    A stream belongs to one thread at a time; streams of one engine do not disturb each other.

    inputs, outputs   views of the stream's memory by name: fill, call `step()` without arguments, read; nothing is copied or
                      allocated. Steps and blocks on arrays leave them alone.

    A call that takes more than a few microseconds (200,000 multiply-adds) releases the GIL; shorter ones keep it, because
    getting it back from a busy thread takes longer.
    """

    def __init__(self, engine: Engine, on_nonfinite: OnNonFinite = "pass") -> None:
        self.engine = engine
        self._calls = calls = Calls(engine)
        self._arena = calls.arena
        self.inputs: Mapping[str, Array] = MappingProxyType(calls.views.inputs)
        self.outputs: Mapping[str, Array] = MappingProxyType(calls.views.outputs)
        self._header = self._arena[:64].view(np.int64)
        self._init = function(engine.step.init, release_gil=False, args=2)
        self._header[HEADER_POLICY] = policy_of(on_nonfinite)
        builtins = calls.builtins(Stream.step.__doc__ or "", Stream.process.__doc__ or "")
        ways: Mapping[str, Callable[..., Any]] = builtins or {"step": calls.step, "process": calls.process}
        for name, made in ways.items():
            if getattr(type(self), name) is getattr(Stream, name):  # a subclass may have its own
                self.__dict__[name] = made
        self.reset()
        self._warm_up(ways["step"])

    def _warm_up(self, step: Callable[[Frames], object]) -> None:
        """One step on zeros that is taken back. What it touches for the first time (machine code, weights, the pages of the
        arena, the paths through Python and NumPy) would make the first real step two to ten times as long."""
        zeros = {layout.name: np.zeros(layout.shape, layout.dtype) for layout in self._calls.ports.inputs}
        step(next(iter(zeros.values())) if len(zeros) == 1 else zeros)
        self.reset()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Stream is memory that machine code works on: copy it by snapshot() and restore() into a new Stream")

    def reset(self) -> None:
        """Back to the initial state; the step count too."""
        self._init(self.engine.weights.ctypes.data, self._arena.ctypes.data)

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
             out the result is the view `self.outputs`, which the next such step overwrites.

        The first `engine.delay` outputs are zero. Raises InputError; NonFiniteError where the policy is "raise".
        """
        return self._calls.step(x, out)

    def process(self, X: Frames, out: Array | None = None) -> Result:
        """A block of steps in compiled code; the same bits as single steps, however the stream is cut into blocks.

        X:   [n, *frame shape], or a dict of such arrays by name.
        out: C-contiguous [n, *output shape] for a model with one output; may be X itself where shapes agree.

        Raises InputError; NonFiniteError where the policy is "raise" (the steps before it were made).
        """
        return self._calls.process(X, out)

    def state(self) -> dict[str, Array]:
        """A copy of every state by name."""
        return {slot.name: _state(self.engine.layout, slot, self._arena).copy() for slot in self.engine.layout.states}

    def snapshot(self) -> Snapshot:
        """The state as data: portable between machines, refused by any other model."""
        from streamrnn.snapshot import take_snapshot  # with `hashlib`, which is slow to import and rarely used

        return take_snapshot(self.engine.fingerprint, self._header, persistent(self.engine.layout, self._arena))

    def restore(self, snapshot: Snapshot) -> None:
        """Continue where `snapshot` was taken. Raises SnapshotError; the stream is unchanged then."""
        from streamrnn.snapshot import put_snapshot

        put_snapshot(snapshot, self.engine.fingerprint, self._header, persistent(self.engine.layout, self._arena))


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
