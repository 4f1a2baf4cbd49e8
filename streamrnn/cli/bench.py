"""streamrnn bench"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from streamrnn.bench import Times
from streamrnn.bench import bench as measure
from streamrnn.cli import options as opt
from streamrnn.cli.talk import data, notify
from streamrnn.errors import BindingError, MissingExtraError
from streamrnn.files import write_aside


@opt.takes_conversion
def bench(
    model: opt.Model,
    how: opt.Conversion,
    against: Annotated[str | None, typer.Option(metavar="onnxruntime", help="Measure this beside it, interleaved.")] = None,
    steps: Annotated[int, typer.Option(min=8, help="Steps of each way.")] = 4000,
    as_json: Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Write the figures as JSON.")] = None,
) -> None:
    """Measure a step from Python: median, tails and worst case, one thread."""
    opt.spare(as_json, model)
    engine = opt.open_engine(model, how, notify)
    times = measure(engine, steps)
    if against is not None:
        if against != "onnxruntime" or model.suffix == ".srnn":
            raise BindingError(f"--against {against}: `--against onnxruntime` on the original model file is what there is")
        try:
            from streamrnn_converters.bench import bench_against_onnxruntime
        except ImportError as error:
            raise MissingExtraError(f"onnxruntime is missing ({error}); pip install 'streamrnn[convert]'") from None
        beside = bench_against_onnxruntime(model, engine, steps, **how.keywords())
        times = [*beside, *(t for t in times if t.way not in {b.way for b in beside})]
    text = json.dumps({"model": str(model), "unit": "ns", "times": [asdict(t) for t in times]}, indent=2)
    if as_json == "-":
        print(text)
        return
    data().print(_table(times))
    if as_json:
        write_aside(Path(as_json), text.encode())


def _table(times: list[Times]) -> Table:
    reference = next((t.p50 for t in times if t.way.startswith("onnxruntime")), None)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("microseconds per step")
    for column in ("p50", "p99", "p99.9", "max", *(["onnxruntime / this"] if reference else [])):
        table.add_column(column, justify="right")
    for t in times:
        figures = [f"{value / 1000:.2f}" for value in (t.p50, t.p99, t.p999, t.max)]
        ratio = [f"{reference / t.p50:.1f}x"] if reference else []
        table.add_row(t.way, *figures, *ratio)
    return table
