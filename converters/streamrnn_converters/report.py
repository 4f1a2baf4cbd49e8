"""What a validation found, as data, as a table for the console and as JSON. `page.py` makes the HTML page of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamrnn.ir.graph import Array
from streamrnn_converters.rows import Kind, Row, number


@dataclass(frozen=True)
class Draw:
    """One output or state that depends on random numbers, under one signal: is it distributed as in onnxruntime?

    runs:     independent runs of the signal on both sides.
    values:   elements, at some steps each, whose distributions were compared.
    distance: largest difference between two distribution functions (Kolmogorov and Smirnov), 0 to 1; `limit` is what two equal
              distributions exceed once in a million reports.
    outside:  most values of one side beyond all of the other; `most_outside` likewise.
    """

    signal: str
    kind: Kind
    name: str
    runs: int
    values: int
    distance: float
    limit: float
    outside: int
    most_outside: int

    @property
    def passed(self) -> bool:
        return self.distance <= self.limit and self.outside <= self.most_outside

    def __str__(self) -> str:
        return (
            f"{self.kind} '{self.name}', signal '{self.signal}': {self.values} distributions over {self.runs} runs, "
            f"distance {self.distance:.3f} (at most {self.limit:.3f}), {self.outside} values out of range (at most "
            f"{self.most_outside})"
        )


@dataclass(frozen=True)
class Chunking:
    """Whether cutting a signal differently changed a bit of any output, or of the state at the end.

    block: one call of `process` for many steps, against single steps. random: calls of random sizes, against single steps.
    """

    signal: str
    steps: int
    block: bool
    random: bool

    @property
    def passed(self) -> bool:
        return self.block and self.random


@dataclass(frozen=True)
class Culprit:
    """The first node, in topological order, whose value leaves the tolerance.

    index:    place of the worst element in the value.
    expected: that element in the oracle; `found`: in the engine.
    inputs:   largest difference of each computed input of the node that could be compared.
    inside:   the branch or the iteration that the node is in, in words; "" at the main graph.
    remark:   where no single node could be named, why.
    oracle:   who has `expected`.
    """

    signal: str
    step: int
    node: str
    op: str
    value: str
    index: tuple[int, ...]
    expected: float
    found: float
    max_abs: float
    tolerance: float
    inputs: Mapping[str, float] = field(default_factory=dict)
    remark: str = ""
    inside: str = ""
    oracle: str = "onnxruntime"

    @property
    def place(self) -> str:
        """The node in words."""
        return f"node '{self.node}' ({self.op})" + (f" {self.inside}" if self.inside else "")

    def __str__(self) -> str:
        if self.remark:
            return f"signal '{self.signal}', step {self.step}: {self.remark}"
        agree = ", ".join(f"'{name}' to {number(diff)}" for name, diff in self.inputs.items())
        return (
            f"signal '{self.signal}', step {self.step}: {self.place} is the first to leave the tolerance: "
            f"'{self.value}'{list(self.index)} is {self.found:.7g}, {self.oracle} has {self.expected:.7g} "
            f"(max abs {number(self.max_abs)}, tolerance {number(self.tolerance)})"
            + (f"; its inputs agree: {agree}" if agree else "")
        )


@dataclass(frozen=True)
class Curve:
    """One element of an output over the compared steps, for the plots.

    steps, expected, found: 1-D, of one length. difference: the largest over all elements of the output, at each step.
    """

    signal: str
    name: str
    element: int
    steps: Array
    expected: Array
    found: Array
    difference: Array
    tolerance: float


@dataclass(frozen=True)
class Report:
    """The result of `validate`. Times are in steps; delay and receptive field in input frames; sizes in bytes.

    law:      what was compared with what, in words; `oracle`: with whom; noise_of: how its noise was made.
    notes:    whatever a reader should know before trusting the verdict.
    storage:  how weights are stored in fewer bits than float32, and which layers are not, with the reason.
    draws:    outputs and states that depend on random numbers, judged by their distribution.
    excluded: outputs and states that were not compared, each with the reason.
    """

    model: str
    fingerprint: str
    versions: Mapping[str, str]
    mode: str
    mode_reason: str
    law: str
    steps: int
    seed: int
    frames: int
    delay: int
    receptive_field: int | None
    state_bytes: int
    weights_bytes: int
    rows: tuple[Row, ...]
    chunkings: tuple[Chunking, ...]
    draws: tuple[Draw, ...] = ()
    excluded: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    culprit: Culprit | None = None
    curves: tuple[Curve, ...] = field(default=(), repr=False, compare=False)
    oracle: str = "onnxruntime"
    noise_of: str = ""
    storage: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """No row fails, each output and state passes on some signal, every chunking is bit-identical, random numbers have the
        file's distribution, and something was compared at all."""
        no_failure = all(r.first_bad is None for r in self.rows) and all(c.passed for c in self.chunkings)
        return bool(self.rows or self.draws) and no_failure and all(d.passed for d in self.draws) and not self.open

    @property
    def open(self) -> tuple[str, ...]:
        """Outputs and states that no signal decides."""
        names = dict.fromkeys(r.name for r in self.rows)
        return tuple(name for name in names if not any(r.passed for r in self.rows if r.name == name))

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        if not self.rows and not self.draws:
            return f"nothing could be compared with {self.oracle}"
        bad = [r for r in self.rows if r.first_bad is not None]
        if bad:
            first = min(bad, key=lambda r: r.first_bad or 0)
            return (
                f"{len(bad)} of {len(self.rows)} comparisons leave the tolerance, first {first.kind} '{first.name}' "
                f"at step {first.first_bad} of signal '{first.signal}'"
                + (f" with {first.snr:.1f} of {first.floor:.0f} dB; store more bits (--weights)" if first.snr else "")
            )
        if not all(c.passed for c in self.chunkings):
            return "cutting the signal into blocks changes bits"
        wrong = [d for d in self.draws if not d.passed]
        if wrong:
            return f"random numbers are distributed otherwise than in onnxruntime: {wrong[0]}"
        quiet = [r.snr for r in self.rows if r.snr is not None and r.max_abs > r.tolerance]
        if any(r.floor is not None for r in self.rows):
            least = (
                f"the least ratio of signal to noise is {min(quiet):.1f} dB" if quiet else "all within the tolerance of float32"
            )
            return f"{len(self.rows)} comparisons with {self.oracle} pass, with weights in fewer bits: {least}"
        if self.open:
            return f"no signal decides about {', '.join(self.open)}: the differences are within the noise of {self.oracle}"
        if not self.rows:
            return self.drawn
        passed = [r for r in self.rows if r.passed]
        worst = max(_share(r) for r in passed)
        ruled = sum(r.ruling is not None for r in passed)
        rest = f"; {ruled} by float64, to which the engine is nearer than {self.oracle}" * (ruled > 0)
        rest += f"; {len(self.rows) - len(passed)} undecided, within the noise of {self.oracle}" * (
            len(passed) < len(self.rows)
        )
        return f"{len(passed)} comparisons with {self.oracle} pass, the worst uses {worst:.1%} of its tolerance{rest}" + (
            f"; {self.drawn}" if self.draws else ""
        )

    @property
    def drawn(self) -> str:
        """What was found about random outputs, where they pass."""
        names = dict.fromkeys(d.name for d in self.draws)
        return f"{', '.join(names)}: random, distributed as in {self.oracle}" if names else ""

    def to_json(self) -> str:
        """Everything but the curves, as JSON text. NaN and Inf become strings."""
        data = asdict(_without_curves(self))
        del data["curves"]
        data["passed"], data["verdict"] = self.passed, self.verdict
        for row, record in zip(self.rows, data["rows"], strict=True):
            record["passed"] = row.passed
        for draw, record in zip(self.draws, data["draws"], strict=True):
            record["passed"] = draw.passed
        return json.dumps(_plain(data), indent=2, allow_nan=False)


