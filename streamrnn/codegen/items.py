"""From the items of a StepPlan to LLVM IR: kernel calls, loops, copies, branches. Sizes and places are constants in it.

No name of the model reaches this text: functions are numbered, places are offsets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from streamrnn.codegen.loops import LOOP, loop_function, real_constant
from streamrnn.ir.lowering import Arg, Place, Skip
from streamrnn.kernels import ports
from streamrnn.kernels._jit import llvm_type
from streamrnn.plan import Call, Copy, Item, Loop, Port, Repeat, StepPlan, When, each

#: calls with at least this many multiply-adds get code of their own sizes, and so do the MAX_CLONES dearest shapes
CLONE_WORK = 64
MAX_CLONES = 64


@dataclass
class Items:
    """The body of one function at a time, in `lines`, and the functions that bodies call, in `functions`.

    In a body %weights and %arena are the two blocks of memory, %t is the number of steps made.
    """

    plan: StepPlan
    lines: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    clones: dict[tuple[object, ...], str] = field(default_factory=dict)
    loops: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.chosen = self._choose_clones()

    # -- small pieces ---------------------------------------------------------------------------------------------

    def fresh(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def emit(self, line: str) -> None:
        self.lines.append("  " + line)

    def take_lines(self) -> str:
        text = "\n".join(self.lines)
        self.lines = []
        return text

    def pointer(self, base: str, offset: int | str) -> str:
        if offset == 0:
            return base
        name = self.fresh()
        self.emit(f"{name} = getelementptr i8, ptr {base}, i64 {offset}")
        return name

    def entry(self, table: str, index: int) -> str:
        """The address of a pointer in a table of them, whatever size they have on the target."""
        name = self.fresh()
        self.emit(f"{name} = getelementptr ptr, ptr {table}, i64 {index}")
        return name

    def place(self, place: Place) -> str:
        space, offset = self.plan.place(place)
        pointer = self.pointer("%weights" if space == "weights" else "%arena", offset)
        for number, stride in place.moves:
            step = self.fresh()
            self.emit(f"{step} = mul i64 %i{number}, {stride * place.dtype.size}")
            pointer = self.pointer(pointer, step)
        return pointer

    def copy(self, target: str, source: str, size: int) -> None:
        if size:
            self.emit(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {size}, i1 false)")

    def header(self, index: int) -> str:
        return self.pointer("%arena", 8 * index)

    def load(self, kind: str, pointer: str) -> str:
        name = self.fresh()
        self.emit(f"{name} = load {kind}, ptr {pointer}")
        return name

    def skip(self, skip: Skip) -> str:
        """clamp(delay - step * frames, 0, frames)"""
        done, left, floor, name = self.fresh(), self.fresh(), self.fresh(), self.fresh()
        self.emit(f"{done} = mul i64 %t, {skip.frames}")
        self.emit(f"{left} = sub i64 {skip.delay}, {done}")
        self.emit(f"{floor} = call i64 @llvm.smax.i64(i64 {left}, i64 0)")
        self.emit(f"{name} = call i64 @llvm.smin.i64(i64 {floor}, i64 {skip.frames})")
        return name

    def argument(self, arg: Arg, ctype: str) -> str:
        kind = llvm_type(ctype)
        if isinstance(arg, Place):
            return f"ptr {self.place(arg)}"
        if isinstance(arg, Skip):
            return f"i64 {self.skip(arg)}"
        return f"{kind} {real_constant(arg, kind) if kind in ('float', 'double') else int(arg)}"

    # -- calls ----------------------------------------------------------------------------------------------------

    def _shape_key(self, call: Call) -> tuple[object, ...]:
        return (call.kernel.symbol, *(arg if isinstance(arg, int | float) else None for arg in call.args))

    def _choose_clones(self) -> set[tuple[object, ...]]:
        work: dict[tuple[object, ...], int] = {}
        block = self.plan.block.plan.calls if self.plan.block else ()
        for call, times in each((*self.plan.calls, *block)):
            if isinstance(call, Call):
                key = self._shape_key(call)
                work[key] = work.get(key, 0) + call.work * times
        dear = sorted((k for k, w in work.items() if w >= CLONE_WORK), key=lambda k: -work[k])
        return set(dear[:MAX_CLONES])

    def _clone(self, call: Call) -> str:
        """A function for one kernel and one set of sizes: sizes are constants, pointers do not alias."""
        key = self._shape_key(call)
        if key not in self.clones:
            name = f"@c{len(self.clones)}"
            given, passed = [], []
            for i, (arg, (_, ctype)) in enumerate(zip(call.args, call.kernel.params, strict=True)):
                kind = llvm_type(ctype)
                if isinstance(arg, int | float):
                    passed.append(f"{kind} {real_constant(arg, kind) if kind in ('float', 'double') else int(arg)}")
                else:
                    given.append(f"{kind}{' noalias' if kind == 'ptr' else ''} %a{i}")
                    passed.append(f"{kind} %a{i}")
            self.functions.append(
                f"define internal void {name}({', '.join(given)}) noinline {{\n"
                f'  call void @"{call.kernel.symbol}"({", ".join(passed)}) alwaysinline\n  ret void\n}}'
            )
            self.clones[key] = name
        return self.clones[key]

    def _call(self, call: Call) -> None:
        pairs = list(zip(call.args, (ctype for _, ctype in call.kernel.params), strict=True))
        if self._shape_key(call) in self.chosen:
            args = [self.argument(arg, ctype) for arg, ctype in pairs if not isinstance(arg, int | float)]
            self.emit(f"call void {self._clone(call)}({', '.join(args)})")
        else:
            args = [self.argument(arg, ctype) for arg, ctype in pairs]
            self.emit(f'call void @"{call.kernel.symbol}"({", ".join(args)}) noinline')

    def _loop(self, loop: Loop) -> None:
        text = loop_function(loop)
        name = self.loops.get(text)
        if name is None:
            name = self.loops[text] = f"@l{len(self.loops)}"
            self.functions.append(text.replace(LOOP, name, 1))
        args = ", ".join(f"ptr {self.place(p)}" for p in (*(p for p, _ in loop.inputs), loop.output))
        self.emit(f"call void {name}({args})")

    def _copy(self, copy: Copy) -> None:
        self.copy(self.place(copy.target), self.place(copy.source), copy.size)

    def items(self, items: Iterable[Item]) -> None:
        for item in items:
            if isinstance(item, Call):
                self._call(item)
            elif isinstance(item, Loop):
                self._loop(item)
            elif isinstance(item, Copy):
                self._copy(item)
            elif isinstance(item, When):
                self._when(item)
            else:
                self._repeat(item)

    def _truth(self, place: Place) -> str:
        name = self.fresh()
        self.emit(f"{name} = icmp ne i8 {self.load('i8', self.place(place))}, 0")
        return name

    def _when(self, when: When) -> None:
        label = f"w{self.count}"
        then, end = f"%{label}.then", f"%{label}.end"
        yes, no = (then, end) if when.value else (end, then)
        self.emit(f"br i1 {self._truth(when.condition)}, label {yes}, label {no}")
        self.emit(f"\n{label}.then:")
        self.items(when.calls)
        self.emit(f"br label %{label}.end\n{label}.end:")

    def _repeat(self, loop: Repeat) -> None:
        label = f"r{loop.number}"
        number = f"%i{loop.number}"
        first = self.argument(loop.first, "i64").removeprefix("i64 ")
        stop = str(loop.trips)
        if loop.count is not None:
            count, stop = self.load("i64", self.place(loop.count)), self.fresh()
            self.emit(f"{stop} = call i64 @llvm.smin.i64(i64 {count}, i64 {loop.trips})")
        self.emit(f"br label %{label}.pre\n{label}.pre:\n  br label %{label}.head\n{label}.head:")
        self.emit(f"{number} = phi i64 [{first}, %{label}.pre], [{number}.next, %{label}.next]")
        more = self.fresh()
        self.emit(f"{more} = icmp slt i64 {number}, {stop}")
        if loop.condition is not None:
            both = self.fresh()
            self.emit(f"{both} = and i1 {more}, {self._truth(loop.condition)}")
            more = both
        self.emit(f"br i1 {more}, label %{label}.body, label %{label}.end\n{label}.body:")
        self.items(loop.calls)
        self.emit(f"br label %{label}.next\n{label}.next:\n  {number}.next = add i64 {number}, 1")
        self.emit(f"br label %{label}.head\n{label}.end:")

    def give(self, port: Port, target: str) -> None:
        """Copy an output to the caller, with zeros for frames that are still filler."""
        delay = port.stream.delay if port.stream else 0
        source = self.place(port.place)
        if port.stream is None or delay == 0:
            self.copy(target, source, port.type.nbytes)
            return
        axis = port.stream.axis
        frames = self.plan.frames // port.stream.stride if axis is None else port.type.shape[axis]
        skip = self.skip(Skip(delay, frames))
        outer, inner = 1, port.type.nbytes
        if axis is not None:
            outer = port.type.with_shape(port.type.shape[:axis]).size
            inner = port.type.nbytes // max(1, outer * frames)
        sizes = (
            f"i64 {outer}, i64 {1 if axis is None else frames}, i64 {inner}, i64 {skip}, i64 {frames if axis is None else 0}"
        )
        self.emit(f'call void @"{ports.give_frames.symbol}"({sizes}, ptr {source}, ptr {target})')
