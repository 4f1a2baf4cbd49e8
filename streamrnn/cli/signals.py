"""Signals in files: wav, npy, npz and csv to frames and back."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.cli.talk import say_warning
from streamrnn.engine import Engine, PortInfo
from streamrnn.errors import InputError, MissingExtraError
from streamrnn.files import write_aside
from streamrnn.ir.graph import Array


def soundfile() -> Any:
    """The soundfile module. Raises MissingExtraError."""
    try:
        import soundfile as module
    except ImportError:
        raise MissingExtraError("wav files need soundfile; pip install 'streamrnn[audio]'") from None
    return module


@dataclass(frozen=True)
class Audio:
    """Samples of one channel and their rate in Hz."""

    samples: Array
    rate: int


def main_input(engine: Engine, held: Mapping[str, float]) -> PortInfo:
    """The input that a signal goes to: the one that is not held constant. Raises InputError."""
    for name in held:
        if name not in engine.inputs:
            raise InputError(f"--set {name}: there is no input '{name}'; the inputs are {list(engine.inputs)}")
    free = [port for name, port in engine.inputs.items() if name not in held]
    if len(free) != 1:
        names = [port.name for port in free]
        raise InputError(f"the signal can go to any of the inputs {names}; hold the others with --set NAME=VALUE")
    return free[0]


def read_frames(
    path: Path, engine: Engine, held: Mapping[str, float] | None = None, channel: int | None = None
) -> dict[str, Array]:
    """Frames of every input, [steps, *frame shape] each, from a file. Raises InputError, MissingExtraError, OSError."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    held = dict(held or {})
    port = main_input(engine, held)
    if suffix == ".wav":
        array = frames_of(read_wav(path, channel, engine).samples, port)
    elif suffix == ".npy":
        array = _loaded(path)
    elif suffix == ".csv":
        array = _columns(path.read_text().splitlines(), port)
    else:
        raise InputError(f"{path}: signals are read from .wav, .npy, .npz and .csv files")
    return with_held(array, port, engine, held)


def with_held(array: Array, port: PortInfo, engine: Engine, held: Mapping[str, float]) -> dict[str, Array]:
    """The signal and the inputs that are held constant, by name."""
    frames: dict[str, Array] = {port.name: array}
    for name, value in held.items():
        other = engine.inputs[name]
        frames[name] = np.full((len(array), *other.shape), value, other.dtype)
    return frames


def _loaded(path: Path) -> Array:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except ValueError as error:
        raise InputError(f"{path}: not a readable .npy file ({error})") from None


def read_wav(path: Path, channel: int | None, engine: Engine) -> Audio:
    """One channel of a sound file. Warns where its rate is not the model's. Raises InputError."""
    module = soundfile()
    try:
        samples, rate = module.read(str(path), dtype="float32", always_2d=True)
    except module.LibsndfileError as error:
        raise InputError(f"{path}: not a readable sound file ({error})") from None
    count = samples.shape[1]
    if channel is None and count > 1:
        raise InputError(f"{path}: has {count} channels, the model takes one; choose it with --channel 0 .. {count - 1}")
    if channel is not None and not 0 <= channel < count:
        raise InputError(f"{path}: has no channel {channel}; there are {count}, counted from 0")
    wanted = engine.meta.get("sample_rate")
    if isinstance(wanted, int) and wanted != rate:
        say_warning(f"{path} has {rate} Hz, the model was trained at {wanted} Hz; it runs as if they were the same")
    return Audio(np.ascontiguousarray(samples[:, channel or 0]), int(rate))


def frames_of(samples: Array, port: PortInfo) -> Array:
    """Samples as frames of an input; the last frame is filled up with zeros."""
    size = int(np.prod(port.shape, dtype=np.int64))
    steps = -(-len(samples) // size)
    padded = np.zeros(steps * size, port.dtype)
    padded[: len(samples)] = samples
    return padded.reshape(steps, *port.shape)


def parse_line(line: str, port: PortInfo) -> Array:
    """One csv line as one frame. Raises InputError."""
    values = [part for part in line.replace(";", ",").split(",") if part.strip()]
    try:
        frame = np.array([float(v) for v in values], port.dtype)
    except ValueError:
        raise InputError(f"'{line.strip()[:60]}' is not a line of numbers") from None
    size = int(np.prod(port.shape, dtype=np.int64))
    if frame.size != size:
        raise InputError(f"a line has {frame.size} numbers, input '{port.name}' takes {size}")
    return frame.reshape(port.shape)


def is_header(line: str) -> bool:
    """Whether a csv line is a header: none of its fields is a number."""
    return all(not _is_number(part) for part in line.strip().split(","))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _columns(lines: Sequence[str], port: PortInfo) -> Array:
    rows = [line for line in lines if line.strip()]
    if rows and is_header(rows[0]):
        rows = rows[1:]
    if not rows:
        return np.zeros((0, *port.shape), port.dtype)
    return np.stack([parse_line(row, port) for row in rows])


def column_names(engine: Engine) -> list[str]:
    """Header of a csv of all outputs: the name, with an index where the output has several elements."""
    names = []
    for port in engine.outputs.values():
        size = int(np.prod(port.shape, dtype=np.int64))
        names += [port.name] if size == 1 else [f"{port.name}.{i}" for i in range(size)]
    return names


def row_text(values: Sequence[Array]) -> str:
    """One csv line of all outputs of a step."""
    return ",".join(f"{v:.9g}" for value in values for v in np.ravel(value))


def write_result(path: Path, engine: Engine, result: Mapping[str, Array], rate: float | None) -> None:
    """Outputs [steps, ...] to a file of the kind that its name says. Raises InputError, OSError."""
    suffix = path.suffix.lower()
    buffer = io.BytesIO()
    if suffix == ".csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(column_names(engine))
        steps = len(next(iter(result.values())))
        text.writelines(row_text([value[t] for value in result.values()]) + "\n" for t in range(steps))
        write_aside(path, text.getvalue().encode())
        return
    if suffix == ".npz":
        arrays: dict[str, Any] = dict(result)
        np.savez(buffer, **arrays)
    elif suffix == ".npy":
        np.save(buffer, _single(path, result))
    elif suffix == ".wav":
        samples = _single(path, result)
        if rate is None or rate != int(rate):
            raise InputError(
                f"{path}: {'the input has no sample rate' if rate is None else f'{rate} Hz is no whole rate'}; write .csv"
            )
        soundfile().write(buffer, np.ravel(samples), int(rate), format="WAV", subtype="FLOAT")
    else:
        raise InputError(f"{path}: results are written to .wav, .npy, .npz and .csv files")
    write_aside(path, buffer.getvalue())


def _single(path: Path, result: Mapping[str, Array]) -> Array:
    if len(result) != 1:
        raise InputError(f"{path}: the model has the outputs {list(result)}; write them to .npz or .csv")
    return next(iter(result.values()))
