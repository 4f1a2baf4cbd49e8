"""From a StepPlan to the driver: LLVM IR that calls the kernels in plan order. Sizes and places are constants in it.

No name of the model reaches this text: functions are numbered, places are offsets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from streamrnn.codegen.abi import HEADER_MENDED, HEADER_POLICY, HEADER_STEPS, INIT, POOL, RUN, STEP, Policy
from streamrnn.codegen.loops import KEPT_LOOP, LOOP, loop_function, real_constant
from streamrnn.ir.lowering import Arg, Place, Skip
from streamrnn.ir.types import DType
from streamrnn.kernels import ports
from streamrnn.kernels._jit import Kernel, llvm_type
from streamrnn.plan import Call, Copy, Item, Loop, Port, Repeat, StepPlan, When, each

#: calls with at least this many multiply-adds get code of their own sizes, and so do the MAX_CLONES dearest shapes
CLONE_WORK = 64
MAX_CLONES = 64


def _watch(dtype: DType) -> tuple[Kernel, Kernel]:
    """The kernels that count the elements of an input which are not finite, and that take the others."""
    pointer = dtype.pointer
    count, take = ports.nonfinite.typed(x=pointer), ports.take_finite.typed(x=pointer, held=pointer)
    half = {"finite": ports.finite_half}
    return (count.bind(**half), take.bind(**half)) if dtype is DType.F16 else (count, take)


def _floats(plan: StepPlan) -> list[int]:
    """Inputs that may hold what is not finite."""
    return [i for i, port in enumerate(plan.inputs) if port.type.dtype.is_float]


def driver_kernels(plan: StepPlan) -> list[Kernel]:
    """All kernels that the driver of `plan` calls."""
    watched = {kernel.address: kernel for i in _floats(plan) for kernel in _watch(plan.inputs[i].type.dtype)}
    return [*plan.kernels(), *watched.values(), ports.give_frames]


def driver_text(plan: StepPlan) -> str:
    """The driver module of `plan` as LLVM IR."""
    return _Driver(plan).text()


@dataclass
class _Driver:
    plan: StepPlan
    lines: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    clones: dict[tuple[object, ...], str] = field(default_factory=dict)
    loops: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def text(self) -> str:
        declared = []
        for kernel in driver_kernels(self.plan):
            args = ", ".join(llvm_type(ctype) for _, ctype in kernel.params)
            result = llvm_type(kernel.returns) if kernel.returns else "void"
            declared.append(f'declare {result} @"{kernel.symbol}"({args})')
        declared.append("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        declared.append("declare i64 @llvm.smax.i64(i64, i64)\ndeclare i64 @llvm.smin.i64(i64, i64)")
        self._chosen = self._choose_clones()
        body = [self._init(), self._step(), self._run(), _STEP_ONCE, self._pool()]
        return "\n".join([*declared, *self.functions, *body, KEPT_LOOP])

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
        for call, times in each(self.plan.calls):
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
        if self._shape_key(call) in self._chosen:
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

    def _items(self, items: Iterable[Item]) -> None:
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
        self._items(when.calls)
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
        self._items(loop.calls)
        self.emit(f"br label %{label}.next\n{label}.next:\n  {number}.next = add i64 {number}, 1")
        self.emit(f"br label %{label}.head\n{label}.end:")

    # -- functions ------------------------------------------------------------------------------------------------

    def _init(self) -> str:
        for index in (HEADER_STEPS, HEADER_MENDED):
            self.emit(f"store i64 0, ptr {self.header(index)}")
        for port in self.plan.inputs:
            self.emit(f"call void @llvm.memset.p0.i64(ptr {self.place(port.place)}, i8 0, i64 {port.type.nbytes}, i1 false)")
        for state in self.plan.states:
            self.copy(self.place(state.place), self.place(state.init), state.type.nbytes)
        return (
            "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)\n"
            f"define void @{INIT}(ptr %weights, ptr %arena) {{\n{self.take_lines()}\n  ret void\n}}"
        )

    def _step(self) -> str:
        """internal void @step(weights, arena, t, out pointers...): from held inputs to the caller's outputs and new states."""
        self._items(self.plan.calls)
        for i, port in enumerate(self.plan.outputs):
            self._give(port, f"%out{i}")
        self._items(self.plan.commit)
        outs = "".join(f", ptr %out{i}" for i in range(len(self.plan.outputs)))
        return f"define internal void @step(ptr %weights, ptr %arena, i64 %t{outs}) {{\n{self.take_lines()}\n  ret void\n}}"

    def _give(self, port: Port, target: str) -> None:
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

    def _run(self) -> str:
        plan = self.plan
        for side, ports_ in (("in", plan.inputs), ("out", plan.outputs)):
            for i, port in enumerate(ports_):
                base = self.load("ptr", self.pointer(f"%{side}puts", 8 * i))
                at = self.fresh()
                self.emit(f"{at} = mul i64 %i, {port.type.nbytes}")
                self.emit(f"%{side}{i} = getelementptr i8, ptr {base}, i64 {at}")
        self._take_inputs()
        taken = self.take_lines()
        outs = "".join(f", ptr %out{i}" for i in range(len(plan.outputs)))
        self.emit(f"%t = load i64, ptr {self.header(HEADER_STEPS)}")
        self.emit(f"call void @step(ptr %weights, ptr %arena, i64 %t{outs})")
        self.emit(f"%t1 = add i64 %t, 1\n  store i64 %t1, ptr {self.header(HEADER_STEPS)}")
        return (
            f"define i64 @{RUN}(ptr %weights, ptr %arena, ptr %inputs, ptr %outputs, i64 %steps) {{\n"
            "entry:\n  %some = icmp sgt i64 %steps, 0\n  br i1 %some, label %loop, label %end\n"
            "loop:\n  %i = phi i64 [0, %entry], [%i1, %made]\n"
            f"{taken}\n"
            f"make:\n{self.take_lines()}\n  br label %made\n"
            "made:\n  %i1 = add i64 %i, 1\n  %more = icmp slt i64 %i1, %steps\n  br i1 %more, label %loop, label %end\n"
            "refused:\n  ret i64 %i\n"
            "end:\n  ret i64 %steps\n}"
        )

    def _take_inputs(self) -> None:
        """Copy the caller's frame into the held inputs, as the policy says. Every input is looked at before any is taken."""
        plan = self.plan
        floats = _floats(plan)
        policy = self.load("i64", self.header(HEADER_POLICY))
        self.emit(f"switch i64 {policy}, label %look [i64 {Policy.PASS.value}, label %plain]")
        self.emit("\nlook:")
        bad = "0"
        for i in floats:
            found, total = self.fresh(), self.fresh()
            count, _ = _watch(plan.inputs[i].type.dtype)
            self.emit(f'{found} = call i64 @"{count.symbol}"(i64 {plan.inputs[i].type.size}, ptr %in{i})')
            self.emit(f"{total} = add i64 {bad}, {found}")
            bad = total
        self.emit(f"%fine = icmp eq i64 {bad}, 0\n  br i1 %fine, label %plain, label %mend")
        self.emit("\nmend:")
        mended, more = self.load("i64", self.header(HEADER_MENDED)), self.fresh()
        self.emit(f"{more} = add i64 {mended}, 1")
        self.emit(
            f"switch i64 {policy}, label %refuse [i64 {Policy.HOLD.value}, label %hold i64 {Policy.RESET.value}, label %clear]"
        )
        self.emit("\nrefuse:")
        self.emit(f"store i64 {more}, ptr {self.header(HEADER_MENDED)}\n  br label %refused")
        self.emit("\nclear:")
        self.emit(f"call void @{INIT}(ptr %weights, ptr %arena)\n  br label %hold")
        self.emit("\nhold:")
        self.emit(f"store i64 {more}, ptr {self.header(HEADER_MENDED)}")
        for i, port in enumerate(plan.inputs):
            held = self.place(port.place)
            if i in floats:
                # after `clear` the held values are zero, so holding them is zeroing
                _, take = _watch(port.type.dtype)
                self.emit(f'call void @"{take.symbol}"(i64 {port.type.size}, i64 1, ptr %in{i}, ptr {held})')
            else:
                self.copy(held, f"%in{i}", port.type.nbytes)
        self.emit("br label %make")
        self.emit("\nplain:")
        for i, port in enumerate(plan.inputs):
            self.copy(self.place(port.place), f"%in{i}", port.type.nbytes)
        self.emit("br label %make")

    def _pool(self) -> str:
        plan = self.plan
        n_in, n_out = len(plan.inputs), len(plan.outputs)
        for side, ports_ in (("in", plan.inputs), ("out", plan.outputs)):
            for i, port in enumerate(ports_):
                base = self.load("ptr", self.pointer(f"%{side}puts", 8 * i))
                row = self.fresh()
                self.emit(f"{row} = mul i64 %i, {port.type.nbytes}")
                self.emit(f"store ptr {self.pointer(base, row)}, ptr {self.pointer(f'%{side}s', 8 * i)}")
        self.emit(f"%at = mul i64 %i, {plan.arena_bytes}")
        self.emit("%arena = getelementptr i8, ptr %arenas, i64 %at")
        self.emit(f"%made = call i64 @{RUN}(ptr %weights, ptr %arena, ptr %ins, ptr %outs, i64 1)")
        self.emit("%miss = sub i64 1, %made")
        return (
            f"define i64 @{POOL}(ptr %weights, ptr %arenas, ptr %active, ptr %inputs, ptr %outputs, i64 %slots) {{\n"
            f"entry:\n  %ins = alloca [{max(1, n_in)} x ptr]\n  %outs = alloca [{max(1, n_out)} x ptr]\n"
            "  %some = icmp sgt i64 %slots, 0\n  br i1 %some, label %loop, label %end\n"
            "loop:\n  %i = phi i64 [0, %entry], [%i1, %next]\n  %bad = phi i64 [0, %entry], [%bad1, %next]\n"
            "  %flag = getelementptr i8, ptr %active, i64 %i\n  %on = load i8, ptr %flag\n"
            "  %live = icmp ne i8 %on, 0\n  br i1 %live, label %go, label %next\n"
            f"go:\n{self.take_lines()}\n  br label %next\n"
            "next:\n  %m = phi i64 [0, %loop], [%miss, %go]\n  %bad1 = add i64 %bad, %m\n"
            "  %i1 = add i64 %i, 1\n  %more = icmp slt i64 %i1, %slots\n  br i1 %more, label %loop, label %end\n"
            "end:\n  %result = phi i64 [0, %entry], [%bad1, %next]\n  ret i64 %result\n}"
        )


#: `step` of the ABI: one step of `run`, its arguments from a table
_STEP_ONCE = (
    f"define i64 @{STEP}(ptr %where) {{\n"
    + "".join(f"  %p{i} = getelementptr ptr, ptr %where, i64 {i}\n  %a{i} = load ptr, ptr %p{i}\n" for i in range(4))
    + f"  %made = call i64 @{RUN}(ptr %a0, ptr %a1, ptr %a2, ptr %a3, i64 1)\n  ret i64 %made\n}}"
)
