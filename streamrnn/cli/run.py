"""streamrnn run"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO, cast

import numpy as np
import typer
from rich.progress import Progress

from streamrnn.cli import options as opt
from streamrnn.cli import signals
from streamrnn.cli.talk import notify, talk
from streamrnn.engine import Engine
from streamrnn.errors import InputError
from streamrnn.ir.graph import Array
from streamrnn.stream import OnNonFinite, Ports, Stream

#: steps of one compiled block; the progress bar moves and Ctrl-C is heard between two of them
BLOCK = 4096


@opt.takes_conversion
def run(
    model: opt.Model,
    how: opt.Conversion,
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="A .wav, .npy, .npz or .csv file, or - for csv lines on stdin.")
    ],
    output: Annotated[str | None, typer.Option("-o", "--output", help="A .wav, .npy, .npz or .csv file, or - for csv.")] = None,
    held: opt.Held = None,
    channel: opt.Channel = None,
    on_nonfinite: Annotated[str, typer.Option(help="What NaN and Inf in the input do: pass, raise, hold or reset.")] = "pass",
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps.")] = None,
) -> None:
    """Run a signal through a model.

    With - the answer to each line is written before the next line is read, so the command can stand in a live pipe.
    """
    if output is None and source != "-" and not source.endswith(".csv"):
        raise typer.BadParameter("say where the result goes: -o FILE, or -o - for csv on stdout", param_hint="-o")
    target = None if output in (None, "-") else Path(str(output))
    opt.spare(target, model, source)
    engine = opt.open_engine(model, how, notify)
    signals.check_result(target, engine, live=source == "-")
    stream = Stream(engine, on_nonfinite=cast(OnNonFinite, on_nonfinite))
    knobs = opt.pairs("--set", held or (), float)
    if engine.delay:
        frames = "1 input frame" if engine.delay == 1 else f"{engine.delay} input frames"
        talk().print(f"the output lags by {frames}; before that it is zero")
    if source == "-":
        with open(target, "w") if target else contextlib.nullcontext(sys.stdout) as out:
            _live(engine, stream, knobs, steps, out)
        return
    path = Path(source)
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    read = signals.read_frames(path, engine, knobs, channel)
    checked = Ports(engine).arrays(read, steps=True)
    signal = {name: array[:steps] for name, array in zip(engine.inputs, checked, strict=True)}
    if target is None:
        print(",".join(signals.column_names(engine)))
        for block in _blocks(engine, stream, signal):
            for t in range(len(next(iter(block.values())))):
                print(signals.row_text([value[t] for value in block.values()]))
        return
    blocks = list(_blocks(engine, stream, signal))
    result = {name: np.concatenate([block[name] for block in blocks]) for name in engine.outputs}
    signals.write_result(target, engine, result, _rate(path, engine, result, signal))
    if stream.mended:
        talk().print(f"{stream.mended} input frames were not finite ({on_nonfinite})")
    talk().print(f"{stream.steps} steps, written: {target}", markup=False)


def _blocks(engine: Engine, stream: Stream, frames: dict[str, Array]) -> Iterator[dict[str, Array]]:
    """Results of one block after the other, with a progress bar on a terminal."""
    total = len(next(iter(frames.values())))
    console = talk()
    with Progress(console=console, transient=True, disable=not console.is_terminal or total <= BLOCK) as progress:
        task = progress.add_task(engine.name, total=total)
        for start in range(0, max(total, 1), BLOCK):
            part = {name: array[start : start + BLOCK] for name, array in frames.items()}
            result = stream.process(part)
            progress.advance(task, BLOCK)
            yield result if isinstance(result, dict) else {next(iter(engine.outputs)): result}


def _live(engine: Engine, stream: Stream, knobs: dict[str, float], steps: int | None, out: TextIO) -> None:
    """One csv line in, one csv line out, at once."""
    held = signals.held_frames(engine, knobs)
    port = signals.main_input(engine, held)
    for name, value in held.items():
        stream.inputs[name][...] = value
    view, answers = stream.inputs[port.name], list(stream.outputs.values())
    if not isinstance(sys.stdin, io.TextIOWrapper):
        raise InputError("stdin is closed; give a file, or pipe lines into the command")
    sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace")  # what is no text is no number either, and said so
    print(",".join(signals.column_names(engine)), file=out, flush=True)
    for frame in signals.csv_frames(iter(sys.stdin.readline, ""), port):
        view[...] = frame
        stream.step()
        print(signals.row_text(answers), file=out, flush=True)
        if steps is not None and stream.steps >= steps:
            return


def _rate(path: Path, engine: Engine, result: dict[str, Array], frames: dict[str, Array]) -> float | None:
    """Sample rate of the output, where the input has one."""
    if path.suffix.lower() != ".wav":
        return None
    rate = float(signals.soundfile().info(str(path)).samplerate)
    taken = max(array[0].size for array in frames.values()) if frames else 1
    given = next(iter(result.values()))
    return rate * (given[0].size if len(given) else 1) / taken
