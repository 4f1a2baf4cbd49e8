"""Lanes across streams: the plan of one stream becomes the plan of a group of 16, whose memory is interleaved.

Every word of 4 bytes of the arena becomes 16 neighbours, one for each stream; weights stay as they are. The calls become their
counterparts in `kernels.across`, loops and copies run over 16 times as many elements. A plan that cannot be turned so keeps
running slot by slot, and the error says which call is in the way.
"""

from __future__ import annotations

from dataclasses import replace

from streamrnn.errors import UnsupportedError
from streamrnn.ir.lowering import Arg, Place
from streamrnn.ir.types import DType
from streamrnn.kernels.across import Across, counterpart
from streamrnn.kernels.across_dense import spread
from streamrnn.kernels.simd import LANES
from streamrnn.plan import Call, Copy, Item, Loop, Slot, StepPlan


def across_streams(plan: StepPlan) -> StepPlan:
    """The plan of 16 streams at a time. Raises UnsupportedError, which names the node and the reason."""
    group = _Group(plan)
    for port in (*plan.inputs, *plan.outputs):
        group.checked(f"'{port.name}'", port.place)
    for state in plan.states:
        if state.type.dtype is not DType.I64:
            group.checked(f"state '{state.name}'", state.place)
    buffers = ((space, _wider(slot) if space != "weights" else slot) for space, slot in plan.buffers)
    return replace(
        plan,
        calls=tuple(group.item(item) for item in plan.calls),
        commit=tuple(group.moved(copy) for copy in plan.commit),
        inputs=tuple(replace(port, place=group.place(port.place)) for port in plan.inputs),
        outputs=tuple(replace(port, place=group.place(port.place)) for port in plan.outputs),
        states=tuple(replace(state, place=group.place(state.place)) for state in plan.states),
        buffers=tuple(buffers),
        state_bytes=plan.state_bytes * LANES,
        arena_bytes=plan.arena_bytes * LANES,
    )


def _wider(slot: Slot) -> Slot:
    return Slot(slot.offset * LANES, slot.size * LANES)


class _Group:
    """The places and calls of a plan, turned."""

    def __init__(self, plan: StepPlan) -> None:
        self.plan = plan

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

    def item(self, item: Item) -> Item:
        if isinstance(item, Call):
            return self.call(item)
        if isinstance(item, Loop):
            return self.loop(item)
        if isinstance(item, Copy):
            return self.copy(item)
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

    def call(self, call: Call) -> Call:
        across = counterpart(call.kernel)
        if across is None:
            raise UnsupportedError(f"node '{call.node}': kernel {call.kernel.__name__} has no counterpart across streams")
        given = dict(zip((name for name, _ in call.kernel.params), call.args, strict=True))
        for name in across.absent:
            if given[name] != 0:
                raise UnsupportedError(f"node '{call.node}': {call.kernel.__name__} across streams takes no {name}")
        args = tuple(self._argument(call, across, name, arg) for name, arg in given.items())
        reads = {name: self.held(arg) for name in across.either if isinstance(arg := given[name], Place)}
        return Call(call.node, across.bound(call.kernel, reads), args, call.work * LANES)

    def _argument(self, call: Call, across: Across, name: str, arg: Arg) -> Arg:
        if not isinstance(arg, Place):
            if not isinstance(arg, int | float):
                raise UnsupportedError(f"node '{call.node}' leaves out filler, of which each stream has its own")
            return arg * LANES if name in across.sizes else arg
        if name in across.words and not self.held(arg):
            words = DType.I64.size // DType.I32.size
            return replace(arg, dtype=DType.I32, offset=arg.offset * words * LANES)
        if arg.dtype not in (DType.F32, DType.U8) and not self.held(arg):
            raise UnsupportedError(f"node '{call.node}' works on {arg.dtype.value}; lanes hold float32")
        if name not in across.either and self.held(arg) != (name in across.weights):
            where = "a constant" if self.held(arg) else "computed"
            raise UnsupportedError(f"node '{call.node}': {name} of {call.kernel.__name__} is {where}")
        return self.place(arg)
