"""The C functions of an exported model around the step of `codegen.abi`, as LLVM IR that is linked behind the driver.

    void     NAME_init(void *state[, const void *weights]);
    int32_t  NAME_step(void *state, const T *input0, ..., T *output0, ...);
    int32_t  NAME_process(void *state, const void *const *inputs, void *const *outputs, int32_t steps);
    void     NAME_reset(void *state);
    uint32_t NAME_snapshot_size(void);

A state is the arena of one stream. Where the weights lie in a file, ALIGN bytes behind the arena hold the pointer to them.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamrnn.codegen.abi import INIT, POOL, RUN, STEP
from streamrnn.codegen.exported import DESCRIPTION, MAGIC, TABLE
from streamrnn.layout import Layout
from streamrnn.memory import ALIGN


@dataclass(frozen=True)
class Interface:
    """What the functions of one model need to know.

    name:        prefix of the C names, a C identifier
    description: JSON text
    in_object:   whether the weights are data of the object
    pointer_bytes, has_system: of the target
    """

    name: str
    layout: Layout
    description: str
    in_object: bool
    pointer_bytes: int
    has_system: bool

    @property
    def arena_bytes(self) -> int:
        """Memory of one stream."""
        return self.layout.arena_bytes + (0 if self.in_object else ALIGN)

    @property
    def has_table(self) -> bool:
        """Whether `streamrnn.load` can load the library."""
        return self.has_system and self.pointer_bytes == 8

    @property
    def symbols(self) -> list[str]:
        """What the object defines for others."""
        found = [f"{self.name}_{what}" for what in ("init", "step", "process", "reset", "snapshot_size")]
        found += [self.name + DESCRIPTION] * self.has_system + [self.name + TABLE] * self.has_table
        return found

    def text(self) -> str:
        """LLVM IR."""
        parts = [self._init(), self._reset(), self._step(), self._process()]
        parts.append(f"define i32 @{self.name}_snapshot_size() {{\n  ret i32 {self.layout.state_bytes}\n}}")
        if self.in_object:
            data = self.layout.weights.tobytes()
            parts.append(f"@weights = internal constant [{len(data)} x i8] {_bytes(data)}, align {ALIGN}")
        if self.has_system:
            data = self.description.encode() + b"\0"
            parts.append(f"@{self.name}{DESCRIPTION} = constant [{len(data)} x i8] {_bytes(data)}")
        if self.has_table:
            weights = "@weights" if self.in_object else "null"
            rows = [f"@{INIT}", f"@{RUN}", f"@{STEP}", f"@{POOL}", weights, f"@{self.name}{DESCRIPTION}"]
            kinds, values = ", ".join(["ptr"] * len(rows)), ", ".join(f"ptr {row}" for row in rows)
            parts.append(f"@{self.name}{TABLE} = constant {{ i64, {kinds} }} {{ i64 {MAGIC}, {values} }}")
        return "\n".join(parts)

    def _weights(self) -> tuple[str, str]:
        """(lines that fetch the weights of a state, the pointer to them)."""
        if self.in_object:
            return "", "@weights"
        lines = f"  %at = getelementptr i8, ptr %state, i64 {self.layout.arena_bytes}\n  %weights = load ptr, ptr %at\n"
        return lines, "%weights"

    def _init(self) -> str:
        clear = f"  call void @llvm.memset.p0.i64(ptr align {ALIGN} %state, i8 0, i64 {self.arena_bytes}, i1 false)\n"
        if self.in_object:
            return (
                f"define void @{self.name}_init(ptr %state) {{\n{clear}"
                f"  call void @{INIT}(ptr @weights, ptr %state)\n  ret void\n}}"
            )
        return (
            f"define void @{self.name}_init(ptr %state, ptr %weights) {{\n{clear}"
            f"  %at = getelementptr i8, ptr %state, i64 {self.layout.arena_bytes}\n  store ptr %weights, ptr %at\n"
            f"  call void @{INIT}(ptr %weights, ptr %state)\n  ret void\n}}"
        )

    def _reset(self) -> str:
        fetch, weights = self._weights()
        return (
            f"define void @{self.name}_reset(ptr %state) {{\n{fetch}"
            f"  call void @{INIT}(ptr {weights}, ptr %state)\n  ret void\n}}"
        )

    def _step(self) -> str:
        sides = (("in", len(self.layout.inputs)), ("out", len(self.layout.outputs)))
        params = ", ".join(["ptr %state", *(f"ptr %{side}{i}" for side, n in sides for i in range(n))])
        lines = []
        for side, n in sides:
            lines.append(f"  %{side}s = alloca [{max(1, n)} x ptr]\n")
            for i in range(n):
                lines.append(f"  %{side}at{i} = getelementptr ptr, ptr %{side}s, i64 {i}\n")
                lines.append(f"  store ptr %{side}{i}, ptr %{side}at{i}\n")
        fetch, weights = self._weights()
        return (
            f"define signext i32 @{self.name}_step({params}) {{\n{''.join(lines)}{fetch}"
            f"  %made = call i64 @{RUN}(ptr {weights}, ptr %state, ptr %ins, ptr %outs, i64 1)\n"
            "  %count = trunc i64 %made to i32\n  ret i32 %count\n}"
        )

    def _process(self) -> str:
        fetch, weights = self._weights()
        return (
            f"define signext i32 @{self.name}_process(ptr %state, ptr %inputs, ptr %outputs, i32 signext %steps) {{\n{fetch}"
            "  %many = sext i32 %steps to i64\n"
            f"  %made = call i64 @{RUN}(ptr {weights}, ptr %state, ptr %inputs, ptr %outputs, i64 %many)\n"
            "  %count = trunc i64 %made to i32\n  ret i32 %count\n}"
        )


def _bytes(data: bytes) -> str:
    """A constant of LLVM IR; escaped throughout, so data cannot become code."""
    return f'c"\\{data.hex(chr(92))}"'
