"""Whether the streamed model is still the trained model: onnxruntime on the original file against the compiled step.

Every signal goes through the engine by single steps, by blocks and by chunks of random size, which must give the same bits;
the single steps are compared with onnxruntime. How steps correspond to calls of the file is in `laws.py`.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from streamrnn import Engine
from streamrnn.errors import InputError, UnsupportedError
from streamrnn.ir.graph import Array, Graph
from streamrnn.ir.op import get_op
from streamrnn_converters.draws import judge
from streamrnn_converters.laws import Law, Outcome, choose_law
from streamrnn_converters.locate import locate
from streamrnn_converters.oracle import Session
from streamrnn_converters.report import Culprit, Draw, Report
from streamrnn_converters.signals import Signal, built_in_signals, given_signal

_PACKAGES = ("streamrnn", "numpy", "numba", "llvmlite", "onnx", "onnxruntime")


def validate(
    path: str | Path,
    engine: Engine,
    *,
    steps: int = 1000,
    inputs: Mapping[str, Array] | None = None,
    seed: int = 0,
) -> Report:
    """Compare `engine` with onnxruntime on the ONNX file it was converted from.

    steps:  length of each built-in signal: random, silent, loud, impulses.
    inputs: a further signal, one array per input of the engine; see `given_signal` for its shapes.
    seed:   of the random signals and chunk sizes.

    Tolerances are 1e-4 * max(1, max |y|) for outputs and 5e-4 * max(1, max |s|) for states, zero for integers and bools. Beyond
    them a comparison fails, unless onnxruntime itself answers so much to a unit in the last place of the input. Outputs and
    states that depend on random numbers are judged by their distribution instead, see `draws`.

    Raises UnsupportedError where onnxruntime cannot run the file, InputError where `inputs` does not fit,
    MissingExtraError without onnxruntime.
    """
    if steps < 1:
        raise InputError(f"{steps} steps are nothing to compare; give at least 1")
    notes: list[str] = []
    session = Session(path, notify=notes.append)
    excluded = {name: "it is no output of the file" for name in engine.outputs if name not in session.outputs}
    random = tuple(name for name in random_results(engine.graph) if name not in excluded)
    law = choose_law(engine, session, _other(path, session, notes), seed, excluded, random)
    signals = built_in_signals(engine, steps, seed)
    if inputs is not None:
        signals.append(given_signal(engine, inputs))
    outcomes = [(signal, _run(law, signal, noise=index == 0)) for index, signal in enumerate(signals)]
    draws = tuple(draw for signal in signals for draw in judge(law, signal, random)) if random else ()
    return _report(path, law, outcomes, draws, notes, steps)


def _run(law: Law, signal: Signal, *, noise: bool) -> Outcome:
    """Where the tolerance is left, a second run measures how far onnxruntime is from itself on that signal."""
    outcome = law.run(signal, noise=noise)
    if noise or all(track.row(signal.name).passed for track in outcome.tracks):
        return outcome
    return law.run(signal, noise=True)


def _other(path: str | Path, session: Session, notes: list[str]) -> Session:
    """The file without graph optimisations, to measure onnxruntime against itself."""
    try:
        return Session(path, optimise=False)
    except UnsupportedError as error:
        notes.append(f"onnxruntime runs the file with its graph optimisations alone: {error}")
        return session


def _report(
    path: str | Path,
    law: Law,
    outcomes: list[tuple[Signal, Outcome]],
    draws: tuple[Draw, ...],
    notes: list[str],
    steps: int,
) -> Report:
    engine = law.engine
    tracks = [(signal, track) for signal, outcome in outcomes for track in outcome.tracks if track.steps]
    for _, outcome in outcomes:
        notes += outcome.notes
    rows = tuple(track.row(signal.name) for signal, track in tracks)
    for row in rows:
        if row.nonfinite:
            notes.append(f"signal '{row.signal}': {row.kind} '{row.name}' has {row.nonfinite} NaN or Inf in onnxruntime")
        if row.undecided:
            notes.append(
                f"signal '{row.signal}': {row.kind} '{row.name}' differs by {row.max_abs:.2e}, and onnxruntime by "
                f"{row.noise:.2e} from itself once the input is moved by a unit in the last place; the signal decides nothing"
            )
    return Report(
        model=str(path),
        fingerprint=engine.fingerprint,
        versions=versions(),
        mode=law.view.mode,
        mode_reason=str(engine.meta.get("mode_reason", "")),
        law=law.text,
        steps=steps,
        seed=law.seed,
        frames=engine.frames,
        delay=engine.delay,
        receptive_field=engine.receptive_field,
        state_bytes=engine.state_bytes,
        weights_bytes=engine.weights_bytes,
        rows=rows,
        draws=draws,
        chunkings=tuple(outcome.chunking for _, outcome in outcomes),
        excluded=dict(law.excluded),
        notes=tuple(notes),
        culprit=_culprit(law, outcomes),
        curves=tuple(c for signal, t in tracks if t.kind == "output" and (c := t.curve(signal.name)) is not None),
    )


def _culprit(law: Law, outcomes: list[tuple[Signal, Outcome]]) -> Culprit | None:
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
    return locate(law, outcomes[k][0], step)


def random_results(graph: Graph) -> list[str]:
    """Outputs, and states by name, that depend on a node which draws random numbers; its generator is none of them."""
    random: set[str] = set()
    while True:
        before = len(random)
        for node in graph.nodes:
            if not get_op(node).deterministic or random.intersection(node.inputs):
                random.update(name for name in node.outputs if name)
        random |= {state.read for state in graph.states if state.write in random}
        if len(random) == before:
            break
    states = (s.name for s in graph.states if s.write in random and s.kind != "generator")
    return [*(n for n in graph.outputs if n in random), *states]


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
