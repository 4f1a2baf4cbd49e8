"""Whether the streamed model is still the trained model: the file's oracle against the compiled step.

Every signal goes through the engine by single steps, by blocks and by chunks of random size, which must give the same bits;
the single steps are compared with the oracle: onnxruntime on an ONNX file, a float64 formula on an audio format (`oracles.py`).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from streamrnn import Engine
from streamrnn.errors import InputError
from streamrnn.ir.graph import Array
from streamrnn.ir.storage import storage_lines
from streamrnn_converters.compare import LOUD_ALLOWANCE, UNIT_SHARE, floor
from streamrnn_converters.laws import Outcome
from streamrnn_converters.oracles import Oracle, oracle_for
from streamrnn_converters.report import Culprit, Draw, Report
from streamrnn_converters.rows import Row
from streamrnn_converters.signals import LONG, Signal, built_in_signals, given_signal, long_signal

_PACKAGES = ("streamrnn", "numpy", "numba", "llvmlite", "onnx", "onnxruntime")


def validate(
    path: str | Path,
    engine: Engine,
    *,
    steps: int = 1000,
    inputs: Mapping[str, Array] | None = None,
    seed: int = 0,
    built_in: bool = True,
    notify: Callable[[str], None] = lambda text: None,
) -> Report:
    """Compare `engine` with the oracle of the file it was converted from.

    steps:  length of each built-in signal: random, silent, loud, impulses.
    inputs: a further signal, one array per input of the engine; see `given_signal` for its shapes.
    seed:   of the random signals and chunk sizes.
    built_in: False for `inputs` alone.
    notify: told what is going on where it takes long.

    Tolerances are 1e-4 * max(1, max |y|) for outputs and 5e-4 * max(1, max |s|) for states, at least a unit in the last place
    (2**-10 for float16), and zero for integers and bools. Where a quantiser of the file makes an output, up to
    `compare.UNIT_SHARE` of its elements may be exactly one unit of its grid off, since the last bit decides a tie. Beyond them,
    a comparison of an ONNX file without quantisers is judged by the file in float64, see `referee`, on which at most
    `float64.BUDGET` seconds of CPU time are spent. Where that does not decide, the comparison fails, unless the oracle itself
    answers so much to a unit in the last place of the input, or to another way of rounding in front of quantisers. Outputs and
    states that depend on random numbers are judged by their distribution instead, see `draws`.

    A model whose weights are stored in fewer bits has another law: every output and state keeps a ratio of signal to noise of
    `compare.FLOORS`, 40 dB for int8 and 60 dB for float16 (`compare.LOUD_ALLOWANCE` less under the loud signal), or stays
    within those tolerances; one more signal, random, has at least `signals.LONG` steps.

    Raises UnsupportedError where onnxruntime cannot run an ONNX file, ModelFileError where an audio file cannot be read,
    InputError where `inputs` does not fit, MissingExtraError without onnxruntime.
    """
    if steps < 1:
        raise InputError(f"{steps} steps are nothing to compare; give at least 1")
    oracle = oracle_for(path, engine, seed, notify)
    signals = built_in_signals(engine, steps, seed) if built_in else []
    if inputs is not None:
        signals.append(given_signal(engine, inputs))
    least = floor(engine.meta)
    if least is not None and built_in:
        signals.append(long_signal(engine, max(steps, LONG), seed))
    outcomes = [(signal, _run(oracle, signal, least, noise=index == 0)) for index, signal in enumerate(signals)]
    draws = tuple(draw for signal in signals for draw in oracle.draws(signal))
    return _report(path, engine, oracle, [*outcomes, *oracle.own_tests()], draws, steps, seed)


def _run(oracle: Oracle, signal: Signal, least: float | None, *, noise: bool) -> Outcome:
    """A model that has to keep `least` dB is judged by that alone. Else, where the tolerance is left, a second run measures how
    far the oracle is from itself on that signal."""
    if least is not None:
        outcome = oracle.run(signal, noise=False)
        for track in outcome.tracks:
            track.floor = least - (LOUD_ALLOWANCE if signal.name == "loud" else 0.0)
        return outcome
    outcome = oracle.run(signal, noise=noise)
    if all(track.row(signal.name).passed for track in outcome.tracks):
        return outcome
    outcome = outcome if noise else oracle.run(signal, noise=True)
    oracle.appeal(signal, outcome)
    return outcome


def _report(
    path: str | Path,
    engine: Engine,
    oracle: Oracle,
    outcomes: list[tuple[Signal, Outcome]],
    draws: tuple[Draw, ...],
    steps: int,
    seed: int,
) -> Report:
    notes = list(oracle.notes)
    tracks = [(signal, track) for signal, outcome in outcomes for track in outcome.tracks if track.steps]
    for _, outcome in outcomes:
        notes += outcome.notes
    rows = tuple(track.row(signal.name) for signal, track in tracks)
    for row in rows:
        if row.nonfinite:
            notes.append(f"signal '{row.signal}': {row.kind} '{row.name}' has {row.nonfinite} NaN or Inf in {oracle.name}")
        if row.ruling is not None:
            notes.append(f"signal '{row.signal}': {row.kind} '{row.name}' {_told(row, oracle.name)}")
        if row.one_off:
            notes.append(
                f"signal '{row.signal}': {row.one_off:.2%} of the elements of {row.kind} '{row.name}' are one unit off "
                f"({row.unit:.3g}, the grid of {row.grid}), where a float amid two steps was rounded; up to {UNIT_SHARE:.0%} "
                f"pass"
            )
        elif row.undecided:
            notes.append(
                f"signal '{row.signal}': {row.kind} '{row.name}' differs by {row.max_abs:.2e}, and {oracle.name} by "
                f"{row.noise:.2e} from itself, {oracle.noise}; the signal decides nothing"
            )
    return Report(
        model=str(path),
        oracle=oracle.name,
        noise_of=oracle.noise,
        fingerprint=engine.fingerprint,
        versions=versions(),
        mode=str(engine.meta.get("mode", "frame" if engine.graph.streams else "window")),
        mode_reason=str(engine.meta.get("mode_reason", "")),
        law=oracle.text,
        steps=steps,
        seed=seed,
        frames=engine.frames,
        delay=engine.delay,
        receptive_field=engine.receptive_field,
        state_bytes=engine.state_bytes,
        weights_bytes=engine.weights_bytes,
        storage=tuple(storage_lines(engine.meta)),
        rows=rows,
        draws=draws,
        chunkings=tuple(outcome.chunking for _, outcome in outcomes),
        excluded=dict(oracle.excluded),
        notes=tuple(notes),
        culprit=None if engine.meta.get("weights") else _culprit(oracle, outcomes),
        curves=tuple(c for signal, t in tracks if t.kind == "output" and (c := t.curve(signal.name)) is not None),
    )


def _told(row: Row, oracle: str) -> str:
    assert row.ruling is not None
    ends = {
        "engine": "the engine is right",
        "onnxruntime": f"{oracle} is right",
        "neither": "that decides nothing",
        "nobody": f"that is not to be believed, because it disagrees with {oracle} before the engine does",
    }
    return (
        f"is {row.max_abs:.2e} from {oracle} (tolerance {row.tolerance:.2e}); from the file in float64, the engine is at most "
        f"{row.ruling.engine:.2e} off, {oracle} {row.ruling.oracle:.2e}: {ends[row.ruling.right]}"
    )


def _culprit(oracle: Oracle, outcomes: list[tuple[Signal, Outcome]]) -> Culprit | None:
    """Look into the signal that failed first."""
    failed = [
        (row.first_bad, k)
        for k, (signal, outcome) in enumerate(outcomes)
        for track in outcome.tracks
        if (row := track.row(signal.name)).first_bad is not None
    ]
    if not failed:
        return None
    step, k = min(failed)
    return oracle.locate(outcomes[k][0], step)


def versions() -> dict[str, str]:
    """Versions of what the result depends on, and the processor."""
    import llvmlite.binding as llvm

    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return {**found, "python": platform.python_version(), "CPU": f"{platform.machine()} {llvm.get_host_cpu_name()}"}
