"""A run as a page of Markdown, and as the short table of the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import fill
from typing import Any

from suite.rows import KERNEL, OWN, Row, share, where
from suite.targets import Verdict, target, verdicts
from suite.why import why


@dataclass(frozen=True)
class Run:
    """about: machine, date, versions. levels and gflops: the roofline. missing: peers without figures, with the reason."""

    about: Mapping[str, str]
    versions: Mapping[str, str]
    missing: Mapping[str, str]
    levels: Sequence[Mapping[str, Any]]
    gflops: float
    rows: Sequence[Row]

    def data(self) -> dict[str, Any]:
        return {**asdict(self), "targets": [asdict(v) for v in verdicts(self.rows)]}

    @staticmethod
    def of(data: Mapping[str, Any]) -> Run:
        fields = {k: data[k] for k in ("about", "versions", "missing", "levels", "gflops")}
        return Run(**fields, rows=[Row(**row) for row in data["rows"]])


#: characters in a line of text
LINE = 128


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def microseconds(ns: float) -> str:
    us = ns / 1e3
    return f"{us:.3f}" if us < 1 else f"{us:.2f}" if us < 100 else f"{us:.0f}"


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def written(figure: str, value: float) -> str:
    return f"{value:.0%}" if figure == "roofline" else number(value)


def engines(rows: Sequence[Row]) -> list[str]:
    """Engines with figures, in the order of their first row; streamrnn first."""
    found = dict.fromkeys(name for row in rows for name in row.figures)
    return [*(n for n in (OWN, KERNEL) if n in found), *(n for n in found if n not in (OWN, KERNEL))]


def beside(rows: Sequence[Row]) -> str:
    """A line per case: microseconds of each engine, in brackets how many times as long as streamrnn's."""
    rows = [row for row in rows if row.figures]
    if not rows:
        return "No figures.\n"
    axes, names = list(rows[0].axes), engines(rows)
    roofs, targets = any(share(row) for row in rows), any(target(row) for row in rows)
    lines = []
    for row in rows:
        cells = [str(row.axes[axis]) for axis in axes]
        for name in names:
            ns, ratio = row.get(name, "ns"), row.get(name, "ratio")
            peer = name not in (OWN, KERNEL)
            cells.append("" if ns is None else microseconds(ns) + (f" ({ratio:.1f}x)" if peer and ratio else ""))
        cells += [f"{share(row) or 0:.0%}"] * roofs + [held(row)] * targets
        lines.append(cells)
    return table([*axes, *names, *["of the roofline"] * roofs, *["target"] * targets], lines) + "\n"


def held(row: Row) -> str:
    """The target of a row and whether it is met: "30x onnxruntime: yes"."""
    wanted = target(row)
    ratio = row.get(wanted[0], "ratio") if wanted else None
    if wanted is None or ratio is None:
        return ""
    return f"{wanted[1]:g}x {wanted[0]}: {'yes' if ratio >= wanted[1] else '**no**'}"


def plain(rows: Sequence[Row]) -> str:
    """A line per case and engine: every figure as it is; nanoseconds of one call as microseconds."""
    lines = []
    figures = list(dict.fromkeys(f for row in rows for engine in row.figures.values() for f in engine))
    times = {"ns", "in silence", "p99", "p99.9", "max"}
    for row in rows:
        for name, found in row.figures.items():
            cells = ["" if f not in found else microseconds(found[f]) if f in times else written(f, found[f]) for f in figures]
            lines.append([*map(str, row.axes.values()), name, *cells])
    titles = [f"{'p50' if f == 'ns' else f}, us" if f in times else f for f in figures]
    return table([*rows[0].axes, "engine", *titles], lines) + "\n" if lines else "No figures.\n"


def skips(rows: Sequence[Row]) -> str:
    """Why engines have no figures: each reason once."""
    found: dict[tuple[str, str], int] = {}
    for row in rows:
        for name, reason in row.skipped.items():
            found[name, reason] = found.get((name, reason), 0) + 1
    return "".join(f"- {name}: {reason} ({n} cases)\n" for (name, reason), n in found.items())


def summary(found: Sequence[Verdict]) -> str:
    words = {True: "yes", False: "**no**", None: "not measured"}
    return table(["what", "target", "measured", "met"], [[v.what, v.wanted, v.measured, words[v.met]] for v in found])


def missed(run: Run) -> list[str]:
    """The lines on targets that were not met."""
    reasons = [fill(f"- {text}", LINE, subsequent_indent="  ") for text in why(run.rows, run.gflops, run.levels)]
    return ["Where a target is missed, the figures say why:", "", *reasons, ""] if reasons else []


def roof(run: Run) -> str:
    levels = ", ".join(f"{level['name']} {level['bandwidth']:.0f} GB/s" for level in run.levels)
    return f"reads from {levels}, {run.gflops:.0f} GFLOP/s of float32 multiply-adds"


