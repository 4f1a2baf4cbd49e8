"""streamrnn export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamrnn.cli import options as opt
from streamrnn.cli.talk import data, notify, number, print_rows, say_error
from streamrnn.export.header import c_name, check_name
from streamrnn.export.targets import HOST, TARGETS, find_target


@opt.takes_conversion
def export(
    model: opt.Model,
    how: opt.Conversion,
    target: Annotated[
        str, typer.Option(help=f"{', '.join(TARGETS)}, {HOST}, or an LLVM triple (aarch64-unknown-linux-gnu).")
    ] = HOST,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to write; NAME-TARGET by default.", show_default=False)
    ] = None,
    name: Annotated[str, typer.Option(help="Prefix of the C names; by default that of the model.", show_default=False)] = "",
    weights_file: Annotated[
        bool, typer.Option("--weights-file", help="Weights in a file of their own, not in the object.")
    ] = False,
    cpu: Annotated[str, typer.Option(help="LLVM's name of the CPU, with a triple.", show_default=False)] = "",
    features: Annotated[str, typer.Option(help="+neon,+dotprod ..., with a triple.", show_default=False)] = "",
    abi: Annotated[str, typer.Option(help="lp64d ..., with a triple.", show_default=False)] = "",
) -> None:
    """Compile a model for another machine: object, libraries, C header, main.c, a loader for Python, a README."""
    # ops, kernels and the planner, which other commands do without
    from streamrnn.export.artefact import export_model

    chosen = find_target(target, cpu, features, abi)
    if name:
        check_name(name)
    engine = opt.open_engine(model, how, notify)
    folder = output or Path(f"{name or c_name(engine.name)}-{chosen.name}")
    made = export_model(engine, chosen, folder, name=name, weights_file=weights_file, notify=notify)
    rows = [
        ("folder", str(made.folder)),
        ("target", f"{chosen.triple}, {chosen.cpu}"),
        ("text", number(made.text_bytes)),
        ("weights", number(made.weights_bytes)),
        ("RAM", f"{number(made.arena_bytes)} a stream, of which {number(made.state_bytes)} are state"),
    ]
    if made.library:
        rows.append(("library", made.library.name))
    print_rows(data(), rows)
    if made.missing:
        say_error(f"{made.missing} (the object, the static library and the header were written)")
        raise typer.Exit(1)
