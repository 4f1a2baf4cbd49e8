"""The driver of a pool: one step of groups of 16 slots, whose plan is that of `lanes`.

The memory of a group is its interleaved arena, which begins with the headers of the 16 slots one behind the other, then room
for the states of slots that refuse a frame.
"""

from __future__ import annotations

from streamrnn.codegen.abi import LANES as LANES_STEP
from streamrnn.codegen.abi import Policy
from streamrnn.codegen.items import Items
from streamrnn.codegen.loops import KEPT_LOOP
from streamrnn.codegen.transpose import transpose_text
from streamrnn.kernels import slots
from streamrnn.kernels._jit import Kernel, llvm_type
from streamrnn.kernels.simd import LANES
from streamrnn.plan import HEADER, Port, StepPlan

_KERNELS = (
    slots.look, slots.judge, slots.clear, slots.keep, slots.none_bad, slots.take, slots.all_live, slots.give, slots.silence,
    slots.count,
)  # fmt: skip

_ARGUMENTS = "ptr %weights, ptr %memory, ptr %slots, ptr %inputs, ptr %outputs, i64 %groups"
#: `lanes` around `groups`, as `run` around `steps` in `driver`
_FLUSHED = (
    f"define i64 @{LANES_STEP}({_ARGUMENTS}) {{\n"
    f"  %mode = call i64 @flush()\n  %refused = call i64 @groups({_ARGUMENTS})\n"
    "  call void @unflush(i64 %mode)\n  ret i64 %refused\n}"
)


def pool_kernels(plan: StepPlan) -> list[Kernel]:
    """All kernels that the pool's driver calls."""
    return [*plan.kernels(), *_KERNELS]


def pool_text(plan: StepPlan) -> str:
    """The driver module as LLVM IR, for a plan that `lanes.across_streams` made."""
    return _Pool(plan).text()


