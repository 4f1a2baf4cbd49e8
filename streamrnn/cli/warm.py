"""streamrnn warm"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from streamrnn.cli import options as opt
from streamrnn.cli.talk import data, notify, number
from streamrnn.codegen.cache import SUFFIXES, cache_folder, limit, prune
from streamrnn.pool import StreamPool


@opt.takes_conversion
def warm(
    how: opt.Conversion,
    models: Annotated[
        list[Path] | None, typer.Argument(metavar="MODEL...", help="Model files, as for `run`.", show_default=False)
    ] = None,
    pool: Annotated[int, typer.Option(metavar="SLOTS", min=0, help="Build too what a StreamPool of so many slots runs.")] = 0,
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
        data().print(f"{model}: {_build(model, how, pool)}", markup=False)
    if bound:
        removed, left = prune(cache_folder(), limit())
        data().print(f"{cache_folder()}: {number(removed)} removed, {number(left)} left", markup=False)


def _build(model: Path, how: opt.Conversion, pool: int) -> str:
    """What became of one model: what came to the cache while it was loaded."""
    folder = cache_folder()
    before, start = set(os.listdir(folder)), time.perf_counter()
    engine = opt.open_engine(model, how, notify)
    if pool:
        StreamPool(engine, pool)
    seconds = time.perf_counter() - start
    new = (name for name in set(os.listdir(folder)) - before if name.endswith(SUFFIXES))
    added = sum((folder / name).stat().st_size for name in new)
    return f"built in {seconds:.1f} s, {number(added)} in {folder}" if added else f"already there, in {folder}"
