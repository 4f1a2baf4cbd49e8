"""A report as one self-contained HTML page: verdict, tables, and plots of both outputs over time with their difference."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from streamrnn.errors import MissingExtraError
from streamrnn_converters.compare import NOISE_FACTOR
from streamrnn_converters.report import Curve, Report, facts
from streamrnn_converters.rows import number

#: plots on one page, at most; the worst of each signal and output come first
PLOTS = 24
#: colours that keep their contrast on white and on near-black
_ORACLE, _ENGINE, _LIMIT, _INK = "#8a94a6", "#1f7ae0", "#c2410c", "#7a8494"
#: differences below this are drawn at it, because the axis is logarithmic
_FLOOR = 1e-10

_STYLE = """
:root { color-scheme: light dark; --ink: #1b2330; --soft: #5b6675; --line: #dfe4ea; --page: #fff; --card: #f6f8fa;
        --good: #12724a; --good-bg: #e5f5ed; --bad: #b42318; --bad-bg: #fdeceb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9f0; --soft: #99a4b3; --line: #2c3542; --page: #12171e; --card: #1a212a;
          --good: #5fd39f; --good-bg: #12301f; --bad: #ff8a7d; --bad-bg: #3a1714; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 2rem 1.5rem 4rem; background: var(--page); color: var(--ink);
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.35rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2.2rem 0 .7rem; }
h3 { font-size: .95rem; font-weight: 600; margin: 1.4rem 0 .2rem; }
.verdict { border-radius: .5rem; padding: .8rem 1rem; margin-bottom: 1.2rem; }
.verdict b { margin-right: .6rem; }
.passed { background: var(--good-bg); color: var(--good); } .failed { background: var(--bad-bg); color: var(--bad); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--soft); white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.ok { color: var(--good); } td.bad { color: var(--bad); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; margin: 0; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
p, li { max-width: 60rem; } .soft { color: var(--soft); font-size: .88rem; }
code { font: .88em ui-monospace, "SF Mono", Menlo, monospace; overflow-wrap: anywhere; }
figure { margin: 0; } figure svg { width: 100%; height: auto; display: block; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .85rem; color: var(--soft); margin: .1rem 0; }
.legend i { display: inline-block; width: 1.4rem; height: 0; border-top: 3px solid; vertical-align: middle;
            margin-right: .4rem; }
"""


def report_html(report: Report) -> str:
    """The page as text: no scripts, nothing loaded from elsewhere. Raises MissingExtraError without matplotlib."""
    state = "passed" if report.passed else "failed"
    title = f"streamrnn validate: {escape(report.model.rsplit('/', 1)[-1])}"
    parts = [
        f"<h1>{title}</h1>",
        f'<div class="verdict {state}"><b>{state.upper()}</b>{escape(report.verdict)}</div>',
        *_where(report),
        "<h2>Model</h2>",
        _list(facts(report)),
        "<h2>Differences</h2>",
        _rows(report),
        '<p class="soft">max rel: per step, relative to the largest magnitude of that step. noise: largest difference of '
        f"{escape(report.oracle)} from itself, {escape(report.noise_of)}; measured on the first signal and where the tolerance "
        f"is left. undecided: beyond the tolerance, but within {NOISE_FACTOR:g} times the noise. "
        "dB: ratio of signal to noise, for weights in fewer bits. "
        "referee: beyond the tolerance, but nearer to the file in float64 than onnxruntime, see the notes.</p>",
        "<h2>Chunking</h2>",
        '<p class="soft">The signal cut otherwise, bit by bit against single steps: outputs, and the state at the end.</p>',
        _chunkings(report),
        *_draws(report),
        *_remarks(report),
        *_plots(report),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body>\n{chr(10).join(parts)}\n</body></html>\n"
    )


def _list(rows: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows) + "</dl>"


def _table(head: Sequence[str], numeric: int, rows: Iterable[Sequence[tuple[str, str]]]) -> str:
    """A table whose columns from `numeric` on are right-aligned; a cell is (text, class)."""

    def row(tag: str, cells: Sequence[tuple[str, str]]) -> str:
        kinds = (f"{kind} number".strip() if k >= numeric else kind for k, (_, kind) in enumerate(cells))
        texts = (escape(text) for text, _ in cells)
        return "<tr>" + "".join(f'<{tag} class="{c}">{t}</{tag}>' for c, t in zip(kinds, texts, strict=True)) + "</tr>"

    body = "".join(row("td", cells) for cells in rows)
    return f'<div class="wide"><table>{row("th", [(name, "") for name in head])}{body}</table></div>'


def _rows(report: Report) -> str:
    head = ("signal", "kind", "name", "steps", "max abs", "max rel", "tolerance", "noise", "first bad")
    rows = []
    for r in report.rows:
        verdict = (r.mark, "ok" if r.passed else "soft" if r.undecided else "bad")
        texts = (
            r.signal, r.kind, r.name, str(r.compared), number(r.max_abs), number(r.max_rel), r.allowed,
            number(r.noise),
        )  # fmt: skip
        rows.append([*((text, "") for text in texts), verdict])
    return _table(head, 3, rows)


def _chunkings(report: Report) -> str:
    def cell(same: bool) -> tuple[str, str]:
        return ("same bits", "ok") if same else ("bits differ", "bad")

    rows = [[(c.signal, ""), (str(c.steps), ""), cell(c.block), cell(c.random)] for c in report.chunkings]
    return _table(("signal", "steps", "by block", "by random chunks"), 4, rows)


def _where(report: Report) -> list[str]:
    found = report.culprit
    if found is None:
        return []
    if found.remark:
        return ["<h2>Where it fails</h2>", f"<p>{escape(str(found))}</p>"]
    place = f"{found.value}{list(found.index)}"
    rows = [
        (
            "node",
            f"{found.place.removeprefix('node ')}, the first in the order of computation that leaves the tolerance",
        ),
        ("signal, step", f"{found.signal}, {found.step}"),
        ("value", place),
        (found.oracle, f"{found.expected:.9g}"),
        ("streamrnn", f"{found.found:.9g}"),
        ("max abs", f"{number(found.max_abs)} (tolerance {number(found.tolerance)})"),
    ]
    rows += [(f"its input {name}", f"agrees to {number(apart)}") for name, apart in found.inputs.items()]
    return ["<h2>Where it fails</h2>", _list(rows)]


def _draws(report: Report) -> list[str]:
    if not report.draws:
        return []
    head = ("signal", "kind", "name", "runs", "distributions", "distance", "at most", "out of range", "at most")
    rows = []
    for d in report.draws:
        far, out = ("ok" if d.distance <= d.limit else "bad"), ("ok" if d.outside <= d.most_outside else "bad")
        rows.append([
            (d.signal, ""), (d.kind, ""), (d.name, ""), (str(d.runs), ""), (str(d.values), ""), (f"{d.distance:.3f}", far),
            (f"{d.limit:.3f}", ""), (str(d.outside), out), (str(d.most_outside), ""),
        ])  # fmt: skip
    text = (
        "Outputs that depend on random numbers have no values to compare. Many independent runs of each signal give two "
        "samples of every element. Distance: largest difference of their distribution functions (Kolmogorov and Smirnov). "
        "Out of range: values of one sample beyond all of the other."
    )
    return ["<h2>Random numbers</h2>", f'<p class="soft">{text}</p>', _table(head, 3, rows)]


def _remarks(report: Report) -> list[str]:
    lines = [f"not compared: <code>{escape(name)}</code>, because {escape(why)}" for name, why in report.excluded.items()]
    lines += [escape(note) for note in report.notes]
    return ["<h2>Notes</h2>", "<ul>", *(f"<li>{line}</li>" for line in lines), "</ul>"] if lines else []


def _plots(report: Report) -> list[str]:
    curves = sorted(report.curves, key=_severity)[:PLOTS]
    if not curves:
        return []
    order = {id(c): k for k, c in enumerate(report.curves)}
    legend = "".join(
        f'<span><i style="border-color:{colour}"></i>{text}</span>'
        for colour, text in ((_ORACLE, report.oracle), (_ENGINE, "streamrnn"), (_LIMIT, "tolerance"))
    )
    parts = [
        "<h2>Outputs over time</h2>",
        f'<div class="legend">{legend}</div>',
        '<p class="soft">Above: one element of the output. Below: the largest difference over all its elements, on a '
        "logarithmic axis; the tinted band is within the tolerance.</p>",
    ]
    if len(report.curves) > len(curves):
        parts.append(f'<p class="soft">The {len(curves)} worst of {len(report.curves)} are shown.</p>')
    for curve in sorted(curves, key=lambda c: order[id(c)]):
        parts.append(f"<h3>{escape(curve.name)}[{curve.element}], {escape(curve.signal)}</h3>")
        parts.append(f"<figure>{_plot(curve)}</figure>")
    return parts


def _severity(curve: Curve) -> float:
    worst = float(np.max(curve.difference, initial=0.0))
    return -worst / curve.tolerance if curve.tolerance else -worst


def _plot(curve: Curve) -> str:
    """Two axes over one another as an <img> of an SVG whose colours suit a light and a dark page."""
    figure, (above, below) = _figure()
    sparse = len(curve.steps) < 40
    mark: dict[str, Any] = {"marker": "o", "markersize": 3.5} if sparse else {}
    above.plot(curve.steps, curve.expected, color=_ORACLE, linewidth=3.0, solid_capstyle="round", **mark)
    above.plot(curve.steps, curve.found, color=_ENGINE, linewidth=1.0, **mark)
    apart = np.clip(curve.difference, _FLOOR, np.finfo(np.float32).max)
    limit = max(curve.tolerance, _FLOOR)
    below.axhspan(_FLOOR / 2, limit, color=_ENGINE, alpha=0.07, linewidth=0)
    below.axhline(limit, color=_LIMIT, linewidth=1.2, linestyle=(0, (4, 2)))
    below.plot(curve.steps, apart, color=_ENGINE, linewidth=0.9, **mark)
    below.set_yscale("log")
    below.set_ylim(_FLOOR / 2, 10.0 * max(limit, float(apart.max())))
    if sparse:  # prefixes are spaced by their logarithm
        below.set_xscale("symlog", linthresh=1.0)
        below.set_xlim(left=0.0)
    below.set_xlabel("step")
    above.set_ylabel("value")
    below.set_ylabel("difference")
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
    image = base64.b64encode(svg.getvalue()).decode()
    label = escape(f"{curve.name}[{curve.element}] under signal {curve.signal}, oracle and streamrnn, and their difference")
    return f'<img alt="{label}" width="100%" src="data:image/svg+xml;base64,{image}">'


def _figure() -> tuple[Any, Any]:
    """A figure with an axis for the values and a lower one for the difference, in the page's colours."""
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(f"the plots of a report need matplotlib ({error}); pip install 'streamrnn[plot]'") from None
    with matplotlib.rc_context({"axes.edgecolor": _INK, "xtick.color": _INK, "ytick.color": _INK, "axes.labelcolor": _INK}):
        figure = Figure(figsize=(10.0, 3.6), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(True, color=_INK, alpha=0.18, linewidth=0.6)
        axis.margins(x=0.01)
        axis.tick_params(labelsize=8)
    return figure, axes
