"""streamrnn validate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamrnn.cli import options as opt
from streamrnn.cli.signals import read_frames
from streamrnn.cli.talk import data, notify, talk
from streamrnn.errors import MissingExtraError, ModelFileError
from streamrnn.files import write_aside


@opt.takes_conversion
def validate(
    model: Annotated[Path, typer.Argument(help="The original model file (.onnx, .nam, .json).", show_default=False)],
    how: opt.Conversion,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each signal.")] = 1000,
    signal: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="Also this signal: .wav, .npy, .npz or .csv.")
    ] = None,
    held: opt.Held = None,
    channel: opt.Channel = None,
    as_json: Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Write the report as JSON.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page with plots.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random signals.")] = 0,
) -> None:
    """Compare the compiled step with onnxruntime on the original file, or, for audio formats, with a float64 formula: by step,
    by block and by random chunks, on random, silent, loud and given input. Exit code 1 if anything is outside its tolerance."""
    if model.suffix == ".srnn":
        raise ModelFileError(f"{model}: a .srnn file has no oracle; validate the file it was converted from")
    for output in (as_json, report):
        opt.spare(output, model, signal)
    engine = opt.open_engine(model, how, notify)
    try:
        from streamrnn_converters.page import report_html
        from streamrnn_converters.report import report_table
        from streamrnn_converters.validate import validate as compare
    except ImportError as error:
        raise MissingExtraError(f"validating needs onnxruntime ({error}); pip install 'streamrnn[convert]'") from None
    given = (
        read_frames(signal, engine, opt.pairs("--set", held or (), float, "a number (drive=0.7)"), channel) if signal else None
    )
    notify(f"running {steps} steps of each signal")
    result = compare(model, engine, steps=steps, inputs=given, seed=seed, notify=notify)
    if as_json == "-":
        print(result.to_json())
    else:
        data().print(report_table(result))
    if as_json and as_json != "-":
        write_aside(Path(as_json), result.to_json().encode())
    if report:
        write_aside(report, report_html(result).encode())
        talk().print(f"written: {report}")
    if not result.passed:
        raise typer.Exit(1)
