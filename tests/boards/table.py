"""The README's table of targets, anew: sizes of exported libraries, and how far each machine is from the host.

PYTHONPATH=tests:tests/boards:benchmarks python tests/boards/table.py README.md
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from bench import between
from board_models import assert_close, frames, graph, on_the_host, tolerance
from exported import MACHINES, run
from streamrnn_converters import convert

from streamrnn import Engine, Stream, load
from streamrnn.export.artefact import Artefact, export_model
from streamrnn.export.targets import HOST, TARGETS, Target, find_target
from streamrnn.ir.graph import Array

MARKS = ("<!-- boards -->\n", "<!-- /boards -->")
SIZED = ("amp", "vad", "sensor")
EXACT, BYTES = ("amp", "vad", "sensor", "lstm"), ("gru_int8",)
#: by target: what ran the library
BY = {
    **{name: f"QEMU, {machine.run[2]}" for name, machine in MACHINES.items() if machine.run and len(machine.run) > 2},
    "riscv64": "QEMU",
    "cortex-m4": "QEMU, AN386 board",
    "cortex-m7": "QEMU, AN500 board",
    "cortex-m33": "QEMU, AN505 board",
    "wasm32": "wasmtime",
    "wasm32-simd": "wasmtime",
    "x86-64-v3": "this machine",
    HOST: "this machine",
}


def measured(engine: Engine, target: Target, folder: Path) -> tuple[Artefact, float | None]:
    """What an export wrote, and its largest difference from the host over 200 steps, a share of the largest value or of 1;
    None where nothing runs it."""
    made = export_model(engine, target, folder, name="model")
    if target.name not in BY:
        return made, None
    X = frames(engine)
    found = run(target.name, folder, engine, X) if target.name in MACHINES else loaded(made, X)
    return made, assert_close(found, on_the_host(engine, X), tolerance("int8"))


def loaded(made: Artefact, X: dict[str, Array]) -> dict[str, Array]:
    """The outputs of a library for this machine, step by step."""
    assert made.library is not None, made.missing
    engine = load(made.library)
    found = Stream(engine).process(X)
    return found if isinstance(found, dict) else {name: found for name in engine.outputs}


def row(target: Target, engines: dict[str, Engine], folder: Path) -> list[str]:
    found = {name: measured(engine, target, folder / name) for name, engine in engines.items()}
    texts, states, arenas = (
        " / ".join(f"{getattr(found[name][0], what) / 1000:.3g}" for name in SIZED)
        for what in ("text_bytes", "state_bytes", "arena_bytes")
    )
    errors = []
    for names in ([n for n in engines if n not in BYTES], BYTES):
        worst = [error for name in names if (error := found[name][1]) is not None]
        errors.append(f"{max(worst):.1g}" if worst else "")
    return [f"`{target.name}`", texts, states, arenas, BY.get(target.name, "not run"), *errors]


def main(readme: Path) -> None:
    targets = [*TARGETS.values(), find_target(HOST)]
    head = ["`--target`", "text, kB", "state, kB", "RAM of a stream, kB", "ran on", "float32", "int8"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        engines = {name: Engine(graph(name, folder)) for name in (*EXACT, *BYTES)}
        silero = Path(os.environ["STREAMRNN_MODELS"]) / "onnx" / "silero_v6_openvino.onnx"
        engines["silero"] = Engine(convert(silero))
        rows = []
        for target in targets:
            rows.append(row(target, engines, folder / target.name))
            print(*rows[-1])
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    readme.write_text(between(readme.read_text(), "\n".join(lines), MARKS))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
