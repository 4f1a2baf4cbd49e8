"""The command line: a thin skin over the public API.

stdout carries data, stderr talk. Exit codes: 0 fine, 1 refused or failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import sys

import typer

from streamrnn.cli.bench import bench
from streamrnn.cli.convert import convert
from streamrnn.cli.demo import demo
from streamrnn.cli.doctor import doctor
from streamrnn.cli.export import export
from streamrnn.cli.fit import fit
from streamrnn.cli.inspect import inspect
from streamrnn.cli.lint import lint
from streamrnn.cli.run import run
from streamrnn.cli.talk import say_error
from streamrnn.cli.validate import validate
from streamrnn.cli.warm import warm
from streamrnn.errors import StreamRNNError

app = typer.Typer(
    name="streamrnn",
    help="Recurrent networks as live streams: import, prove, run, measure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


#: what typer exits with on Ctrl-C
INTERRUPTED = 130


def _examples(*lines: str) -> str:
    return "**Examples**\n\n" + "\n\n".join(f"`{line}`" for line in lines)


app.command(
    epilog=_examples(
        "streamrnn convert vad.onnx", "streamrnn convert silero.onnx --bind sr=16000 --shape input=1,576 -o vad.srnn"
    )
)(convert)
app.command(epilog=_examples("streamrnn inspect vad.onnx", "streamrnn inspect vad.srnn --plan | less"))(inspect)
app.command(epilog=_examples("streamrnn lint model.onnx", "streamrnn lint model.onnx --json - | jq .findings"))(lint)
app.command(
    epilog=_examples(
        "streamrnn validate amp.onnx --steps 5000", "streamrnn validate vad.onnx --report vad.html --input speech.wav"
    )
)(validate)
app.command(
    epilog=_examples(
        "streamrnn run amp.srnn guitar.wav --set drive=0.7 -o out.wav",
        "streamrnn run vad.onnx speech.wav -o speech.csv",
        "sensor_driver | streamrnn run sensor.srnn - > scores.csv",
    )
)(run)
app.command(epilog=_examples("streamrnn bench amp.onnx --against onnxruntime", "streamrnn bench vad.srnn --json times.json"))(
    bench
)
app.command(
    epilog=_examples("streamrnn export sensor.onnx --target cortex-m4", "streamrnn export vad.srnn --target pi4 -o vad-pi4")
)(export)
app.command(epilog=_examples("streamrnn warm vad.srnn amp.srnn", "streamrnn warm --prune"))(warm)
app.command(
    epilog=_examples(
        "streamrnn fit amp.onnx --target pi4 --rate 48000 --block 64", "streamrnn fit sensor.srnn --target cortex-m4 --rate 10"
    )
)(fit)
app.command(epilog=_examples("streamrnn demo", "streamrnn demo -o pictures"))(demo)
app.command(epilog=_examples("streamrnn doctor", "streamrnn doctor --ops"))(doctor)


def main() -> None:
    """Entry point of the `streamrnn` command."""
    try:
        app()
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:
            say_error("interrupted")
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        say_error(f"{error.filename}: {reason}" if error.filename else reason)
        sys.exit(1)
    except MemoryError:
        say_error("the machine has not enough memory for this")
        sys.exit(1)
    except StreamRNNError as error:
        say_error(str(error))
        sys.exit(1)
