"""streamrnn inspect"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from streamrnn.bench import random_frames
from streamrnn.cli import options as opt
from streamrnn.cli.talk import data, initial, notify, number, print_findings, print_rows, spread, summary
from streamrnn.engine import Engine
from streamrnn.ir.graph import Array
from streamrnn.plan import each
from streamrnn.stream import Stream

#: shown with the summary, or not worth a line
_SHOWN = {
    "mode",
    "mode_reason",
    "pairs",
    "sample_rate",
    "frames",
    "receptive_field",
    "source",
    "given",
    "found",
    "time_axes",
    "weights",
}
_SHOWN |= {"bind", "lookahead", "lint", "fixes"}
#: in frame mode the length of the clip means nothing
_CLIP = {"shapes"}


@opt.takes_conversion
def inspect(
    model: opt.Model,
    how: opt.Conversion,
    steps: Annotated[
        int, typer.Option(min=0, help="Run so many steps of noise and show the range of each state after them.")
    ] = 0,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the compiled step, then a block of steps: one line per call.")
    ] = False,
) -> None:
    """Show what a model is as a stream: ops, shapes, the state map with its evidence, delay, memory."""
    engine = opt.open_engine(model, how, notify)
    out = data()
    if plan:
        for line in engine.plan.lines():
            out.print(line, markup=False)
        if engine.plan.block:
            out.print(f"\n{engine.plan.block.steps} steps at once, in a block:", markup=False)
            for line in engine.plan.block.plan.lines():
                out.print(line, markup=False)
        return
    field = engine.receptive_field
    rows = [("model", f"{engine.name} ({engine.fingerprint[:12]})"), *summary(engine)]
    rows.append(("receptive field", "unbounded (recurrent)" if field is None else f"{field} frames"))
    rows.append(("arena", number(engine.plan.arena_bytes)))
    rows.append(("calls per step", str(sum(1 for _ in each((*engine.plan.calls, *engine.plan.commit))))))
    ops = Counter(node.op for node in engine.graph.all_nodes())
    rows.append(("ops", ", ".join(f"{op} x{n}" if n > 1 else op for op, n in sorted(ops.items()))))
    for key, value in engine.meta.items():
        hidden = _SHOWN | (_CLIP if engine.meta.get("mode") == "frame" else set())
        if key not in hidden and value not in ("", {}, [], 0, None):
            rows.append((key.replace("_", " "), str(value)))
    print_rows(out, rows)
    if engine.graph.states:
        out.print(_states(engine, steps))
    print_findings(out, engine.meta)


def _states(engine: Engine, steps: int) -> Table:
    next_value = {source: target for source, target, _ in _pairs(engine)}
    table = Table(box=box.SIMPLE_HEAD, title="states", title_justify="left")
    for column in ("state", "type", "kind", "initial value", "next value", "evidence"):
        table.add_column(column)
    later: dict[str, Array] = {}
    if steps:
        table.add_column(f"after {steps} steps of noise")
        stream = Stream(engine)
        stream.process(random_frames(engine, steps))
        later = stream.state()
    for state in engine.graph.states:
        target = next_value.get(state.name, state.write)
        row = (state.name, str(engine.graph.types[state.read]), state.kind, initial(state.init), target, state.evidence)
        table.add_row(*row, *([spread(later[state.name])] if steps else []))
    return table


def _pairs(engine: Engine) -> list[tuple[str, str, str]]:
    found = engine.meta.get("pairs", [])
    return [tuple(row) for row in found] if isinstance(found, list) else []
