"""The command line: a thin skin over the public API.

stdout carries data, stderr talk. Exit codes: 0 fine, 1 refused or failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
import typer.core
import typer.main

from streamrnn.errors import StreamRNNError

#: what typer exits with on Ctrl-C
INTERRUPTED = 130

#: command -> examples. Its module in this package has a function of its name.
COMMANDS = {
    "convert": (
        "streamrnn convert vad.onnx",
        "streamrnn convert silero.onnx --bind sr=16000 --shape input=1,576 -o vad.srnn",
    ),
    "inspect": ("streamrnn inspect vad.onnx", "streamrnn inspect vad.srnn --plan | less"),
    "lint": ("streamrnn lint model.onnx", "streamrnn lint model.onnx --json - | jq .findings"),
    "validate": (
        "streamrnn validate amp.onnx --steps 5000",
        "streamrnn validate vad.onnx --report vad.html --input speech.wav",
    ),
    "run": (
        "streamrnn run amp.srnn guitar.wav --set drive=0.7 -o out.wav",
        "streamrnn run vad.onnx speech.wav -o speech.csv",
        "sensor_driver | streamrnn run sensor.srnn - > scores.csv",
    ),
    "bench": ("streamrnn bench amp.onnx --against onnxruntime", "streamrnn bench vad.srnn --json times.json"),
    "export": ("streamrnn export sensor.onnx --target cortex-m4", "streamrnn export vad.srnn --target pi4 -o vad-pi4"),
    "fit": (
        "streamrnn fit amp.onnx --target pi4 --rate 48000 --block 64",
        "streamrnn fit sensor.srnn --target cortex-m4 --rate 10",
    ),
    "warm": ("streamrnn warm vad.srnn amp.srnn", "streamrnn warm --prune"),
    "demo": ("streamrnn demo", "streamrnn demo -o pictures"),
    "doctor": ("streamrnn doctor", "streamrnn doctor --ops"),
}


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is asked for: `run` and `warm` start without what the others need."""

    def __getitem__(self, name: str) -> Any:
        examples = "\n\n".join(["**Examples**", *(f"`{line}`" for line in COMMANDS[name])])
        one = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        one.command(name, epilog=examples)(getattr(import_module(f"streamrnn.cli.{name}"), name))
        return typer.main.get_command(one)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Group(typer.core.TyperGroup):
    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.commands: Any = _Commands()


app = typer.Typer(
    name="streamrnn",
    help="Recurrent networks as live streams: import, prove, run, measure.",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _all() -> None:
    """What makes a group of `app`."""


def main() -> None:
    """Entry point of the `streamrnn` command."""
    try:
        app()
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:
            _say("interrupted")
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        _say(f"{error.filename}: {reason}" if error.filename else reason)
        sys.exit(1)
    except MemoryError:
        _say("the machine has not enough memory for this")
        sys.exit(1)
    except StreamRNNError as error:
        _say(str(error))
        sys.exit(1)


def _say(problem: str) -> None:
    from streamrnn.cli.talk import say_error  # with rich

    say_error(problem)
