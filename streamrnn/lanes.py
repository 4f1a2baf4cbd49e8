"""Lanes across streams: the plan of one stream becomes the plan of a group of 16, whose memory is interleaved.

Every word of 4 bytes of the arena becomes 16 neighbours, one for each stream; weights stay as they are, but that those of
float16 are widened: each of them serves 16 streams, so that reading fewer bytes gains nothing, and to widen one costs more than
a product. The calls become their counterparts in `kernels.across`, loops and copies run over 16 times as many elements. A plan
that cannot be turned so keeps running slot by slot, and the error says which call is in the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from streamrnn.errors import UnsupportedError
from streamrnn.ir.lowering import Arg, Place, Skip
from streamrnn.ir.types import DType
from streamrnn.kernels.across import Across, counterpart, halves
from streamrnn.kernels.across_dense import spread
from streamrnn.kernels.across_filler import fill, keep
from streamrnn.kernels.simd import LANES
from streamrnn.memory import ALIGN, aligned_bytes
from streamrnn.plan import HEADER, Call, Copy, Item, Loop, Slot, StepPlan


def across_streams(plan: StepPlan, eight: bool = False) -> StepPlan:
    """The plan of 16 streams at a time; with `eight`, only lanes 0 .. 7 hold streams, and the others hold anything. Its weights
    are those of `plan` and, where some are float16, these once more as float32 behind them.

    Raises UnsupportedError, which names the node and the reason.
    """
    group = _Group(plan, eight)
    for port in (*plan.inputs, *plan.outputs):
        group.checked(f"'{port.name}'", port.place)
    for state in plan.states:
        if state.type.dtype is not DType.I64:
            group.checked(f"state '{state.name}'", state.place)
    calls = tuple(new for item in plan.calls for new in group.items(item))
    return replace(
        plan,
        calls=calls,
        commit=tuple(group.moved(copy) for copy in plan.commit),
        inputs=tuple(port._replace(place=group.place(port.place)) for port in plan.inputs),
        outputs=tuple(port._replace(place=group.place(port.place)) for port in plan.outputs),
        states=tuple(state._replace(place=group.place(state.place)) for state in plan.states),
        buffers=tuple(group.buffers),
        weights=group.weights(),
        state_bytes=plan.state_bytes * LANES,
        arena_bytes=group.arena_bytes,
        block=None,
        block_bytes=0,
    )


def _up(size: int) -> int:
    """A size up to whole lines of the cache."""
    return -(-size // ALIGN) * ALIGN


def _wider(slot: Slot) -> Slot:
    return Slot(slot.offset * LANES, slot.size * LANES)


class _Group:
    """The places and calls of a plan, turned."""

    def __init__(self, plan: StepPlan, eight: bool) -> None:
        self.plan = plan
        self.eight = eight
        self.buffers = [(space, slot if space == "weights" else _wider(slot)) for space, slot in plan.buffers]
        self.arena_bytes = plan.step_bytes * LANES
        self.buffers.append(("state", Slot(0, HEADER * LANES)))
        self.headers = Place(len(self.buffers) - 1, DType.I64)
        self.wide: dict[int, tuple[int, Slot]] = {}
        self.weights_bytes = _up(plan.weights.nbytes)

    def spare(self, elements: int) -> Place:
        """Memory of the group that the plan of one stream has not."""
        self.buffers.append(("scratch", Slot(self.arena_bytes, elements * LANES * DType.F32.size)))
        self.arena_bytes += elements * LANES * DType.F32.size
        return Place(len(self.buffers) - 1, DType.F32)

    def widened(self, place: Place) -> Place:
        """Where the float32 of float16 weights lie."""
        if place.buffer not in self.wide:
            slot = Slot(self.weights_bytes, self.plan.buffers[place.buffer][1].size * DType.F32.size // DType.F16.size)
            self.wide[place.buffer] = len(self.buffers), slot
            self.buffers.append(("weights", slot))
            self.weights_bytes = _up(slot.offset + slot.size)
        return replace(place, buffer=self.wide[place.buffer][0], dtype=DType.F32)

    def weights(self) -> npt.NDArray[np.uint8]:
        """The weights of the group."""
        given = self.plan.weights
        if not self.wide:
            return given
        block = aligned_bytes(self.weights_bytes)
        block[: given.nbytes] = given
        for buffer, (_, slot) in self.wide.items():
            narrow = self.plan.buffers[buffer][1]
            halves = given[narrow.offset : narrow.offset + narrow.size].view(np.float16)
            block[slot.offset : slot.offset + slot.size].view(np.float32)[:] = halves
        block.flags.writeable = False
        return block

    def held(self, place: Place) -> bool:
        """Whether a place lies in the weight block, the same for all streams."""
        return self.plan.buffers[place.buffer][0] == "weights"

    def place(self, place: Place) -> Place:
        return place if self.held(place) else replace(place, offset=place.offset * LANES)

    def checked(self, what: str, place: Place) -> None:
        if place.dtype is not DType.F32:
            raise UnsupportedError(f"{what} is {place.dtype.value}; lanes hold float32")
        if self.held(place):
            raise UnsupportedError(f"{what} is a constant")

    def items(self, item: Item) -> Sequence[Item]:
        """What takes the place of an item."""
        if isinstance(item, Call):
            return self.with_filler(item)
        if isinstance(item, Loop):
            return [self.loop(item)]
        if isinstance(item, Copy):
            return [self.copy(item)]
        raise UnsupportedError(f"node '{item.node}' branches or repeats, which may go another way in each stream")

    def copy(self, copy: Copy) -> Copy | Call:
        if not self.held(copy.source):
            return self.moved(copy)
        self.checked(f"what node '{copy.node}' copies", copy.target)
        count = copy.size // DType.F32.size
        return Call(copy.node, spread, (count, copy.source, self.place(copy.target)), count * LANES)

    def moved(self, copy: Copy) -> Copy:
        """A copy from interleaved memory."""
        self.checked(f"what node '{copy.node}' copies", copy.source)
        return replace(copy, source=self.place(copy.source), target=self.place(copy.target), size=copy.size * LANES)

    def loop(self, loop: Loop) -> Loop:
        """The loop with the lanes as its last dimension, merged with the one before where every input allows it."""
        self.checked(f"what node '{loop.node}' computes", loop.output)
        inputs = []
        for place, strides in loop.inputs:
            if self.held(place):
                inputs.append((place, (*strides, 0)))
            else:
                self.checked(f"what node '{loop.node}' reads", place)
                inputs.append((self.place(place), (*(stride * LANES for stride in strides), 1)))
        shape = (*loop.shape, LANES)
        while len(shape) > 1 and all(s[-2] == s[-1] * shape[-1] for _, s in inputs):
            shape = (*shape[:-2], shape[-2] * shape[-1])
            inputs = [(place, (*s[:-2], s[-1])) for place, s in inputs]
        return replace(loop, shape=shape, inputs=tuple(inputs), output=self.place(loop.output))

    def with_filler(self, call: Call) -> Sequence[Item]:
        """A call; and where its frame may be filler, what undoes it in the lanes of streams for which it is.

        Each stream has its own filler, so that the counterpart runs without any."""
        across, given = self.counterpart(call)
        skip = given.get("skip", 0)
        if not isinstance(skip, Skip):
            places = {name: self._argument(call, across, name, arg) for name, arg in given.items()}
            return [self.call(call, across, given, places)]
        if skip.frames != 1 or not across.counted or self.begins_late(across, given):
            raise UnsupportedError(f"node '{call.node}' leaves out filler, of which each stream has its own")
        count = prod(size for name in across.counted if isinstance(size := given[name], int))
        places = {name: self._argument(call, across, name, arg) for name, arg in given.items()}
        before: list[Item] = []
        behind: list[Item] = []
        for name in across.kept:
            saved = self.spare(count)
            before.append(Call(call.node, keep, (count, skip.delay, self.headers, places[name], saved), count))
            behind.append(Call(call.node, keep, (count, skip.delay, self.headers, saved, places[name]), count))
        for name in across.silent:
            behind.append(Call(call.node, fill, (count, skip.delay, 0.0, self.headers, places[name]), count))
        for name, constant in across.filled.items():
            source, filled = places[name], self.spare(count)
            assert isinstance(source, Place)
            value = float(self.constant(given[constant], np.dtype(np.float32)))
            before.append(Copy(call.node, source, filled, count * LANES * DType.F32.size))
            before.append(Call(call.node, fill, (count, skip.delay, value, self.headers, filled), count))
            places[name] = filled
        return [*before, self.call(call, across, given, places), *behind]

    def constant(self, arg: Arg, dtype: np.dtype[Any]) -> Any:
        """The first number at a place of the weight block."""
        assert isinstance(arg, Place)
        _, at = self.plan.place(arg)
        return self.plan.weights[at : at + dtype.itemsize].view(dtype)[0]

    def begins_late(self, across: Across, given: Mapping[str, Arg]) -> bool:
        """Whether a ring waits for its first frame, which is another step in each stream."""
        heads = {arg.buffer for name in across.words if isinstance(arg := given[name], Place)}
        starts = [state.init for state in self.plan.states if state.place.buffer in heads]
        return any(self.constant(init, np.dtype(np.int64)) < 0 for init in starts)

    def counterpart(self, call: Call) -> tuple[Across, dict[str, Arg]]:
        """The counterpart of a call's kernel, and the call's arguments by name."""
        across = counterpart(call.kernel)
        if across is None:
            family, name = call.kernel.function.__module__.rpartition(".")[2], call.kernel.__name__
            raise UnsupportedError(f"node '{call.node}': kernel {family}.{name} has no counterpart across streams")
        return across, dict(zip((name for name, _ in call.kernel.params), call.args, strict=True))

    def call(self, call: Call, across: Across, given: Mapping[str, Arg], args: Mapping[str, Arg]) -> Call:
        """The counterpart of a call whose arguments are `given`, on `args`."""
        for name in across.absent:
            if given[name] != 0:
                raise UnsupportedError(f"node '{call.node}': {call.kernel.__name__} across streams takes no {name}")
        reads = {name: self.held(arg) for name in across.either if isinstance(arg := given[name], Place)}
        return Call(call.node, across.bound(call.kernel, reads, self.eight), tuple(args.values()), call.work * LANES)

    def _argument(self, call: Call, across: Across, name: str, arg: Arg) -> Arg:
        if not isinstance(arg, Place):
            if isinstance(arg, Skip):
                return 0
            return arg * LANES if name in across.sizes else arg
        if name in halves(call.kernel):
            return self.widened(arg)
        if name in across.words and not self.held(arg):
            words = DType.I64.size // DType.I32.size
            return replace(arg, dtype=DType.I32, offset=arg.offset * words * LANES)
        if arg.dtype not in (DType.F32, DType.U8) and not self.held(arg):
            raise UnsupportedError(f"node '{call.node}' works on {arg.dtype.value}; lanes hold float32")
        if name not in across.either and self.held(arg) != (name in across.weights):
            where = "a constant" if self.held(arg) else "computed"
            raise UnsupportedError(f"node '{call.node}': {name} of {call.kernel.__name__} is {where}")
        return self.place(arg)
