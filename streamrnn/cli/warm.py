"""streamrnn warm"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from streamrnn.cli import options as opt
from streamrnn.cli.talk import data, notify, number
from streamrnn.codegen.cache import cache_folder, limit, prune
from streamrnn.codegen.ready import ready_file
from streamrnn.errors import ModelFileError
from streamrnn.files import read_file


@opt.takes_conversion
def warm(
    how: opt.Conversion,
    models: Annotated[
        list[Path] | None, typer.Argument(metavar="MODEL...", help="Model files, as for `run`.", show_default=False)
    ] = None,
    bound: Annotated[
        bool, typer.Option("--prune", help="Remove what was used least recently until the cache is within its bound.")
    ] = False,
) -> None:
    """Build models into the cache ahead of their first use: what they need then is one file to read.

    A .srnn file is all that a device loads; of other files, which are converted at each load, the compiled step alone is kept.
    The cache is bounded by STREAMRNN_CACHE_MB megabytes (1074 by default).
    """
    if not models and not bound:
        raise typer.BadParameter("name the models to build, or --prune", param_hint="MODEL...")
    for model in models or ():
        data().print(f"{model}: {_build(model, how)}", markup=False)
    if bound:
        removed, left = prune(cache_folder(), limit())
        data().print(f"{cache_folder()}: {number(removed)} removed, {number(left)} left", markup=False)


def _build(model: Path, how: opt.Conversion) -> str:
    """What became of one model."""
    if not model.exists():
        raise ModelFileError(f"{model}: there is no such file")
    file = ready_file(read_file(model)) if model.suffix == ".srnn" else None
    there = file is not None and file.exists()
    start = time.perf_counter()
    engine = opt.open_engine(model, how, notify)
    seconds = time.perf_counter() - start
    size = engine.step.object_bytes if file is None else file.stat().st_size
    what = "already there" if there or (file is None and engine.step.from_cache) else f"built in {seconds:.1f} s"
    return f"{what}, {number(size)} in {cache_folder()}"
