"""streamrnn run"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, TextIO, cast

import numpy as np
import typer
from rich.progress import Progress

from streamrnn.cli import options as opt
from streamrnn.cli import signals, sound
from streamrnn.cli.talk import notify, talk
from streamrnn.engine import Engine
from streamrnn.errors import InputError
from streamrnn.ir.graph import Array
from streamrnn.ports import Ports
from streamrnn.stream import OnNonFinite, Stream, policy_of

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
    rate_mismatch: Annotated[
        str, typer.Option(metavar="HOW", help="Where a sound's rate is not the model's: resample, delay or ignore.")
    ] = "",
    model_rate: Annotated[
        int, typer.Option(min=0, metavar="HZ", help="Rate at which the model was trained, if its file does not say it.")
    ] = 0,
    bits: Annotated[str, typer.Option(help="Samples of a .wav result: 16, 24 or float.")] = "float",
) -> None:
    """Run a signal through a model.

    With - the answer to each line is written before the next line is read, so the command can stand in a live pipe.
    """
    if output is None and source != "-" and not source.endswith(".csv"):
        raise typer.BadParameter("say where the result goes: -o FILE, or -o - for csv on stdout", param_hint="-o")
    target = None if output in (None, "-") else Path(str(output))
    opt.spare(target, model, source)
    engine = opt.open_engine(model, how, notify)
    signals.check_result(target, engine, source)
    rates = sound.Rates(rate_mismatch, model_rate)
    _check_sound_options(source, target, rates, bits)
    policy_of(on_nonfinite)
    policy = cast(OnNonFinite, on_nonfinite)
    knobs = opt.pairs("--set", held or (), float, "a number (drive=0.7)")
    if engine.delay:
        frames = "1 input frame" if engine.delay == 1 else f"{engine.delay} input frames"
        talk().print(f"the output lags by {frames}; before that it is zero")
    if source == "-":
        stream = Stream(engine, on_nonfinite=policy)
        with open(target, "w") if target else contextlib.nullcontext(sys.stdout) as out:
            _live(engine, stream, knobs, steps, out)
        return
    work = _work(Path(source), engine, rates, channel, knobs, to_sound=_is_sound(target))
    streams = [Stream(work.engine, on_nonfinite=policy) for _ in work.tracks]
    inputs = [_checked(work.engine, track, steps) for track in work.tracks]
    if target is None:
        _print_rows(work.engine, streams[0], inputs[0])
        return
    results = [_whole(work.engine, stream, track) for stream, track in zip(streams, inputs, strict=True)]
    if work.played is None:
        signals.write_result(target, work.engine, results[0])
    else:
        samples, rate = work.played([next(iter(result.values())) for result in results])
        sound.write_sound(target, samples, rate, bits)
    mended = sum(stream.mended for stream in streams)
    if mended:
        talk().print(f"{mended} input frames were not finite ({on_nonfinite})")
    talk().print(f"{streams[0].steps} steps, written: {target}", markup=False)


def _is_sound(path: str | Path | None) -> bool:
    return path is not None and Path(path).suffix.lower() == ".wav"


def _check_sound_options(source: str, target: Path | None, rates: sound.Rates, bits: str) -> None:
    """Raises InputError where an option of sounds is given for something else."""
    if bits not in sound.BITS or (bits != "float" and not _is_sound(target)):
        raise InputError(f"--bits {bits}: a .wav result has 16, 24 or float")
    if (rates.mismatch or rates.model) and not _is_sound(source):
        raise InputError(f"{source}: --rate-mismatch and --model-rate belong to .wav files; this one has no sample rate")


@dataclass(frozen=True)
class Work:
    """What there is to run.

    engine: the one that runs it, perhaps with its state delayed.
    tracks: the inputs of each stream by name; several channels of a sound have a stream each.
    played: the outputs of all tracks -> (samples, rate), where the result is a sound.
    """

    engine: Engine
    tracks: list[dict[str, Array]]
    played: Callable[[list[Array]], tuple[Array, float]] | None = None


def _work(
    path: Path, engine: Engine, rates: sound.Rates, channel: int | None, knobs: dict[str, float], *, to_sound: bool
) -> Work:
    """Read an input file. Raises InputError, UnsupportedError, MissingExtraError."""
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    if not _is_sound(path):
        return Work(engine, [signals.read_frames(path, engine, knobs, channel)])
    constant = signals.held_frames(engine, knobs)
    port = signals.main_input(engine, constant)
    plan = sound.plan_sound(path, engine, rates, channel, knobs, to_sound=to_sound)
    tracks = [signals.with_held(path, {port.name: sound.frames_of(track, port)}, constant) for track in plan.tracks]
    return Work(plan.engine, tracks, partial(sound.played, plan, port) if to_sound else None)


def _checked(engine: Engine, track: dict[str, Array], steps: int | None) -> dict[str, Array]:
    """The first `steps` frames of a track, in the engine's types and shapes."""
    arrays = Ports(engine).arrays(track, steps=True)
    return {name: array[:steps] for name, array in zip(engine.inputs, arrays, strict=True)}


def _print_rows(engine: Engine, stream: Stream, frames: dict[str, Array]) -> None:
    """All outputs as csv on stdout."""
    print(",".join(signals.column_names(engine)))
    for block in _blocks(engine, stream, frames):
        for t in range(len(next(iter(block.values())))):
            print(signals.row_text([value[t] for value in block.values()]))


def _whole(engine: Engine, stream: Stream, frames: dict[str, Array]) -> dict[str, Array]:
    """Results of all steps by name."""
    blocks = list(_blocks(engine, stream, frames))
    return {name: np.concatenate([block[name] for block in blocks]) for name in engine.outputs}


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
