"""Signals in files: wav, npy, npz and csv to frames and back."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.cli.sound import frames_of, one_channel, read_sound, warn_of_rate
from streamrnn.engine import Engine, PortInfo
from streamrnn.errors import InputError
from streamrnn.files import write_aside
from streamrnn.ir.graph import Array


def main_input(engine: Engine, held: Mapping[str, Array]) -> PortInfo:
    """The input that a signal goes to: the one that is not held constant. Raises InputError."""
    free = [port for name, port in engine.inputs.items() if name not in held]
    if not free:
        raise InputError(f"all of the inputs {list(held)} are held with --set; none is left for the signal")
    if len(free) > 1:
        names = [port.name for port in free]
        raise InputError(f"the signal can go to any of the inputs {names}; hold the others with --set NAME=VALUE")
    return free[0]


def read_frames(path: Path, engine: Engine, knobs: Mapping[str, float], channel: int | None) -> dict[str, Array]:
    """Frames of every input, [steps, *frame shape] each, from a file. Raises InputError, MissingExtraError, OSError.

    A sound file gives one channel, and runs at its own rate whatever the model's is; the user is told.
    """
    suffix = path.suffix.lower()
    held = held_frames(engine, knobs)
    if suffix == ".npz":
        frames = _loaded(path)
        twice = [name for name in held if name in frames]
        if twice:
            raise InputError(f"--set {twice[0]}: {path} holds that input already")
    else:
        port = main_input(engine, held)
        if suffix == ".wav":
            sound = read_sound(path)
            warn_of_rate(path, sound.rate, engine)
            frames = {port.name: frames_of(one_channel(path, sound, channel), port)}
        elif suffix == ".npy":
            frames = {port.name: _loaded(path)[""]}
        elif suffix == ".csv":
            frames = {port.name: _columns(path, port)}
        else:
            raise InputError(f"{path}: signals are read from .wav, .npy, .npz and .csv files")
    return with_held(path, frames, held)


def with_held(path: Path, frames: Mapping[str, Array], held: Mapping[str, Array]) -> dict[str, Array]:
    """`frames` and, as long as they are, the inputs that are held constant. Raises InputError where there are none."""
    steps = max((len(array) for array in frames.values() if array.ndim), default=0)
    if not steps:
        raise InputError(f"{path}: there is not one frame in it")
    return {**frames, **{name: np.stack([frame] * steps) for name, frame in held.items()}}


def held_frames(engine: Engine, held: Mapping[str, float]) -> dict[str, Array]:
    """One frame of each input that is held constant. Raises InputError."""
    found = {}
    for name, value in held.items():
        if name not in engine.inputs:
            raise InputError(f"--set {name}: there is no input '{name}'; the inputs are {list(engine.inputs)}")
        port = engine.inputs[name]
        found[name] = np.full(port.shape, _typed([value], port, f"--set {name}"), port.dtype)
    return found


def _typed(values: Sequence[float], port: PortInfo, where: str) -> Array:
    """Numbers in an input's element type. Raises InputError where one does not fit."""
    exact = np.array(values, np.float64)
    with np.errstate(all="ignore"):
        array = exact.astype(port.dtype)
    lost = np.isinf(array) & np.isfinite(exact) if port.dtype.kind == "f" else array != exact
    if lost.any():
        raise InputError(f"{where}: {exact[lost][0]:g} does not fit input '{port.name}' of {port.dtype}")
    return array


def _loaded(path: Path) -> dict[str, Array]:
    """Arrays of a .npz file by name; the one of a .npy file has the name ""."""
    kind = path.suffix.lower()
    with path.open("rb") as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            found = {"": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
        except Exception as error:  # whatever the bytes lead NumPy, zipfile and their parsers to
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: not a readable {kind} file ({reason})") from None
    if isinstance(loaded, np.ndarray) != (kind == ".npy") or not all(isinstance(array, np.ndarray) for array in found.values()):
        raise InputError(f"{path}: not a {kind} file of arrays, whatever its name says")
    return found


def csv_frames(lines: Iterable[str], port: PortInfo) -> Iterator[Array]:
    """One frame for each line of numbers, as the lines come; blank lines and a header in front are passed over.

    Raises InputError with the number of the line.
    """
    first = True
    for number, line in enumerate(lines, 1):
        cells = _cells(line)
        if cells == [""]:
            continue
        header, first = first and _is_header(cells), False
        if not header:
            yield _frame(cells, port, f"line {number}")


def _cells(line: str) -> list[str]:
    """Cells of a csv line; they are apart by ";" where it has one, else by ","."""
    return [cell.strip().strip('"') for cell in line.split(";" if ";" in line else ",")]


def _is_header(cells: Sequence[str]) -> bool:
    """Whether there are words in the line and no number. (1,5 with a decimal comma is neither.)"""
    return any(cell[:1].isalpha() or cell[:1] == "_" for cell in cells) and all(_number(cell) is None for cell in cells)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _frame(cells: Sequence[str], port: PortInfo, where: str) -> Array:
    values = []
    for column, cell in enumerate(cells, 1):
        value = _number(cell)
        if value is None:
            what = f"'{cell[:40]}' is not a number" if cell else "there is none; a missing value is written nan"
            raise InputError(f"{where}, column {column}: {what}")
        values.append(value)
    size = int(np.prod(port.shape, dtype=np.int64))
    if len(values) != size:
        raise InputError(f"{where} has {len(values)} numbers, input '{port.name}' takes {size}")
    return _typed(values, port, where).reshape(port.shape)


def _columns(path: Path, port: PortInfo) -> Array:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text in UTF-8; save it as .csv in UTF-8") from None
    try:
        frames = list(csv_frames(lines, port))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return np.stack(frames) if frames else np.zeros((0, *port.shape), port.dtype)


def column_names(engine: Engine) -> list[str]:
    """Header of a csv of all outputs: the name, with an index where the output has several elements."""
    names = []
    for port in engine.outputs.values():
        size = int(np.prod(port.shape, dtype=np.int64))
        names += [port.name] if size == 1 else [f"{port.name}.{i}" for i in range(size)]
    return names


def row_text(values: Sequence[Array]) -> str:
    """One csv line of all outputs of a step."""
    return ",".join(f"{v:.9g}" if value.dtype.kind == "f" else str(int(v)) for value in values for v in np.ravel(value))


_RESULTS = (".wav", ".npy", ".npz", ".csv")


def check_result(path: Path | None, engine: Engine, source: str) -> None:
    """InputError where results of `source` ("-" for stdin) could not be written to `path` (None for stdout)."""
    if path is None:
        return
    suffix = path.suffix.lower()
    if source == "-" and suffix != ".csv":
        raise InputError(f"{path}: answers to lines on stdin are written line by line; give -o FILE.csv")
    if suffix not in _RESULTS:
        raise InputError(f"{path}: results are written to .wav, .npy, .npz and .csv files")
    if suffix in (".wav", ".npy") and len(engine.outputs) != 1:
        raise InputError(f"{path}: the model has the outputs {list(engine.outputs)}; write them to .npz or .csv")
    if suffix == ".wav" and not source.lower().endswith(".wav"):
        raise InputError(f"{path}: the input has no sample rate; write .csv, .npy or .npz")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: there is no such folder")


def write_result(path: Path, engine: Engine, result: Mapping[str, Array]) -> None:
    """Outputs [steps, ...] to a .csv, .npy or .npz file that `check_result` has let pass. Raises OSError."""
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
    else:
        np.save(buffer, next(iter(result.values())))
    write_aside(path, buffer.getvalue())
