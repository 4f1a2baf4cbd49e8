"""streamrnn convert"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from streamrnn.cli import options as opt
from streamrnn.cli.talk import initial, notify, number, print_findings, print_rows, summary, talk
from streamrnn.engine import Engine
from streamrnn.errors import MissingExtraError, ModelFileError
from streamrnn.files import write_aside
from streamrnn.ir.graph import Graph
from streamrnn.ir.text import graph_text


@opt.takes_conversion
def convert(
    model: opt.Model,
    how: opt.Conversion,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write; the model's name with .srnn else.")
    ] = None,
    check: Annotated[bool, typer.Option("--validate/--no-validate", help="Compare with an oracle before writing.")] = True,
    steps: Annotated[int, typer.Option(min=1, help="Steps of that comparison.")] = 200,
    dump: Annotated[
        str | None, typer.Option(metavar="DIR|-", help="Write the text of each stage to a folder or stdout.")
    ] = None,
) -> None:
    """Turn a model file into a `.srnn` file that runs without the converters.

    Nothing is written if the comparison fails: with onnxruntime, or, for audio formats, with a float64 formula.
    """
    if model.suffix == ".srnn":
        raise ModelFileError(f"{model}: it is converted already; `streamrnn inspect` shows what is in it")
    target = output or model.with_suffix(".srnn")
    opt.spare(target, model)
    try:
        from streamrnn_converters import convert as to_graph
    except ImportError as error:
        raise MissingExtraError(f"converting needs the converters ({error}); pip install 'streamrnn[convert]'") from None
    if not model.exists():
        raise ModelFileError(f"{model}: there is no such file")
    stages = _Stages(dump)
    engine = Engine(to_graph(model, dump=stages, **how.keywords()), notify)
    print_rows(talk(), summary(engine))
    for state in engine.graph.states:
        what = f"{engine.graph.types[state.read]} {state.kind}, {initial(state.init)}, {state.evidence}"
        talk().print(f"  state {escape(state.name)}: {escape(what)}")
    print_findings(talk(), engine.meta)
    if check:
        _validated(model, engine, steps)
    engine.save(target)
    talk().print(f"written: {escape(str(target))} ({number(target.stat().st_size)})")


def _validated(model: Path, engine: Engine, steps: int) -> None:
    """Compare with the oracle; exit 1 where it fails."""
    from streamrnn_converters.report import report_table
    from streamrnn_converters.validate import validate

    notify(f"validating {steps} steps against what the file computes")
    report = validate(model, engine, steps=steps, notify=notify)
    if not report.passed:
        talk().print(report_table(report))
        talk().print("[bold red]nothing was written:[/] the step does not compute what the file computes")
        raise typer.Exit(1)
    worst = max((row.max_abs for row in report.rows if row.passed), default=0.0)
    talk().print(f"[green]validated[/]: {steps} steps, largest difference from {escape(report.oracle)} {worst:.1e}")
    if report.storage:
        talk().print(escape(report.verdict))
    if any(row.mark == "referee" for row in report.rows):
        talk().print(escape(report.verdict))
    if report.drawn:
        talk().print(escape(report.drawn))


class _Stages:
    """Receives the graph after each pass."""

    def __init__(self, where: str | None) -> None:
        self.where = where
        self.count = 0

    def __call__(self, name: str, graph: Graph) -> None:
        if self.where is None:
            return
        self.count += 1
        text = graph_text(graph) + "\n"
        if self.where == "-":
            print(f"# {self.count} {name}\n{text}", end="")
            return
        folder = Path(self.where)
        folder.mkdir(parents=True, exist_ok=True)
        write_aside(folder / f"{self.count:02d}_{name}.txt", text.encode())
