"""streamrnn fit"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from streamrnn.cli import options as opt
from streamrnn.cli.talk import data, notify, number
from streamrnn.engine import Engine
from streamrnn.errors import BindingError
from streamrnn.export.boards import BOARDS, Board, find_board
from streamrnn.export.compile import object_code, plan_for
from streamrnn.export.fit import FITS, NOT, Fit, Model, demand
from streamrnn.export.interface import Interface
from streamrnn.export.objects import text_bytes
from streamrnn.export.pipeline import loop_cycles
from streamrnn.export.roofline import host_board
from streamrnn.export.targets import HOST, Target, find_target
from streamrnn.files import write_aside
from streamrnn.plan import StepPlan

_COLOURS = {FITS: "green", NOT: "red"}


@opt.takes_conversion
def fit(
    model: opt.Model,
    how: opt.Conversion,
    target: Annotated[str, typer.Option(help=f"{', '.join(BOARDS)}, or {HOST}, which is measured.")] = HOST,
    rate: Annotated[
        float | None, typer.Option(help="Samples per second; by default the model's sample rate.", show_default=False)
    ] = None,
    block: Annotated[
        int | None, typer.Option(help="Samples of one callback; by default those of one step.", show_default=False)
    ] = None,
    hop: Annotated[
        int | None,
        typer.Option(help="Samples that one step takes; by default what the model says, else its frames.", show_default=False),
    ] = None,
    as_json: Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Write the answer as JSON.")] = None,
) -> None:
    """Say whether a model is small and fast enough for a machine: memory, an estimate of time, the largest size that fits.

    Exit code 0 where it fits, 1 where it does not or where the estimate is too close to the deadline to tell.
    """
    opt.spare(as_json, model)
    chosen = find_target(target)
    board = None if chosen.name == HOST else find_board(chosen.name)
    engine = opt.open_engine(model, how, notify)
    samples = hop if hop is not None else _hop(engine)
    wanted = demand(_rate(model, engine, rate), samples if block is None else block, samples)
    if board is None:
        notify("measuring this machine")
        board = host_board()
    plan = plan_for(engine.plan, chosen)
    code = _object(engine, plan, chosen)
    model_there = Model(plan, text_bytes(code), loop_cycles(plan, code, chosen, board.core) if board.core else None)
    answer, method = model_there.fit(board, wanted), _method(model_there, board)
    if as_json:
        text = json.dumps({"model": str(model), "method": method, **_figures(answer)}, indent=2)
        if as_json == "-":
            print(text)
        else:
            write_aside(Path(as_json), text.encode())
    if as_json != "-":
        data().print(_table(answer, method))
        data().print(f"[bold {_COLOURS.get(answer.verdict, 'yellow')}]{_sentence(answer)}[/]")
    if answer.verdict != FITS:
        raise typer.Exit(1)


def _hop(engine: Engine) -> int:
    """Samples of one step, as far as the model says."""
    hop = engine.meta.get("hop", 1)
    return engine.frames * (hop if isinstance(hop, int) else 1)


def _rate(model: Path, engine: Engine, given: float | None) -> float:
    rate = engine.meta.get("sample_rate") if given is None else given
    if not isinstance(rate, int | float):
        raise BindingError(f"{model}: it does not say at which rate its samples come; give --rate (samples per second)")
    return rate


def _object(engine: Engine, plan: StepPlan, target: Target) -> bytes:
    """The object file of the model's library for a target."""
    interface = Interface("model", plan, "", True, target.pointer_bytes, target.has_system)
    return object_code(plan, interface, target, {node.name: node.op for node in engine.graph.all_nodes()}, notify)


def _method(model: Model, board: Board) -> str:
    """How the time was estimated, in words."""
    rates = "measured" if board.source == "measured" else "published"
    text = f"bytes and operations of each kernel call at {rates} rates"
    return f"multiply-adds by llvm-mca's model of {board.core}, the rest from {text}" if model.loops else text


def _figures(answer: Fit) -> dict[str, Any]:
    """The answer for programs: bytes, nanoseconds, numbers of operations."""
    board, load, need = answer.board, answer.load, answer.need
    return {
        "target": board.name, "verdict": answer.verdict, "time": answer.time, "memory": answer.memory,
        "machine": board.what, "source": board.source, "uncertainty": answer.uncertainty,
        "rate": answer.demand.rate, "block": answer.demand.block, "hop": answer.demand.hop, "steps": answer.demand.steps,
        "deadline_ns": answer.demand.deadline, "callback_ns": need.nanoseconds, "step_ns": load.nanoseconds,
        "flash_bytes": need.flash, "code_bytes": answer.code, "ram_bytes": need.ram,
        "flash_available": board.flash, "ram_available": board.ram,
        "weight_bytes_per_step": load.weight_bytes, "moved_bytes_per_step": load.moved_bytes,
        "multiply_adds_per_step": load.multiply_adds, "other_operations_per_step": load.operations,
        "hidden": answer.hidden, "largest_hidden": answer.largest,
    }  # fmt: skip


def _table(answer: Fit, method: str) -> Table:
    board, wanted, load, need = answer.board, answer.demand, answer.load, answer.need
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    flash = f" of {number(board.flash)}" if board.flash else ", in RAM"
    asked = f"{_some(wanted.block, 'sample')} at {wanted.rate:g} Hz, {_some(wanted.steps, 'step')}"
    rows = [
        ("machine", board.what),
        ("flash", f"{number(need.flash)}{flash}: code {number(answer.code)}, weights {number(need.flash - answer.code)}"),
        ("RAM", f"{number(need.ram)} a stream of {number(board.ram)}"),
        ("bytes per step", f"{number(round(load.weight_bytes))} of weights read, {number(round(load.moved_bytes))} copied"),
        ("arithmetic per step", f"{_count(load.multiply_adds)} multiply-adds, {_count(load.operations)} other operations"),
        ("time per step", f"about {_time(load.nanoseconds)}"),
        ("callback", f"{asked}: about {_time(need.nanoseconds)}"),
        ("deadline", _time(wanted.deadline)),
        ("uncertainty", f"a factor of {answer.uncertainty:g} either way; {method}"),
        ("figures", board.source),
        ("largest hidden size", _largest(answer)),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _largest(answer: Fit) -> str:
    if answer.largest is None:
        return "no recurrent layer"
    if answer.largest == 0:
        return f"none fits (this model: {answer.hidden})"
    return f"{answer.largest} (this model: {answer.hidden}; all recurrent layers wider by one factor)"


def _sentence(answer: Fit) -> str:
    """The verdict in one line."""
    board, wanted, need = answer.board, answer.demand, answer.need
    time = f"a callback takes about {_time(need.nanoseconds)} of {_time(wanted.deadline)}"
    if answer.memory == NOT:
        return f"does not fit {board.name}: it needs {number(need.flash)} for code and weights and {number(need.ram)} of RAM"
    if answer.verdict == FITS:
        return f"fits {board.name}: {time}, at most {_time(need.nanoseconds * answer.uncertainty)}"
    if answer.verdict == NOT:
        return f"does not fit {board.name}: {time}, at least {_time(need.nanoseconds / answer.uncertainty)}"
    return f"too close to tell on {board.name}: {time}, within a factor of {answer.uncertainty:g}; measure it there"


def _some(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _count(number_: float) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number_ >= size:
            return f"{number_ / size:.3g}{unit}"
    return f"{number_:.0f}"


def _time(nanoseconds: float) -> str:
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"
