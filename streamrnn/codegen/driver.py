"""From a StepPlan to the driver: LLVM IR of the functions in `codegen.abi`.

No name of the model reaches this text: functions are numbered, places are offsets.
"""

from __future__ import annotations

from streamrnn.codegen.abi import HEADER_MENDED, HEADER_POLICY, HEADER_STEPS, INIT, POOL, RUN, STEP, Policy
from streamrnn.codegen.items import Items
from streamrnn.codegen.loops import KEPT_LOOP
from streamrnn.ir.types import DType
from streamrnn.kernels import ports
from streamrnn.kernels._jit import Kernel, llvm_type
from streamrnn.plan import StepPlan


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
    called = [*plan.kernels(), *(plan.block.plan.kernels() if plan.block else ()), *watched.values(), ports.give_frames]
    return list({kernel.address: kernel for kernel in called}.values())


def driver_text(plan: StepPlan) -> str:
    """The driver module of `plan` as LLVM IR."""
    return _Driver(plan).text()


class _Driver(Items):
    """The functions of a driver."""

    def text(self) -> str:
        declared = []
        for kernel in driver_kernels(self.plan):
            args = ", ".join(llvm_type(ctype) for _, ctype in kernel.params)
            result = llvm_type(kernel.returns) if kernel.returns else "void"
            declared.append(f'declare {result} @"{kernel.symbol}"({args})')
        declared.append("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        declared.append("declare i64 @llvm.smax.i64(i64, i64)\ndeclare i64 @llvm.smin.i64(i64, i64)")
        body = [self._init(), *self._steps(), *self._run(), _STEP_ONCE, self._pool()]
        return "\n".join([*declared, *self.functions, *body, KEPT_LOOP])

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

    def _step(self, name: str, plan: StepPlan) -> str:
        """internal void @name(weights, arena, t, out pointers...): from held inputs to the caller's outputs and new states."""
        own, self.plan = self.plan, plan
        self.items(plan.calls)
        for i, port in enumerate(plan.outputs):
            self.give(port, f"%out{i}")
        self.items(plan.commit)
        self.plan = own
        outs = "".join(f", ptr %out{i}" for i in range(len(plan.outputs)))
        return f"define internal void {name}(ptr %weights, ptr %arena, i64 %t{outs}) {{\n{self.take_lines()}\n  ret void\n}}"

    def _steps(self) -> list[str]:
        """The functions that make one step, and a block of steps."""
        block = self.plan.block
        return [self._step("@step", self.plan), *([self._step("@block", block.plan)] if block else [])]

    def _run(self) -> list[str]:
        """`run` of the ABI. Where there is state that may decay, denormals count as zero in it."""
        plan = self.plan
        head = "define internal i64 @steps" if plan.states else f"define i64 @{RUN}"
        for side, ports_ in (("in", plan.inputs), ("out", plan.outputs)):
            for i, port in enumerate(ports_):
                base = self.load("ptr", self.entry(f"%{side}puts", i))
                at = self.fresh()
                self.emit(f"{at} = mul i64 %i, {port.type.nbytes}")
                self.emit(f"%{side}{i} = getelementptr i8, ptr {base}, i64 {at}")
        self.emit(f"%t0 = load i64, ptr {self.header(HEADER_STEPS)}")
        policy = self.load("i64", self.header(HEADER_POLICY))
        blocked = self._try_block(policy)
        self._take_inputs(policy)
        self.emit("\nmake:")
        self.emit(f"%t = load i64, ptr {self.header(HEADER_STEPS)}")
        self._call_step("@step", "%t", 1)
        self.emit("br label %made")
        steps = (
            f"{head}(ptr %weights, ptr %arena, ptr %inputs, ptr %outputs, i64 %steps) noinline {{\n"
            "entry:\n  %some = icmp sgt i64 %steps, 0\n  br i1 %some, label %loop, label %end\n"
            "loop:\n  %i = phi i64 [0, %entry], [%i1, %made]\n"
            f"{self.take_lines()}\n"
            f"made:\n  %n = phi i64 [1, %make]{blocked}\n"
            "  %i1 = add i64 %i, %n\n  %more = icmp slt i64 %i1, %steps\n  br i1 %more, label %loop, label %end\n"
            "refused:\n  ret i64 %i\n"
            "end:\n  ret i64 %steps\n}"
        )
        return [steps, _FLUSHED] if plan.states else [steps]

    def _call_step(self, name: str, t: str, steps: int) -> None:
        outs = "".join(f", ptr %out{i}" for i in range(len(self.plan.outputs)))
        self.emit(f"call void {name}(ptr %weights, ptr %arena, i64 {t}{outs})")
        after = self.fresh()
        self.emit(f"{after} = add i64 {t}, {steps}\n  store i64 {after}, ptr {self.header(HEADER_STEPS)}")

    def _try_block(self, policy: str) -> str:
        """A block where so many steps are left, no delay has filler left and, unless the policy is to pass it, all is finite.

        Returns what the number of steps made is then, for a phi."""
        block = self.plan.block
        if block is None:
            return ""
        self.emit("%left = sub i64 %steps, %i")
        self.emit(f"%long = icmp sge i64 %left, {block.steps}\n  %warm = icmp sge i64 %t0, {block.after}")
        self.emit("%able = and i1 %long, %warm\n  br i1 %able, label %ask, label %single")
        self.emit("\nask:")
        self.emit(f"%pass = icmp eq i64 {policy}, {Policy.PASS.value}\n  br i1 %pass, label %take, label %count")
        self.emit("\ncount:")
        self.emit(f"%clean = icmp eq i64 {self._nonfinite(block.plan)}, 0\n  br i1 %clean, label %take, label %single")
        self.emit("\ntake:")
        for i, port in enumerate(self.plan.inputs):
            rows = block.plan.inputs[i]
            self.copy(self.pointer("%arena", block.plan.place(rows.place)[1]), f"%in{i}", block.steps * port.type.nbytes)
        self._call_step("@block", "%t0", block.steps)
        self.emit("br label %made\n\nsingle:")
        return f", [{block.steps}, %take]"

    def _nonfinite(self, plan: StepPlan) -> str:
        """How many elements of the inputs of `plan` are not finite."""
        bad = "0"
        for i in _floats(plan):
            found, total = self.fresh(), self.fresh()
            count, _ = _watch(plan.inputs[i].type.dtype)
            self.emit(f'{found} = call i64 @"{count.symbol}"(i64 {plan.inputs[i].type.size}, ptr %in{i})')
            self.emit(f"{total} = add i64 {bad}, {found}")
            bad = total
        return bad

    def _take_inputs(self, policy: str) -> None:
        """Copy the caller's frame into the held inputs, as the policy says. Every input is looked at before any is taken."""
        plan = self.plan
        floats = _floats(plan)
        self.emit(f"switch i64 {policy}, label %look [i64 {Policy.PASS.value}, label %plain]")
        self.emit("\nlook:")
        self.emit(f"%fine = icmp eq i64 {self._nonfinite(plan)}, 0\n  br i1 %fine, label %plain, label %mend")
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
                base = self.load("ptr", self.entry(f"%{side}puts", i))
                row = self.fresh()
                self.emit(f"{row} = mul i64 %i, {port.type.nbytes}")
                self.emit(f"store ptr {self.pointer(base, row)}, ptr {self.entry(f'%{side}s', i)}")
        self.emit(f"%at = mul i64 %i, {plan.step_bytes}")
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


#: `run` around `steps`, which is not inlined: LLVM may move arithmetic across a change of the floating-point mode, calls never
_FLUSHED = (
    f"define i64 @{RUN}(ptr %weights, ptr %arena, ptr %inputs, ptr %outputs, i64 %steps) {{\n"
    "  %mode = call i64 @flush()\n"
    "  %made = call i64 @steps(ptr %weights, ptr %arena, ptr %inputs, ptr %outputs, i64 %steps)\n"
    "  call void @unflush(i64 %mode)\n  ret i64 %made\n}"
)

#: `step` of the ABI: one step of `run`, its arguments from a table
_STEP_ONCE = (
    f"define i64 @{STEP}(ptr %where) {{\n"
    + "".join(f"  %p{i} = getelementptr ptr, ptr %where, i64 {i}\n  %a{i} = load ptr, ptr %p{i}\n" for i in range(4))
    + f"  %made = call i64 @{RUN}(ptr %a0, ptr %a1, ptr %a2, ptr %a3, i64 1)\n  ret i64 %made\n}}"
)
