"""How long a multiply-add takes in the loops that the compiler made, by a static model of the core's pipeline: llvm-mca.

llvm-mca and llvm-objdump come with LLVM (Debian's package `llvm`); without them, or for a core that they do not know,
`estimate` takes the published rates. llvm-mca counts cycles of a loop whose data is in the nearest cache.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamrnn.codegen.driver import driver_text
from streamrnn.export.targets import Target
from streamrnn.plan import StepPlan

#: multiply-adds of float32 and how many numbers each takes, by the text of the instruction; a product counts as one where a
#: core has no fused form that pays
_FUSED = (
    (re.compile(r"^fml[as]\s+v\d+\.4s"), 4),
    (re.compile(r"^fml[as]\s+v\d+\.2s"), 2),
    (re.compile(r"^fn?m(add|sub)\s+s\d"), 1),
    (re.compile(r"^v(fn?m|n?ml)[as]\.f32\s+q"), 4),
    (re.compile(r"^v(fn?m|n?ml)[as]\.f32\s+d"), 2),
    (re.compile(r"^v(fn?m|n?ml)[as]\.f32\s+s"), 1),
    (re.compile(r"^fn?m(add|sub)\.s\s"), 1),
)
_PRODUCT = ((re.compile(r"^vmul\.f32\s+q"), 4), (re.compile(r"^vmul\.f32\s+d"), 2), (re.compile(r"^vmul\.f32\s+s"), 1))
#: a row of the symbol table, and one of the listing
_FUNCTION = re.compile(r"^([0-9a-f]+)\s+\w\s+F\s+\S+\s+[0-9a-f]+\s+(?:\.hidden\s+)?(\S+)$")
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*)$")
_TARGET = re.compile(r"0x([0-9a-f]+) <")
_COMMENT = re.compile(r"\s*(@|//|# ).*$")
#: a clone of the driver, and the kernel in it
_CLONE = re.compile(r'@(c\d+)\([^{}]*\{[^{}]*?call [^@\n]*@"(k\.[^"]+)"')
#: iterations that llvm-mca goes through, and seconds that it may take
ITERATIONS, PATIENCE = 100, 60


@dataclass(frozen=True)
class Loop:
    """An innermost loop: its function, its instructions without the branch back, and the multiply-adds of one round."""

    function: str
    body: tuple[str, ...]
    products: int

    @property
    def density(self) -> float:
        """Multiply-adds for each instruction: the main loop of a kernel is that with most of them."""
        return self.products / len(self.body)


def loop_cycles(plan: StepPlan, code: bytes, target: Target, core: str) -> Mapping[str, float]:
    """Cycles of 16 multiply-adds in the main loop of each kernel of float32 by its symbol; empty where LLVM's tools are not
    there or do not know the core. `code` is the object file of `plan` for `target`, `core` LLVM's name of its CPU."""
    objdump, mca = shutil.which("llvm-objdump"), shutil.which("llvm-mca")
    if not objdump or not mca:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.o")
        file.write_bytes(code)
        options = ("no-show-raw-insn", "syms", "disassemble", f"triple={target.triple}", f"mcpu={core}")
        listing = _output([objdump, *(f"--{option}" for option in options), str(file)], "")
    kernels = dict(_CLONE.findall(driver_text(plan)))
    main: dict[str, Loop] = {}
    for loop in loops(listing):
        symbol = kernels.get(loop.function, loop.function)
        if symbol not in main or loop.density > main[symbol].density:
            main[symbol] = loop
    regions = "".join(
        f"# LLVM-MCA-BEGIN {symbol}\n" + "\n".join(loop.body) + "\n# LLVM-MCA-END\n" for symbol, loop in main.items()
    )
    command = [mca, f"-mtriple={target.triple}", f"-mcpu={core}", f"-iterations={ITERATIONS}", "-resource-pressure=0"]
    found = totals(_output([*command, "-instruction-info=0"], regions)) if main else {}
    return {symbol: 16 * found[symbol] / ITERATIONS / loop.products for symbol, loop in main.items() if symbol in found}


def loops(listing: str) -> Iterator[Loop]:
    """The innermost loops with multiply-adds of what llvm-objdump prints: symbols, then instructions."""
    lines = listing.splitlines()
    functions = sorted((int(row[1], 16), row[2]) for row in map(_FUNCTION.match, lines) if row)
    starts = [start for start, _ in functions]
    rows: dict[str, list[tuple[int, str]]] = {}
    for row in filter(None, map(_INSTRUCTION.match, lines)):
        at = bisect_right(starts, int(row[1], 16)) - 1
        if at >= 0:
            rows.setdefault(functions[at][1], []).append((int(row[1], 16), _COMMENT.sub("", row[2])))
    for function, instructions in rows.items():
        yield from _loops(function, instructions)


def _loops(function: str, rows: Sequence[tuple[int, str]]) -> Iterator[Loop]:
    """Those of one function: from the target of a branch back to the branch, with no other such branch in between."""
    where = {address: i for i, (address, _) in enumerate(rows)}
    targets = ((i, address, _TARGET.search(text)) for i, (address, text) in enumerate(rows))
    jumps = ((i, address, int(found[1], 16)) for i, address, found in targets if found)
    back = [(where[to], i) for i, address, to in jumps if to <= address and to in where]
    for first, end in back:
        if any(first <= other_first and other_end < end for other_first, other_end in back):
            continue
        body = tuple(text for _, text in rows[first:end] if not (_TARGET.search(text) or text.startswith("<unknown>")))
        if products := _products(body):
            yield Loop(function, body, products)


def _products(body: Sequence[str]) -> int:
    def count(patterns: Sequence[tuple[re.Pattern[str], int]]) -> int:
        return sum(lanes for text in body for pattern, lanes in patterns if pattern.match(text))

    return count(_FUSED) or count(_PRODUCT)


def totals(report: str) -> dict[str, int]:
    """Cycles of all iterations by region, of what llvm-mca prints."""
    found = re.findall(r"Code Region - (\S+)\n.*?Total Cycles:\s+(\d+)", report, re.S)
    return {name: int(cycles) for name, cycles in found}


def _output(command: list[str], given: str) -> str:
    """What a tool prints; nothing where it fails or does not end."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
