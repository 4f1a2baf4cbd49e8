"""What the commands say to a person, on stderr, and tables on stdout. NO_COLOR and pipes are honoured by rich."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.markup import escape

from streamrnn.engine import Engine
from streamrnn.ir.graph import Array
from streamrnn.ir.storage import storage_lines


def talk() -> Console:
    """The console for everything that is not data."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def data() -> Console:
    """The console for results."""
    return Console(highlight=False, soft_wrap=True)


def notify(text: str) -> None:
    """Say what is going on while somebody waits."""
    talk().print(f"[dim]{escape(text)} ...[/]")


def say_error(text: str) -> None:
    talk().print(f"[bold red]streamrnn: error:[/] {escape(text)}")


def say_warning(text: str) -> None:
    talk().print(f"[yellow]streamrnn: warning:[/] {escape(text)}")


def number(size: int) -> str:
    """Bytes for people: 512 B, 12.3 kB, 1.20 MB."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.2f} MB"


def spread(value: Array) -> str:
    """The one number of an array, or its range."""
    if value.size and np.all(value == value.flat[0]):
        return f"{value.flat[0]:g}"
    return f"{value.min():g} .. {value.max():g}" if value.size else "-"


def initial(value: Array) -> str:
    """What a state is at reset: zeros, one constant, or values that the model stores."""
    if not value.any():
        return "zeros"
    return f"constant {spread(value)}" if np.all(value == value.flat[0]) else f"stored, {spread(value)}"


def summary(engine: Engine) -> list[tuple[str, str]]:
    """(what, value) rows that every command shows of an engine."""
    meta = engine.meta
    inputs = ", ".join(f"{i.name} {i.dtype.name}{list(i.shape)}" for i in engine.inputs.values())
    outputs = ", ".join(f"{o.name} {o.dtype.name}{list(o.shape)}" for o in engine.outputs.values())
    rate = meta.get("sample_rate")
    rows = [
        ("mode", f"{meta.get('mode', 'step')}: {meta.get('mode_reason', 'the graph says so')}"),
        ("inputs", inputs or "none"),
        ("outputs", outputs),
        ("delay", _delay(engine, rate)),
        ("state", f"{number(engine.state_bytes)} in {len(engine.layout.states)} pieces"),
        ("weights", number(engine.weights_bytes)),
        *(("stored" if k == 0 else "", text) for k, text in enumerate(storage_lines(meta))),
    ]
    if engine.frames > 1:
        rows.insert(4, ("frames per step", str(engine.frames)))
    if rate:
        rows.append(("sample rate", f"{rate} Hz"))
    return rows + _making(meta)


def _making(meta: Mapping[str, object]) -> list[tuple[str, str]]:
    """The command line that made the file, and the options that it leaves to be found."""

    def words(key: str) -> list[str]:
        stored = meta.get(key)
        return [str(word) for word in stored] if isinstance(stored, list) else []

    if "source" not in meta:
        return []
    rows = [("made by", shlex.join(["streamrnn", "convert", str(meta["source"]), *words("given")]))]
    if words("found"):
        rows.append(("found", shlex.join(words("found"))))
    return rows


def _delay(engine: Engine, rate: object) -> str:
    hop = engine.meta.get("hop", 1)
    text = "1 frame" if engine.delay == 1 else f"{engine.delay} frames"
    if isinstance(rate, int) and isinstance(hop, int):
        text += f" ({1000 * engine.delay * hop / rate:g} ms)"
    if engine.frames > 1:
        text += f", latency {engine.latency} frames"
    return text


def print_findings(console: Console, meta: Mapping[str, object]) -> None:
    """What lint found in the file that a model comes from, and what was repaired."""
    for key, mark in (("fixes", "[green]repaired[/]"), ("lint", "")):
        rows = meta.get(key)
        for code, level, where, text, remedy, _ in rows if isinstance(rows, list) else ():
            colour = {"error": "bold red", "warning": "yellow"}.get(level, "dim")
            console.print(f"{mark or f'[{colour}]{level}[/]'} [bold]{code}[/] {escape(f'{where}: {text}; {remedy}')}")


def print_rows(console: Console, rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        console.print(f"[bold]{name:<{width}}[/]  {escape(value)}")
