"""The block form of a plan: what of K steps does not wait for the step before is computed for all K of them at once.

The loop over steps around all items becomes one loop around each group of items: items that hand a state from step to step
are one group, everything else is a group of its own. Memory between groups then holds a row for each step. Where a kernel
computes several frames in one call (`kernels.frames`), the loop around it becomes that call: a matrix product reads its
weights once for all steps, and a cell runs its recurrence alone. Each item computes what it computes in a step, so the bits
are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from streamrnn import access
from streamrnn.groups import in_groups
from streamrnn.ir.lowering import Arg, Place, Skip
from streamrnn.ir.types import DType
from streamrnn.kernels.frames import Frames
from streamrnn.kernels.simd import LANES, tiles
from streamrnn.memory import ALIGN
from streamrnn.plan import Block, Call, Copy, Item, Loop, Port, Repeat, Slot, StepPlan, each
from streamrnn.scratch import Buffer, lay_out

#: steps of a block, the first that fits. Memory between groups may take BUDGET bytes, so that it stays in the cache of one core
STEPS = (32, 16, 8)
BUDGET = 1 << 19
#: where weights come from beyond that cache, they come less often with more steps: those whose memory is small beside weights
MORE = (128, 64)
SMALL_BESIDE = 8
#: a matrix product of so many rows uses what it reads of its weights as often as one of more rows does
ROWS = 4
#: a block pays where at least this share of the multiply-adds is that of calls with fewer rows, which now have more
SHARE = 0.2
#: the parameter of a kernel that it writes, of those that hold a row for each frame
RESULT = "y"
#: a loop over more elements than this is not dearer when it is called once for each step
SMALL = 256


def block_form(plan: StepPlan) -> Block | None:
    """The block form of `plan`; None where no kernel would compute all steps in one call, or where memory would not fit."""
    form = Form(plan)
    if not form.pays():
        return None
    beside = plan.weights.nbytes // SMALL_BESIDE
    for steps in (*MORE, *STEPS):
        block = form.over(steps)
        if block.plan.arena_bytes - plan.state_bytes <= (beside if steps in MORE else max(BUDGET, beside)):
            return block
    return None


@dataclass(frozen=True)
class _Loop:
    """Items that run step by step."""

    items: list[Item]


class Form:
    """The pieces of a block, in order: a Call, Loop or Copy computes all steps, the items of a `_Loop` one after the other."""

    def __init__(self, plan: StepPlan) -> None:
        self.plan = plan
        self.sizes = [slot.size for _, slot in plan.buffers]
        self.spaces = [space for space, _ in plan.buffers]
        self.rows = {port.place.buffer: self._buffer(port.type.nbytes) for port in plan.inputs}
        self.items = [*plan.calls]
        self.outputs = [self._output(port) for port in plan.outputs]
        self.items = [access.moved(item, self._input_row) for item in (*self.items, *plan.commit)]
        self.after = max((-(-skip.delay // skip.frames) for skip in self._skips()), default=0)
        self.items = [part for item in self.items for part in self._with_rows(item)]
        self._make_ahead()
        self.carried = {b for item in self.items for b in access.written(item) if self.spaces[b] == "state"}
        self.pieces = self._pieces()
        self.shared = self._shared()

    def _buffer(self, size: int) -> int:
        self.sizes.append(size)
        self.spaces.append("scratch")
        return len(self.sizes) - 1

    def _input_row(self, place: Place) -> Place:
        return replace(place, buffer=self.rows.get(place.buffer, place.buffer))

    def _output(self, port: Port) -> Place:
        """Memory that holds nothing but an output; what lies elsewhere is copied there."""
        place = self._input_row(port.place)
        if self.spaces[place.buffer] != "scratch" or self.sizes[place.buffer] != port.type.nbytes:
            place = Place(self._buffer(port.type.nbytes), port.type.dtype)
            self.items.append(Copy("output", port.place, place, port.type.nbytes))
        return place

    def _skips(self) -> Iterator[Skip]:
        """Everything that is filler in the first steps."""
        for port in self.plan.outputs:
            if port.stream is not None and port.stream.delay:
                axis = port.stream.axis
                frames = self.plan.frames // port.stream.stride if axis is None else port.type.shape[axis]
                yield Skip(port.stream.delay, frames)
        for item in access.flat(self.plan.calls):
            args: Iterable[Arg] = item.args if isinstance(item, Call) else (item.first,) if isinstance(item, Repeat) else ()
            yield from (arg for arg in args if isinstance(arg, Skip))

    def _with_rows(self, item: Item) -> list[Item]:
        """A call on memory of its own, and copies from and to where its values lie in a step: parts of larger ones, states.
        Unchanged where that does not make it one call for all steps."""
        if not isinstance(item, Call) or item.kernel.frames is None or self._merges(item):
            return [item]
        rule, values, copies = item.kernel.frames, _values(item), dict[str, Copy]()
        for name in rule.rows:
            place = values[name]
            assert isinstance(place, Place)
            size = _row(rule, values, name) * place.dtype.size
            if size and not self._fills(place, size):
                values[name] = own = Place(self._buffer(size), place.dtype)
                copies[name] = Copy(item.node, own, place, size) if name == RESULT else Copy(item.node, place, own, size)
        call, behind = replace(item, args=tuple(values.values())), copies.pop(RESULT, None)
        return [*copies.values(), call, *([behind] if behind else [])] if self._merges(call) else [item]

    # -- groups ---------------------------------------------------------------------------------------------------

    def _make_ahead(self) -> None:
        """The input's part of a cell becomes a call of its own, where it does not wait for a state itself."""
        cells = [i for i, item in enumerate(self.items) if isinstance(item, Call) and _splits(item)]
        parts = {i: self._parted(item) for i in cells if isinstance(item := self.items[i], Call)}
        whole = self.items
        self.items = [part for i, item in enumerate(whole) for part in parts.get(i, (item,))]
        apart = {id(self.items[group[0]]) for group in self._groups() if len(group) == 1}
        self.items = [
            part for i, item in enumerate(whole) for part in (parts[i] if i in parts and id(parts[i][0]) in apart else (item,))
        ]

    def _parted(self, call: Call) -> tuple[Call, Call]:
        ahead, values = _rule(call).ahead, _values(call)
        assert ahead is not None
        row = ahead.gates * tiles(int(str(values["n_hidden"]))) * LANES
        rows = prod(int(str(values[name])) for name in ("frames", "batch"))
        sums = Place(self._buffer(rows * row * DType.F32.size), DType.F32)
        first = {**values, "s_row": row, "z": sums}
        work = call.work * int(str(values["n_in"])) // (int(str(values["n_in"])) + int(str(values["n_hidden"])))
        kernel = ahead.kernel.typed(w=dict(call.kernel.params)["w"])
        product = Call(call.node, kernel, tuple(first[name] for name, _ in kernel.params), work)
        rest = {**values, "s_row": row, "start": sums}
        return product, Call(call.node, call.kernel, tuple(rest[name] for name, _ in call.kernel.params), call.work - work)

    def _groups(self) -> list[list[int]]:
        read = [self._of_steps(access.read(item)) for item in self.items]
        written = [self._of_steps(access.written(item)) for item in self.items]
        carried = {b for item in self.items for b in access.written(item) if self.spaces[b] == "state"}
        touched = [carried & (access.read(item) | access.written(item)) for item in self.items]
        return in_groups(read, written, touched)

    def _of_steps(self, buffers: set[int]) -> set[int]:
        """Those whose contents belong to one step."""
        return {b for b in buffers if self.spaces[b] == "scratch"}

    def _pieces(self) -> list[Item | _Loop]:
        pieces: list[Item | _Loop] = []
        for group in self._groups():
            item = self.items[group[0]]
            if len(group) == 1 and self._merges(item):
                pieces.append(item)
                continue
            if not pieces or not isinstance(pieces[-1], _Loop):
                pieces.append(_Loop([]))
            assert isinstance(pieces[-1], _Loop)
            pieces[-1].items.extend(self.items[i] for i in group)
        return pieces

    def pays(self) -> bool:
        """Whether enough of the work gains from being done in one call for all steps."""
        single = [piece for piece in self.pieces if isinstance(piece, Call) and _rows(piece) < ROWS]
        total = sum(call.work * times for call, times in each(self.plan.calls) if isinstance(call, Call))
        return bool(single) and sum(call.work for call in single) >= SHARE * total

    def _merges(self, item: Item) -> bool:
        """Whether one call computes this item for all steps."""
        if isinstance(item, Copy):
            return all(self._fills(place, item.size) for place in (item.source, item.target))
        if isinstance(item, Loop):
            places = [place for place, _ in item.inputs]
            known = all(place.buffer not in self.carried and not place.moves for place in places)
            return known and prod(item.shape) <= SMALL and self._fills(item.output, prod(item.shape) * item.output.dtype.size)
        if not isinstance(item, Call) or item.kernel.frames is None:
            return False
        rule, values = item.kernel.frames, _values(item)
        return all(values[name] == wanted for name, wanted in rule.only.items()) and all(
            self._follows(rule, values, name, arg) for name, arg in values.items() if isinstance(arg, Place)
        )

    def _follows(self, rule: Frames, values: dict[str, Arg], name: str, place: Place) -> bool:
        """Whether the memory of a parameter is as the rule says."""
        if name in rule.rows:
            size = _row(rule, values, name) * place.dtype.size
            return size == 0 or self._fills(place, size)
        if name in rule.apart:
            return self.spaces[place.buffer] == "scratch"
        if name in rule.carried:
            return self.spaces[place.buffer] == "state"
        if name in rule.scratch:
            return self.spaces[place.buffer] == "scratch"
        return self.spaces[place.buffer] == "weights"

    def _fills(self, place: Place, size: int) -> bool:
        """Whether `size` bytes at `place` are all that its buffer holds of a step, so that rows lie one behind the other."""
        return self.spaces[place.buffer] == "scratch" and (place.offset, self.sizes[place.buffer]) == (0, size)

    def _shared(self) -> set[int]:
        """Buffers with a row for each step: those of ports, those between pieces, and those that one call reads or writes."""
        shared = {*self.rows.values(), *(place.buffer for place in self.outputs)}
        seen: dict[int, int] = {}
        for number, piece in enumerate(self.pieces):
            for buffer in self._of_steps(_touched(piece)):
                if seen.setdefault(buffer, number) != number:
                    shared.add(buffer)
            if isinstance(piece, Call):
                rule, values = _rule(piece), _values(piece)
                shared |= {arg.buffer for name in (*rule.rows, *rule.apart) if isinstance(arg := values[name], Place)}
            elif not isinstance(piece, _Loop):
                shared |= _touched(piece)
        return {b for b in shared if self.spaces[b] == "scratch"}

    # -- the plan -------------------------------------------------------------------------------------------------

    def over(self, steps: int) -> Block:
        """The block of so many steps."""
        first = 1 + max((item.number for item in access.flat(self.plan.calls) if isinstance(item, Repeat)), default=-1)
        calls = []
        for number, piece in enumerate(self.pieces, first):
            calls.append(self._loop(piece, number, steps) if isinstance(piece, _Loop) else self._merged(piece, steps))
        buffers, end = self._memory(steps)
        inputs = [self._port(p, Place(self.rows[p.place.buffer], p.place.dtype), steps) for p in self.plan.inputs]
        outputs = [self._port(port, place, steps) for port, place in zip(self.plan.outputs, self.outputs, strict=True)]
        held = [
            Copy("input", row.place.at((steps - 1) * port.type.size), port.place, port.type.nbytes)
            for port, row in zip(self.plan.inputs, inputs, strict=True)
        ]
        plan = replace(
            self.plan, calls=tuple(calls), commit=tuple(held), inputs=tuple(inputs), outputs=tuple(outputs),
            buffers=buffers, arena_bytes=end, frames=steps * self.plan.frames,
        )  # fmt: skip
        return Block(plan, steps, self.after)

    def _port(self, port: Port, place: Place, steps: int) -> Port:
        return Port(port.name, port.type.with_shape((steps, *port.type.shape)), place, None)

    def _memory(self, steps: int) -> tuple[tuple[tuple[str, Slot], ...], int]:
        """Where every buffer lies, and where the arena ends. Whole vectors fit behind the last row."""
        kept = len(self.plan.buffers)
        buffers = [
            Buffer(steps * size + ALIGN if b in self.shared else size, space)
            for b, (size, space) in enumerate(zip(self.sizes, self.spaces, strict=True))
        ]
        time = 1
        for piece in self.pieces:
            start = time
            for item in piece.items if isinstance(piece, _Loop) else (piece,):
                for b in _touched(item):
                    buffers[b].touch(time)
                time += 1
            for b in _touched(piece) & self.shared:  # its rows live through all steps
                buffers[b].touch(start)
                buffers[b].touch(time - 1)
        for b in self.rows.values():
            buffers[b].touch(0)
        for b in (*self.rows.values(), *(place.buffer for place in self.outputs)):
            buffers[b].touch(time)
        used = [buffer for buffer in buffers if buffer.last >= 0]
        end = lay_out(used, self.plan.state_bytes)
        slots = []
        for b, buffer in enumerate(buffers):
            slot = self.plan.buffers[b][1] if b < kept and buffer.space != "scratch" else buffer.slot
            slots.append((buffer.space, slot or Slot(0, 0)))
        return tuple(slots), max(end, self.plan.arena_bytes)

    def _loop(self, piece: _Loop, number: int, steps: int) -> Repeat:
        def row(place: Place) -> Place:
            if place.buffer not in self.shared:
                return place
            return replace(place, moves=(*place.moves, (number, self.sizes[place.buffer] // place.dtype.size)))

        return Repeat("block", number, steps, 0, None, None, tuple(access.moved(item, row) for item in piece.items))

    def _merged(self, item: Item, steps: int) -> Item:
        """One call for all steps."""
        if isinstance(item, Copy):
            return replace(item, size=steps * item.size)
        if isinstance(item, Loop):
            return self._merged_loop(item, steps)
        assert isinstance(item, Call)
        rule, values = _rule(item), _values(item)
        values[rule.count] = steps * int(str(values[rule.count]))
        for name, size in rule.apart.items():
            place = values[name]
            assert isinstance(place, Place)
            values[size] = self.sizes[place.buffer] // place.dtype.size
        return replace(item, args=tuple(values.values()), work=steps * item.work)

    def _merged_loop(self, loop: Loop, steps: int) -> Loop:
        def stride(place: Place) -> int:
            return self.sizes[place.buffer] // place.dtype.size if place.buffer in self.shared else 0

        shape = (steps, *loop.shape)
        strides = [(stride(place), *inner) for place, inner in loop.inputs]
        for d in reversed(range(1, len(shape))):
            if all(s[d - 1] == shape[d] * s[d] for s in strides):
                shape = (*shape[: d - 1], shape[d - 1] * shape[d], *shape[d + 1 :])
                strides = [(*s[: d - 1], *s[d:]) for s in strides]
        inputs = tuple((place, s) for (place, _), s in zip(loop.inputs, strides, strict=True))
        return replace(loop, shape=shape, inputs=inputs)


# -- items ------------------------------------------------------------------------------------------------------------


def _values(call: Call) -> dict[str, Arg]:
    """Arguments by the names of the kernel's parameters."""
    return dict(zip((name for name, _ in call.kernel.params), call.args, strict=True))


def _rule(call: Call) -> Frames:
    """How the kernel of a merged call computes several frames."""
    assert call.kernel.frames is not None
    return call.kernel.frames


def _rows(call: Call) -> int:
    """For how many rows a call of one step uses its weights."""
    values = _values(call)
    return prod(int(str(values[name])) for name in (_rule(call).count, "batch") if name in values)


def _row(rule: Frames, values: dict[str, Arg], name: str) -> int:
    """Elements that one step has of a parameter."""
    return prod(int(str(values[size])) for size in rule.rows[name])


def _splits(call: Call) -> bool:
    """Whether a cell multiplies its input itself, and could leave that to a product over all steps."""
    rule = call.kernel.frames
    if rule is None or rule.ahead is None:
        return False
    values = _values(call)
    return all(values[name] == wanted for name, wanted in {**rule.only, "s_row": 0}.items()) and values["n_in"] != 0


def _touched(piece: Item | _Loop) -> set[int]:
    items: Sequence[Item] = piece.items if isinstance(piece, _Loop) else (piece,)
    return {b for item in items for b in access.read(item) | access.written(item)}