def how(run: Run) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in run.versions.items())
    missing = "".join(f" Without {name}: {reason}." for name, reason in run.missing.items())
    brief = " A quick run: a few cases, briefly." if run.about.get("quick") == "yes" else ""
    return fill(
        f"{run.about['machine']}, {run.about['date']}.{brief} One process, one thread for each engine, the state fed back for "
        f"all. Engines take turns in ABBA order; medians of the CPU time of the process, so that threads of an engine's own "
        f"count. Every peer's outputs are compared with streamrnn's before it is timed. Peers: {versions}.{missing} What one "
        f"core can do at best, measured first: {roof(run)}.",
        LINE,
        break_on_hyphens=False,
    )


def profiles(rows: Sequence[Row]) -> str:
    """A line per model: its step in native code, and the share of each kind of kernel with its GFLOP/s."""
    rows = [row for row in rows if row.figures]
    kinds = [name for name in engines(rows) if name != KERNEL]
    lines = []
    for row in rows:
        cells = [*map(str, row.axes.values()), microseconds(row.figures[KERNEL]["ns"]), f"{share(row) or 0:.0%}"]
        for name in kinds:
            part, speed = row.get(name, "share"), row.get(name, "gflops")
            cells.append("" if part is None else f"{part:.0%}" + (f" ({speed:.0f} GFLOP/s)" if speed else ""))
        lines.append(cells)
    return table([*rows[0].axes, "in kernel, us", "of the roofline", *kinds], lines) + "\n" if lines else "No figures.\n"


SECTIONS = {
    "models": ("Real models, one call of the file, microseconds", beside),
    "profile": ("Where the time of a step goes", profiles),
    "calls": ("What a call from Python adds to a step", plain),
    "pool": ("N streams stepped together, microseconds of one step of all", beside),
    "tails": ("Single calls by the clock on the wall", plain),
    "mallocs": ("Allocations of one step", plain),
    "start": ("A new process to its first step", plain),
    "silence": ("Sound that decays into silence", plain),
}


def page(run: Run, chart: str) -> str:
    """docs/benchmarks.md."""
    parts = ["# Benchmarks", "", "Made by `make bench`.", "", how(run), "", f"![{CAPTION}]({chart})", ""]
    parts += ["## Targets", "", summary(verdicts(run.rows)), "", *missed(run)]
    for weights in ("f32", "f16", "int8"):
        chosen = where(run.rows, "cells", weights=weights)
        if not chosen:
            continue
        for way in dict.fromkeys(str(row.axes["way"]) for row in chosen):
            title = "one step" if way == "step" else f"one frame of a {way}"
            parts += [f"## Cells, {weights}: {title}, microseconds", "", beside([r for r in chosen if r.axes["way"] == way])]
        parts += [skips(chosen)]
    for part, (title, render) in SECTIONS.items():
        chosen = where(run.rows, part)
        if chosen:
            parts += [f"## {title}", "", render(chosen), skips(chosen)]
    return "\n".join(parts).rstrip() + "\n"


CAPTION = "Step times beside the roofline, real models beside onnxruntime, tails"


INTRO = """\
One step from Python (`stream.step(x)`, the state carried) in microseconds, in brackets the same step called from native code;
beside it onnxruntime by io-binding, with how many times as long it takes, and the quickest of the other peers. Input size = H,
float32."""


def short(run: Run) -> str:
    """The README's part: H against cell, a step beside onnxruntime's io-binding and the quickest other peer."""
    rows = where(run.rows, "cells", weights="f32", way="step")
    lines = []
    for H in dict.fromkeys(row.axes["H"] for row in rows):
        cells = [str(H)]
        for cell in ("LSTM", "GRU"):
            for row in where(rows, "cells", cell=cell, H=H):
                own, kernel, ort = (row.figures.get(n) for n in (OWN, KERNEL, "onnxruntime"))
                peers = {n: f["ns"] for n, f in row.figures.items() if n not in (OWN, KERNEL) and "onnxruntime" not in n}
                best = min(peers, key=peers.__getitem__, default="")
                cells.append(f"{microseconds(own['ns'])} ({microseconds(kernel['ns'])})" if own and kernel else "")
                cells.append(f"{microseconds(ort['ns'])}, {ort['ratio']:.1f}x" if ort else "")
                cells.append(f"{best} {microseconds(peers[best])}" if best else "")
        lines.append(cells)
    head = ["H", *(f"{cell}{more}" for cell in ("LSTM", "GRU") for more in ("", ": onnxruntime", ": best other"))]
    return "\n".join([INTRO, "", table(head, lines), "", how(run), "", summary(verdicts(run.rows)), "", *missed(run)]).rstrip()
