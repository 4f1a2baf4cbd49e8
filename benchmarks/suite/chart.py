"""A run as a picture: step times over sizes, fewer bytes of weights, real models, tails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from suite.report import Run
from suite.rows import KERNEL, OWN, Row, where
from suite.targets import ENHANCERS, OTHERS

#: the CVD-safe colours of Okabe and Ito; streamrnn has the strongest
COLOURS = {
    OWN: "#D55E00",
    "onnxruntime": "#0072B2",
    "tract": "#009E73",
    "openvino": "#CC79A7",
    "litert": "#56B4E9",
    "ncnn": "#E69F00",
    "torch cell": "#555555",
}
GREY = "#999999"


def draw(run: Run, path: Path) -> None:
    """Write the PNG: a panel for each part that has figures."""
    lstm = where(run.rows, "cells", cell="LSTM", way="step")
    panels: list[tuple[Callable[[Any, Sequence[Row]], None], list[Row]]] = [
        (steps, where(lstm, "cells", weights="f32")),
        (narrow, lstm),
        (speed_ups, where(run.rows, "models")),
        (late, where(run.rows, "tails", way="step")),
    ]
    full = [(panel, found) for panel, rows in panels if (found := [row for row in rows if row.figures])]
    lines = max(1, (len(full) + 1) // 2)
    figure = Figure(figsize=(13, 5.25 * lines), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(lines, 2).ravel()
    for axes, (panel, rows) in zip(places, full, strict=False):
        panel(axes, rows)
    for axes in places[len(full) :]:
        axes.set_axis_off()
    figure.suptitle(f"streamrnn beside its peers, one thread: {run.about['machine']}, {run.about['date']}", fontsize=11)
    figure.savefig(path)


def curve(axes: Any, rows: Sequence[Row], engine: str, label: str, **style: Any) -> None:
    """Microseconds of an engine over the hidden size."""
    points = [(int(row.axes["H"]), row.figures[engine]["ns"] / 1e3) for row in rows if engine in row.figures]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, **style)


def bound(axes: Any, rows: Sequence[Row], label: str, **style: Any) -> None:
    found = [(int(r.axes["H"]), r.figures[KERNEL]) for r in rows if KERNEL in r.figures]
    axes.plot([H for H, _ in found], [f["ns"] * f["roofline"] / 1e3 for _, f in found], label=label, **style)


def over_sizes(axes: Any, title: str, rows: Sequence[Row]) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({int(row.axes["H"]) for row in rows})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("hidden units (as many inputs)")
    axes.set_ylabel("microseconds a step")
    axes.grid(True, alpha=0.25)
    axes.legend(fontsize=8, frameon=False, handlelength=3)


def steps(axes: Any, rows: Sequence[Row]) -> None:
    for name, colour in COLOURS.items():
        width = 2.6 if name == OWN else 1.3
        curve(axes, rows, name, name, color=colour, linewidth=width, marker="o", markersize=3.5, zorder=3 if name == OWN else 2)
    curve(axes, rows, KERNEL, "streamrnn, called from native code", color=COLOURS[OWN], linestyle=":", linewidth=1.8)
    bound(axes, rows, "roofline", color="black", linestyle="--", linewidth=1)
    over_sizes(axes, "One step of an LSTM in float32, from Python", rows)


def narrow(axes: Any, rows: Sequence[Row]) -> None:
    styles = {"f32": "-", "f16": "--", "int8": ":"}
    for kind, line in styles.items():
        chosen = [row for row in rows if row.axes["weights"] == kind]
        for name in (OWN, "onnxruntime", *["litert"] * (kind == "int8")):
            curve(
                axes,
                chosen,
                name,
                f"{name}, {kind}",
                color=COLOURS[name],
                linestyle=line,
                linewidth=1.8,
                marker="o",
                markersize=3,
            )
    over_sizes(axes, "Fewer bytes of weights: one step of an LSTM", rows)


def speed_ups(axes: Any, rows: Sequence[Row]) -> None:
    """Bars of the models that have a target, each group in its colour with its target as a line."""
    groups = ((ENHANCERS, 10.0, "#0072B2", "speech enhancement"), (OTHERS, 3.0, "#009E73", "silero, DTLN"))
    bars: list[tuple[str, float, str]] = []
    for names, target, colour, label in groups:
        found = [(str(row.axes["model"]), row) for row in rows if any(fnmatch(str(row.axes["model"]), n) for n in names)]
        ratios = [(name, row.get("onnxruntime", "ratio") or row.get("onnxruntime run", "ratio")) for name, row in found]
        bars += sorted(((name, r, colour) for name, r in ratios if r), key=lambda bar: -bar[1])
        axes.axvline(target, color=colour, linestyle="--", linewidth=1, label=f"{label}: target {target:g}x (geometric mean)")
    names, values, colours = zip(*bars, strict=True) if bars else ((), (), ())
    axes.barh(range(len(bars)), values, color=colours, height=0.7)
    for y, value in enumerate(values):
        axes.text(value, y, f" {value:.1f}x", va="center", fontsize=7.5)
    axes.set_yticks(range(len(bars)), names, fontsize=7.5)
    axes.invert_yaxis()
    axes.set_title("Published models: times as fast as onnxruntime with io-binding", fontsize=10, loc="left")
    axes.set_xlim(0, 1.1 * max(values, default=1.0))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def late(axes: Any, rows: Sequence[Row]) -> None:
    """Percentiles of single calls: one line of dots for each engine and load."""
    marks = {"ns": ("o", "median"), "p99": ("s", "p99"), "p99.9": ("D", "p99.9"), "max": ("x", "max")}
    places = [(row, name) for row in rows for name in row.figures]
    for y, (row, name) in enumerate(places):
        figures, colour = row.figures[name], COLOURS.get(name, GREY)
        axes.plot([figures["ns"] / 1e3, figures["max"] / 1e3], [y, y], color=colour, alpha=0.3, linewidth=2)
        for figure, (mark, _) in marks.items():
            axes.plot(figures[figure] / 1e3, y, mark, color=colour, markersize=6)
    for mark, title in marks.values():
        axes.plot([], [], mark, color="black", label=title, markersize=5)
    axes.axvline(64e6 / 48e3, color="black", linestyle="--", linewidth=0.8, label="64 frames at 48 kHz")
    axes.set_yticks(range(len(places)), [f"{name}\n{load_of(row)}" for row, name in places], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("microseconds by the clock on the wall")
    axes.set_title("Single steps of an LSTM, H=64: how late at worst", fontsize=10, loc="left")
    axes.grid(True, axis="x", alpha=0.25)
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=5)


def load_of(row: Row) -> str:
    return "quiet" if row.axes["load"] == "none" else str(row.axes["load"])