class _Pool(Items):
    """The text of a pool's driver, as it comes to be."""

    def text(self) -> str:
        declared = []
        for kernel in pool_kernels(self.plan):
            args = ", ".join(llvm_type(ctype) for _, ctype in kernel.params)
            declared.append(f'declare {llvm_type(kernel.returns) if kernel.returns else "void"} @"{kernel.symbol}"({args})')
        declared.append("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        declared.append("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        body = self._lanes()
        flushed = [_FLUSHED] if self.plan.states else []
        return "\n".join([*declared, transpose_text(), *self.functions, body, *flushed, KEPT_LOOP])

    def run(self, kernel: Kernel, *args: int | str) -> str:
        """A call of one of `slots`; numbers are sizes, texts are pointers. The name of its result."""
        typed = (f"{llvm_type(ctype)} {arg}" for arg, (_, ctype) in zip(args, kernel.params, strict=True))
        call = f'call {llvm_type(kernel.returns) if kernel.returns else "void"} @"{kernel.symbol}"({", ".join(typed)})'
        name = self.fresh() if kernel.returns else ""
        self.emit(f"{name} = {call}" if name else call)
        return name

    def _lanes(self) -> str:
        head = "define internal i64 @groups" if self.plan.states else f"define i64 @{LANES_STEP}"
        plan, words = self.plan, (self.plan.state_bytes // LANES - HEADER) // 4
        self.run(slots.keep, words, "%active", "%live", "%spare", "%kept")
        back = self.take_lines()
        for side, ports in (("in", plan.inputs), ("out", plan.outputs)):
            for i, port in enumerate(ports):
                base, at = self.load("ptr", self.pointer(f"%{side}puts", 8 * i)), self.fresh()
                self.emit(f"{at} = mul i64 %i, {port.type.nbytes * LANES}")
                self.emit(f"%{side}{i} = getelementptr i8, ptr {base}, i64 {at}")
        self._take(words)
        self.items(plan.calls)
        full = self.run(slots.all_live, "%live")
        for i, port in enumerate(plan.outputs):
            self._give_rows(port, full, f"%out{i}")
        self.items(plan.commit)
        self.run(slots.count, "%live", "%arena")
        self.emit("%stay = icmp eq i64 %refused, 0\n  br i1 %stay, label %next, label %back")
        return (
            f"{head}({_ARGUMENTS}) noinline {{\n"
            f"entry:\n  %bad = alloca [{LANES} x i64]\n  %live = alloca [{LANES} x i8]\n"
            "  %some = icmp sgt i64 %groups, 0\n  br i1 %some, label %loop, label %end\n"
            "loop:\n  %i = phi i64 [0, %entry], [%i1, %next]\n  %total = phi i64 [0, %entry], [%total1, %next]\n"
            f"  %at = mul i64 %i, {plan.arena_bytes + plan.state_bytes}\n  %arena = getelementptr i8, ptr %memory, i64 %at\n"
            f"  %from = mul i64 %i, {LANES}\n  %active = getelementptr i8, ptr %slots, i64 %from\n"
            f"  %spare = getelementptr i8, ptr %arena, i64 {plan.arena_bytes}\n"
            f"  %kept = getelementptr i8, ptr %arena, i64 {HEADER * LANES}\n"
            "  %joined = load i128, ptr %active, align 1\n  %idle = icmp eq i128 %joined, 0\n"
            "  br i1 %idle, label %next, label %go\n"
            f"go:\n{self.take_lines()}\n"
            f"back:\n{back}\n  br label %next\n"
            "next:\n  %missed = phi i64 [0, %loop], [%refused, %go], [%refused, %back]\n  %total1 = add i64 %total, %missed\n"
            "  %i1 = add i64 %i, 1\n  %more = icmp slt i64 %i1, %groups\n  br i1 %more, label %loop, label %end\n"
            "end:\n  %result = phi i64 [0, %entry], [%total1, %next]\n  ret i64 %result\n}"
        )

    def _take(self, words: int) -> None:
        """Take the frames of a group, as the policy of each slot says. Every input is looked at before any is taken."""
        plan, clears = self.plan, Policy.RESET.value
        self.emit(f"call void @llvm.memset.p0.i64(ptr %bad, i8 0, i64 {8 * LANES}, i1 false)")
        for i, port in enumerate(plan.inputs):
            self.run(slots.look, port.type.size, Policy.PASS.value, "%active", "%arena", "%bad", f"%in{i}")
        refused = self.run(slots.judge, Policy.RAISE.value, clears, "%active", "%live", "%arena", "%bad")
        self.emit(f"%refused = add i64 {refused}, 0")
        self.run(slots.keep, words, "%active", "%live", "%kept", "%spare")
        for state in plan.states:
            self.run(
                slots.clear, state.type.nbytes // 4, clears, "%arena", "%bad", self.place(state.init), self.place(state.place)
            )
        clean = self.run(slots.none_bad, "%bad")
        for i, port in enumerate(plan.inputs):
            n, held = port.type.size, self.place(port.place)
            begin = self._transposed(clean, n, f"%in{i}", (LANES, n), held, (LANES * LANES, LANES))
            self.run(slots.take, n, begin, clears, "%active", "%arena", "%bad", f"%in{i}", held)

    def _transposed(
        self, able: str, n: int, source: str, from_steps: tuple[int, int], target: str, to_steps: tuple[int, int]
    ) -> str:
        """Move the whole blocks of 16 of n elements at once where `able` is 1; the name of how many elements were moved."""
        blocks, begin = self.fresh(), self.fresh()
        self.emit(f"{blocks} = mul i64 {able}, {n // LANES}")
        x, y = (f"ptr {at}, i64 {block}, i64 {row}" for at, (block, row) in ((source, from_steps), (target, to_steps)))
        self.emit(f"call void @transpose(i64 {blocks}, {x}, {y})")
        self.emit(f"{begin} = mul i64 {blocks}, {LANES}")
        return begin

    def _give_rows(self, port: Port, full: str, target: str) -> None:
        """Copy an output to the rows of the live slots, with zeros for frames that are still filler."""
        n, source = port.type.size, self.place(port.place)
        begin = self._transposed(full, n, source, (LANES * LANES, LANES), target, (LANES, n))
        self.run(slots.give, n, begin, "%live", source, target)
        shape, stream = port.type.shape, port.stream
        if stream is None or stream.delay == 0:
            return
        outer, frames, made = 1, 1, self.plan.frames // stream.stride
        if stream.axis is not None:
            outer, frames = port.type.with_shape(shape[: stream.axis]).size, shape[stream.axis]
            made = frames
        sizes = outer, frames, n // max(1, outer * frames), stream.delay, made, int(stream.axis is None)
        self.run(slots.silence, *sizes, "%live", "%arena", target)
