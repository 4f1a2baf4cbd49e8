"""The benchmark suite: streamrnn beside its peers in one process, and beside what this machine could do at best.

    python benchmarks/bench.py [PART ...] [--quick] [--peers NAMES] [--models FOLDER] [--out FOLDER] [--readme FILE]

Parts: cells (LSTM, GRU, RNN by size, kind of weights, step and block), calls (what a call from Python adds), models (a folder
of ONNX files), profile (where their time goes), pool (many streams), tails, mallocs, start (a new process), silence. All of
them take a quarter of an hour, --quick two minutes. Written are benchmarks.json, benchmarks.md and benchmarks.png; --draw makes
page and picture anew from a file of figures.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from suite.peers import PEERS, installed
from suite.report import Run, page, short, skips, summary
from suite.rows import Row

import streamrnn

PARTS = ("cells", "calls", "models", "profile", "pool", "tails", "mallocs", "start", "silence")
MARKS = ("<!-- speed -->\n", "<!-- /speed -->")


def measure(parts: list[str], peers: list[str], models: Path | None, quick: bool, say: Callable[[str], None] = print) -> Run:
    """Run the parts, saying each row as it comes."""
    from suite import roofline
    from suite.parts import Setup

    found, versions, missing = installed(peers)
    for name, reason in missing.items():
        say(f"without {name}: {reason}")
    budget = 0.3 if quick else 1.2
    limits = roofline.measure(budget / 4)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as work:
        setup = Setup(found, missing, limits, quick, budget, Path(work), models)
        for part in parts:
            began = time.perf_counter()
            for row in import_module(f"suite.parts.{part}").rows(setup):
                rows.append(row)
                say(line(row))
            say(f"{part}: {time.perf_counter() - began:.0f} s")
    about = {
        "machine": f"{cpu()}, {os.cpu_count()} cores, {platform.system()}",
        "date": datetime.date.today().isoformat(),
        "streamrnn": streamrnn.__version__,
        "python": platform.python_version(),
        "quick": "yes" if quick else "no",
    }
    levels = [{"name": level.name, "size": level.size, "bandwidth": level.bandwidth} for level in limits.levels]
    return Run(about, versions, missing, levels, limits.gflops, rows)


def cpu() -> str:
    """The CPU's name, and the one that code is made for."""
    from streamrnn.codegen.build import host

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return f"{names[0] if names else platform.machine()} ({host()[0]})"


def line(row: Row) -> str:
    """One row while the suite runs."""
    axes = " ".join(str(value) for value in row.axes.values())
    first = {name: next(iter(figures.items())) for name, figures in row.figures.items() if figures}
    figures = ", ".join(
        f"{name} {value / 1e3:.2f} us" if key == "ns" else f"{name} {value:.3g}" for name, (key, value) in first.items()
    )
    return f"{row.part} {axes}: {figures or skips([row]).strip()}"


def write(run: Run, out: Path, readme: Path | None) -> None:
    """benchmarks.json, .md and .png in a folder, and the README's part between its marks."""
    from suite.chart import draw

    out.mkdir(parents=True, exist_ok=True)
    (out / "benchmarks.json").write_text(json.dumps(run.data(), indent=1))
    draw(run, out / "benchmarks.png")
    (out / "benchmarks.md").write_text(page(run, "benchmarks.png"))
    if readme is not None:
        readme.write_text(between(readme.read_text(), short(run)))


def between(text: str, part: str, marks: tuple[str, str] = MARKS) -> str:
    """`text` with what stands between two marks replaced."""
    start, end = marks
    before, _, rest = text.partition(start)
    return f"{before}{start}{part}\n{end}{rest.partition(end)[2]}"


def main(
    parts: Annotated[list[str] | None, typer.Argument(help=f"Some of: {', '.join(PARTS)}; all without any.")] = None,
    quick: Annotated[bool, typer.Option(help="A few small cases, briefly.")] = False,
    peers: Annotated[str, typer.Option(help="Peers, separated by commas.")] = ",".join(PEERS),
    models: Annotated[Path | None, typer.Option(envvar="STREAMRNN_MODELS", help="Folder with manifest.json.")] = None,
    out: Annotated[Path, typer.Option(help="Where to write benchmarks.json, .md and .png.")] = Path("bench_out"),
    readme: Annotated[Path | None, typer.Option(help="A README whose table to replace.")] = None,
    draw: Annotated[Path | None, typer.Option(help="Measure nothing: figures from this benchmarks.json.")] = None,
) -> None:
    """Measure, print and write."""
    wanted = parts or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS] + [name for name in peers.split(",") if name not in PEERS]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: parts are {', '.join(PARTS)}; peers are {', '.join(PEERS)}")
    run = Run.of(json.loads(draw.read_text())) if draw else measure(wanted, peers.split(","), models, quick)
    write(run, out, readme)
    from suite.targets import verdicts

    print(summary([v for v in verdicts(run.rows) if v.met is not None]))


if __name__ == "__main__":
    typer.run(main)
