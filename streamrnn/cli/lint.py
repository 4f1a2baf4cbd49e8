"""streamrnn lint"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from streamrnn.cli import options as opt
from streamrnn.cli.talk import data, print_findings, say_error, talk
from streamrnn.errors import BindingError, MissingExtraError, ModelFileError
from streamrnn.files import write_aside


@opt.takes_conversion
def lint(
    model: Annotated[Path, typer.Argument(help="Model file (.onnx).", show_default=False)],
    how: opt.Conversion,
    as_json: Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Write the findings as JSON.")] = None,
) -> None:
    """Look for what in a model file will not do in a stream what its author meant. docs/lint.md explains the codes.

    Exit code 1 if there is an error or a warning, or if the file cannot be converted; notes alone give 0.
    """
    if model.suffix == ".srnn":
        raise ModelFileError(f"{model}: a converted file keeps what lint found; `streamrnn inspect` shows it")
    opt.spare(as_json, model)
    keywords = how.keywords()
    if "fix" in keywords:
        raise BindingError("--fix belongs to convert, which writes the repaired model")
    try:
        from streamrnn_converters.lint.rules import findings_row
        from streamrnn_converters.lint.run import lint as look
    except ImportError as error:
        raise MissingExtraError(f"lint reads ONNX files ({error}); pip install 'streamrnn[convert]'") from None
    if not model.exists():
        raise ModelFileError(f"{model}: there is no such file")
    findings, problem = look(model, **keywords)
    if as_json:
        found = {
            "model": str(model),
            "findings": [asdict(f) for f in findings],
            "conversion": str(problem) if problem else None,
        }
        text = json.dumps(found, indent=2)
        if as_json == "-":
            print(text)
        else:
            write_aside(Path(as_json), text.encode())
    else:
        print_findings(data(), {"lint": list(map(findings_row, findings))})
    if problem is not None:
        say_error(f"not converted: {problem}")
    elif not findings:
        talk().print("[green]nothing found[/]")
    if problem is not None or any(f.level != "note" for f in findings):
        raise typer.Exit(1)
