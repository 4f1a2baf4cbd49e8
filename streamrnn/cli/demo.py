"""streamrnn demo: the three example models, from file to sound and picture."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich import box
from rich.table import Table

from streamrnn.cli.picture import Story, draw, drawing
from streamrnn.cli.sound import soundfile
from streamrnn.cli.talk import data, notify, talk
from streamrnn.engine import Engine
from streamrnn.errors import MissingExtraError, ModelFileError, StreamRNNError
from streamrnn.files import write_aside
from streamrnn.ir.graph import Array
from streamrnn.stream import Stream

#: samples of one block of the amp: 1.3 ms at 48 kHz
BLOCK = 64
VALIDATED_STEPS = 300
#: the drive knob turns from the first value to the second over the phrase
DRIVE = (0.2, 0.9)


@dataclass(frozen=True)
class Result:
    """One row of the table. step and oracle_step in microseconds, span: seconds of signal, took: seconds of computing."""

    name: str
    error: float
    delay: str
    step: float
    oracle_step: float
    span: float
    took: float


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the sound and the picture.")] = Path("demo_out"),
    examples: Annotated[Path, typer.Option(help="Folder with models/ and audio/.")] = Path("examples"),
) -> None:
    """Convert, prove and run the example models: a guitar amp, a speech detector, a sensor forecaster."""
    if not (examples / "models").is_dir():
        raise ModelFileError(f"{examples}/models: there is no such folder; run the demo in a checkout, or give --examples")
    began = time.perf_counter()
    wav = soundfile()
    drawing()  # what is missing is said before anybody waits
    output.mkdir(parents=True, exist_ok=True)
    results, story = [], Story()

    engine = _engine(examples / "models" / "amp.onnx")
    guitar, rate = wav.read(str(examples / "audio" / "guitar_48k.wav"), dtype="float32")
    played, took = _amp(engine, guitar)
    results.append(_measured("amp", examples, engine, rate, 1, len(guitar) / rate, took))
    sound = io.BytesIO()
    wav.write(sound, played, rate, format="WAV", subtype="PCM_16")
    write_aside(output / "guitar_amp.wav", sound.getvalue())
    story.guitar, story.amp, story.guitar_rate, story.drive = guitar, played, rate, DRIVE

    engine = _engine(examples / "models" / "vad.onnx")
    speech, rate = wav.read(str(examples / "audio" / "speech_16k.wav"), dtype="float32")
    hop = engine.inputs["audio"].shape[0]
    probability, took = _frame_by_frame(engine, speech[: len(speech) // hop * hop].reshape(-1, hop))
    results.append(_measured("vad", examples, engine, rate, hop, len(speech) / rate, took))
    # what leaves the stream at step t belongs to frame t - delay
    story.speech, story.speech_rate, story.hop = speech, rate, hop
    story.probability = probability["speech"][engine.delay :, 0]

    engine = _engine(examples / "models" / "sensor.onnx")
    table = examples / "audio" / "sensor_10hz.csv"
    readings = np.loadtxt(table, delimiter=",", skiprows=1, dtype=np.float32)
    with table.open() as lines:
        story.channels = lines.readline().strip().split(",")
    answers, took = _frame_by_frame(engine, readings)
    results.append(_measured("sensor", examples, engine, 10, 1, len(readings) / 10, took))
    story.readings, story.forecast, story.score = readings, answers["forecast"], answers["score"][:, 0]

    notify("drawing")
    draw(story, output / "demo.png")
    data().print(_table(results))
    data().print("step: one step from Python, beside onnxruntime's, both with the state fed back; realtime: signal / computing")
    data().print(f"listen to {output / 'guitar_amp.wav'}, look at {output / 'demo.png'}")
    talk().print(f"[dim]{time.perf_counter() - began:.0f} s in all[/]")


def _engine(path: Path) -> Engine:
    try:
        from streamrnn_converters import convert
    except ImportError as error:
        raise MissingExtraError(
            f"the demo needs the converters ({error}); pip install 'streamrnn[convert,audio,plot]'"
        ) from None
    notify(f"converting {path.name}")
    return Engine(convert(path), notify)


def _amp(engine: Engine, guitar: Array) -> tuple[Array, float]:
    """The guitar through the amp in blocks of 64 samples, the knob turning; seconds of computing."""
    notify(f"playing {len(guitar)} samples in blocks of {BLOCK}")
    stream = Stream(engine)
    drive = np.linspace(*DRIVE, len(guitar), dtype=np.float32)
    played, took = np.zeros(len(guitar), np.float32), 0.0
    for start in range(0, len(guitar), BLOCK):
        block = slice(start, start + BLOCK)
        began = time.perf_counter()
        played[block] = np.ravel(stream.process({"audio": guitar[block, None], "drive": drive[block, None]}))  # type: ignore[arg-type]
        took += time.perf_counter() - began
    return played / max(1.0, float(np.abs(played).max())), took


def _frame_by_frame(engine: Engine, frames: Array) -> tuple[dict[str, Array], float]:
    """Outputs [steps, ...] of single steps; seconds of computing."""
    notify(f"{engine.name}: {len(frames)} single steps")
    stream = Stream(engine)
    rows: dict[str, list[Array]] = {name: [] for name in engine.outputs}
    began = time.perf_counter()
    for frame in frames:
        result = stream.step(frame)
        for name, row in rows.items():
            row.append(result[name] if isinstance(result, dict) else result)
    took = time.perf_counter() - began
    return {name: np.stack(row) for name, row in rows.items()}, took


def _measured(name: str, examples: Path, engine: Engine, rate: int, hop: int, span: float, took: float) -> Result:
    """Validation and step times of one model. Raises StreamRNNError where onnxruntime disagrees."""
    from streamrnn_converters.bench import bench_against_onnxruntime
    from streamrnn_converters.validate import validate

    path = examples / "models" / f"{name}.onnx"
    notify(f"validating {name} against onnxruntime")
    report = validate(path, engine, steps=VALIDATED_STEPS)
    if not report.passed:
        raise StreamRNNError(f"{path}: onnxruntime disagrees; see `streamrnn validate {path}`")
    notify(f"measuring {name} beside onnxruntime")
    times = {t.way: t.p50 / 1000 for t in bench_against_onnxruntime(path, engine, 1600)}
    milliseconds = 1000 * engine.delay * hop / rate
    frames = "1 frame" if engine.delay == 1 else f"{engine.delay} frames"
    delay = f"{frames} ({milliseconds:g} ms)" if engine.delay else "none"
    worst = max(row.max_abs for row in report.rows)
    return Result(name, worst, delay, times["step(x)"], times["onnxruntime run"], span, took)


def _table(results: list[Result]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True)
    columns = ("model", "max error", "delay", "step", "onnxruntime", "ratio", "realtime")
    for k, column in enumerate(columns):
        table.add_column(column, justify="left" if k == 0 else "right", no_wrap=True)
    for r in results:
        times = f"{r.step:.1f} us", f"{r.oracle_step:.1f} us", f"{r.oracle_step / r.step:.0f}x"
        table.add_row(r.name, f"{r.error:.1e}", r.delay, *times, f"{r.span / r.took:.0f}x")
    return table