def _share(row: Row) -> float:
    """What a row that passes uses of its tolerance."""
    apart = row.max_abs if row.ruling is None else row.ruling.engine
    allowed = row.tolerance + row.unit
    return apart / allowed if allowed else 0.0


def _without_curves(report: Report) -> Report:
    from dataclasses import replace

    return replace(report, curves=())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def size(count: int) -> str:
    """Bytes with a binary prefix."""
    for limit, unit in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count} B"


def _frames(count: int) -> str:
    return f"{count} input frame{'s' * (count != 1)}"


def facts(report: Report) -> Iterator[tuple[str, str]]:
    """Name and text of everything a reader wants to know about the model, in order."""
    yield "model", report.model
    yield "fingerprint", report.fingerprint[:16]
    yield "mode", report.mode + (f" ({report.mode_reason})" if report.mode_reason else "")
    yield "compared", report.law
    each = f", each of {_frames(report.frames)}" if report.mode == "frame" else ""
    yield "steps", f"{report.steps} per signal{each}; seed {report.seed}"
    if report.mode == "frame":
        field_ = report.receptive_field
        yield "delay", _frames(report.delay)
        yield "receptive field", "unbounded (recurrent)" if field_ is None else _frames(field_)
    yield "state", size(report.state_bytes)
    yield "weights", size(report.weights_bytes)
    for k, line in enumerate(report.storage):
        yield ("stored" if k == 0 else ""), line
    yield "versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())


def report_table(report: Report) -> RenderableType:
    """The report for a rich console."""
    head = Table.grid(padding=(0, 2))
    for name, text in facts(report):
        head.add_row(Text(name, style="dim"), Text(text))
    parts: list[RenderableType] = [head, _rows(report), _chunkings(report)]
    parts += [Text.assemble(("random: ", "green" if d.passed else "bold red"), str(d)) for d in report.draws]
    for name, reason in report.excluded.items():
        parts.append(Text.assemble(("not compared: ", "yellow"), f"{name}: {reason}"))
    parts += [Text.assemble(("note: ", "yellow"), note) for note in report.notes]
    if report.culprit is not None:
        parts.append(Text.assemble(("where: ", "bold red"), str(report.culprit)))
    mark, style = ("PASSED", "bold green") if report.passed else ("FAILED", "bold red")
    parts.append(Text.assemble((mark, style), "  ", report.verdict))
    return Group(*parts)


def _rows(report: Report) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("signal", "", "name"):
        table.add_column(name, overflow="fold")
    for name in ("steps", "max abs", "max rel", "allowed", "noise", "first bad"):
        # a number is whole in a terminal of 80 columns; names are folded
        table.add_column(name, justify="right", min_width=8 if name not in ("steps", "first bad") else None)
    for row in report.rows:
        style = "green" if row.passed else "yellow" if row.undecided else "bold red"
        table.add_row(
            row.signal, row.kind, Text(row.name), str(row.compared), number(row.max_abs), number(row.max_rel),
            row.allowed, number(row.noise), Text(row.mark, style=style),
        )  # fmt: skip
    return table


def _chunkings(report: Report) -> Text:
    changed = [c for c in report.chunkings if not c.passed]
    if not changed:
        return Text("by step, by block and by random chunks: the same bits", style="green")
    names = ", ".join(
        f"{c.signal} ({' and '.join(way for way, same in (('block', c.block), ('random chunks', c.random)) if not same)})"
        for c in changed
    )
    return Text(f"not the same bits as by single steps: {names}", style="bold red")
